"""A shopper's gradient is that of its own loss, by plain autograd."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.shopper_gradients import pool_rows
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.token_states import encode_token_states
from tests.support.shops import (
    random_adapter,
)
from tests.support.workshops import ITEMS, LORA_TARGETS, OBJECTIVES, batch_of


@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def in_double(shop):
    """The same shop in float64, and its items before anything was computed in advance."""
    encoder = AdaptedEncoder(shop.model, shop.basis, shop.settings.lora_targets)
    encoder.load_adapter(random_adapter(encoder))
    encoder.double()
    token_states = encode_token_states(
        shop.model,
        shop.catalogue,
        layer=encoder.first_layer,
        max_tokens=shop.settings.max_tokens,
        cache=None,
    )
    arrays = shop.tokens.arrays()
    hidden = arrays["hidden"].astype(np.float64)
    summed = arrays["summed"].astype(np.float64) if "summed" in arrays else None
    weight = shop.basis.weights(token_states.ids).astype(np.float64)
    words = arrays["words"].astype(np.float64)
    raw = ItemTokens(
        token_states.offsets, token_states.hidden.astype(np.float64), None, weight, words
    )
    if summed is not None:  # what is cached, anew in float64: float32's rounding is not the point
        layer = encoder.bert.encoder.layer[str(encoder.first_layer)]
        hidden, summed = before_b(layer, raw)
    elif not encoder.layers:  # likewise the mean of an item's tokens
        starts = token_states.offsets[:-1]
        total = np.add.reduceat(raw.arrays()["hidden"] * weight[:, None], starts)
        hidden = total / np.add.reduceat(weight, starts)[:, None]
        weight = np.ones(len(token_states))
    merchant = Merchant(
        shop.examples,
        ItemTokens(arrays["offsets"], hidden, summed, weight, words),
        shop.merchant.vectors.double(),
        shop.merchant.log_popularity.double(),
    )
    oracle = AdaptedEncoder(shop.model, shop.basis, shop.settings.lora_targets)
    oracle.load_adapter(random_adapter(oracle))
    return PrivateTrainer(encoder, merchant, shop.settings), merchant, oracle.double(), raw


def before_b(layer, raw):
    """A z and the sum before LayerNorm of each item's tokens, item by item."""
    reduced, summed = [], []
    with torch.inference_mode():
        for item in range(len(raw)):
            hidden = raw.rows(np.array([item]))[0]
            residual, _ = layer.attention(hidden)
            z = layer.intermediate(residual)
            reduced.append(layer.output.dense.lora_A["default"](z)[0].numpy())
            summed.append((layer.output.dense.base_layer(z) + residual)[0].numpy())
    return np.concatenate(reduced), np.concatenate(summed)


def plain_loss(exact, settings, batch, shopper, negatives):
    """One shopper's loss from its definition, item by item and target by target."""
    _, merchant, oracle, raw = exact
    mine = np.flatnonzero(batch.history_shopper == shopper)
    pooled = sum(
        float(batch.history_weight[row]) * oracle(*raw.rows(batch.history_item[[row]]))[0]
        for row in mine
    )
    embedding = pooled / pooled.norm()
    losses = []
    for row in np.flatnonzero(batch.target_shopper == shopper):
        item, value = int(batch.target_item[row]), float(batch.target_value[row])
        similarity = embedding @ merchant.vectors[item]
        others = [one for one in negatives.tolist() if one != item]
        if settings.objective == "mse":
            rating = (value - settings.value_low) / (settings.value_high - settings.value_low)
            losses.append((similarity - min(max(rating, 0.0), 1.0)) ** 2)
            continue
        adjust = settings.popularity_strength * merchant.log_popularity
        score = similarity / settings.temperature + adjust[item]
        against = merchant.vectors[others] @ embedding / settings.temperature + adjust[others]
        if settings.objective == "softmax":
            losses.append(-torch.log_softmax(torch.cat([score[None], against]), dim=0)[0])
        else:
            label = min(max(value, 0.0), 1.0)
            chance = torch.sigmoid(score)
            clicked = -label * torch.log(chance) - (1 - label) * torch.log(1 - chance)
            losses.append(clicked - torch.log(torch.sigmoid(-against)).mean())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("lora_targets", LORA_TARGETS)
def test_each_shoppers_gradient_is_plain_autograd_of_its_own_loss(
    workshop, lora_targets, objective
):
    shop = workshop(lora_targets, objective)
    exact = in_double(shop)
    shoppers = np.array([3, 50, 51, 7, 118])
    batch, negatives = shop.examples.draw(shoppers, 11), torch.arange(0, ITEMS, 2)
    with float64():
        found = exact[0].shopper_gradients(batch, exact[0].candidates(negatives))
    parameters = [parameter for _, parameter in exact[2].trained()]
    assert len(set(batch.history_item)) < len(batch.history_item)  # items repeat over shoppers
    for shopper in range(len(shoppers)):
        if not (batch.target_shopper == shopper).any():
            assert not found[shopper].any()
            continue
        loss = plain_loss(exact, shop.settings, batch, shopper, negatives)
        expected = torch.cat([one.ravel() for one in torch.autograd.grad(loss, parameters)])
        assert expected.norm() > 1e-6
        assert (found[shopper] - expected).norm() <= 1e-7 * expected.norm()  # labels are float32


@pytest.mark.parametrize("lora_targets", LORA_TARGETS)
def test_float32_gradients_are_those_of_float64_but_for_rounding(workshop, lora_targets):
    shop = workshop(lora_targets)
    batch, negatives = shop.examples.draw(np.arange(40), 11), torch.arange(0, ITEMS, 2)
    single = shop.trainer.shopper_gradients(batch, shop.trainer.candidates(negatives)).double()
    trainer, *_ = in_double(shop)
    with float64():
        double = trainer.shopper_gradients(batch, trainer.candidates(negatives))
    error = (single - double).norm(dim=1) / double.norm(dim=1).clamp_min(1e-12)
    assert error.median() < 3e-6
    assert error.max() < 2e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("lora_targets", ["output.dense", "q,v", "plain q,v and projection"])
def test_a_shopper_alone_has_the_gradient_it_has_in_company(workshop, lora_targets, objective):
    shop = workshop(lora_targets, objective)
    trainer, *_ = in_double(shop)
    candidates = trainer.candidates(torch.arange(40))
    shoppers = np.array([80, 2, 9, 33, 90, 41, 5])
    with float64():
        together = trainer.shopper_gradients(shop.examples.draw(shoppers, 2), candidates)
        alone_each = [
            trainer.shopper_gradients(shop.examples.draw(np.array([shopper]), 2), candidates)[0]
            for shopper in shoppers
        ]
    for place, alone in enumerate(alone_each):
        assert (together[place] - alone).norm() <= 1e-11 * alone.norm().clamp_min(1e-3)


def test_a_shopper_without_history_or_target_has_the_gradient_zero(workshop):
    trainer = workshop().trainer
    candidates = trainer.candidates(torch.arange(40))
    batch = batch_of([[1, 2], [], [3], []], [[7], [8, 9], [], []])
    found = trainer.shopper_gradients(batch, candidates)
    assert found.shape == (4, trainer.shopper_gradients(batch, candidates).shape[1])
    assert found[0].norm() > 0
    assert not found[1:].any()
    alone = trainer.shopper_gradients(batch_of([[1, 2]], [[7]]), candidates)
    assert (found[0] - alone[0]).norm() <= 1e-5 * alone[0].norm()


@pytest.mark.parametrize(
    "batch",
    [
        batch_of([], []),
        batch_of([[]], [[]]),
        batch_of([[1], [2]], [[], []]),
        batch_of([[], []], [[4], [5]]),
    ],
    ids=["nobody", "empty", "no target", "no history"],
)
def test_a_batch_with_nothing_to_learn_is_all_zeros(workshop, batch):
    for lora_targets in ("output.dense", "q,v", "projection"):
        trainer = workshop(lora_targets).trainer
        found = trainer.shopper_gradients(batch, trainer.candidates(torch.arange(40)))
        assert found.shape[0] == batch.shoppers
        assert not found.any()


def test_two_shoppers_of_the_same_items_have_the_same_gradient(workshop):
    """The shared items of a batch are not encoded once for all: each shopper has its own rows."""
    trainer = workshop().trainer
    batch = batch_of([[1, 2, 3], [1, 2, 3], [3, 2]], [[7], [7], [7]])
    found = trainer.shopper_gradients(batch, trainer.candidates(torch.arange(40)))
    assert torch.allclose(found[0], found[1], rtol=1e-5)
    assert not torch.allclose(found[0], found[2], rtol=1e-2)


def test_gradients_do_not_stay_for_the_next_step(workshop):
    shop = workshop()
    batch = shop.examples.draw(np.arange(10), 1)
    candidates = shop.trainer.candidates(torch.arange(40))
    first = shop.trainer.shopper_gradients(batch, candidates).clone()
    again = shop.trainer.shopper_gradients(batch, candidates)
    assert torch.equal(first, again)
    assert all(parameter.grad is None for parameter in shop.encoder.parameters())


def test_pooled_rows_are_unit_vectors_and_zero_without_history():
    batch = batch_of([[0, 1], []], [[2], []])
    rows = normalize(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), dim=1)
    found = pool_rows(rows, batch)
    assert torch.allclose(found[0], normalize(rows.mean(dim=0), dim=0))
    assert not found[1].any()
