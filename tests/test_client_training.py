import copy
import functools
import logging
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from shops import (
    interactions_of,
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
    random_adapter,
)
from torch.nn.functional import normalize

import client.training
from client.examples import ExampleBatch, ShopperExamples
from client.objectives import Candidates, shopper_losses
from client.training import Merchant, PrivateTrainer, pool_rows
from common.encoder.tower import ItemTokens, Tower
from common.encoder.trunk import encode_trunk
from common.errors import FederationError, PrivacyError
from common.privacy.ledger import Ledger
from common.privacy.noise import NoiseSource
from common.privacy.sampling import poisson_sample

ITEMS, SHOPPERS = 90, 120
PLACEMENTS = {
    "output.dense": {"lora_modules": "output.dense"},
    "few directions": {"lora_modules": "output.dense", "output_directions": 5},
    "q,v": {"lora_modules": "query,value"},
    "q,v of 2 layers": {"lora_modules": "query,value", "last_layers": 2},
    "projection": {"lora_modules": "projection"},
    "output.dense and projection": {"lora_modules": "output.dense,projection"},
    "every module of 2 layers": {
        "lora_modules": "query,key,value,attention.output.dense,intermediate.dense,output.dense",
        "last_layers": 2,
    },
    "plain output.dense": {"lora_modules": "output.dense", "lora": "plain"},
    "plain q,v and projection": {"lora_modules": "query,value,projection", "lora": "plain"},
}
OBJECTIVES = ("softmax", "bce", "mse")


@pytest.fixture(scope="module")
def workshop(tiny_model):
    """Make a trainer on a shop of 120 shoppers by placement and objective, each once."""

    @functools.cache
    def make(placement="output.dense", objective="softmax"):
        settings = make_settings(**PLACEMENTS[placement], objective=objective)
        catalogue, interactions = make_catalogue(ITEMS), make_interactions(ITEMS, SHOPPERS)
        if objective != "softmax":
            values = np.random.default_rng(4).integers(0, 6, len(interactions)).astype(np.float32)
            interactions.value[:] = values
        return make_workshop(tiny_model, catalogue, interactions, settings)

    return make


@pytest.fixture
def small_parts(monkeypatch):
    """Microbatches of a few shoppers, so that a step has many of them, of odd sizes."""
    monkeypatch.setattr(client.training, "MICROBATCH_ROWS", 67)


def random_sample(random, size=20):
    return np.sort(random.choice(SHOPPERS, size, replace=False))


# ------------------------------------------------------------- sensitivity
def largest_change(shop, pairs, seed):
    """The largest change of a step's sum over random sets and shoppers left out, over C."""
    random, plan = np.random.default_rng(seed), make_plan()
    worst = 0.0
    for number in range(pairs):
        sample = random_sample(random)
        left_out = random.integers(len(sample))
        whole = shop.trainer.clipped_sum(sample, plan, np.random.default_rng(number))
        less = shop.trainer.clipped_sum(
            np.delete(sample, left_out), plan, np.random.default_rng(number)
        )
        worst = max(worst, float(np.linalg.norm(whole.vector - less.vector)))
    return worst / plan.max_grad_norm


def test_leaving_one_of_200_random_shoppers_out_changes_the_sum_by_c_at_most(workshop, small_parts):
    shop = workshop()
    norms = shopper_norms(shop)
    assert (norms > 1.5).mean() > 0.5  # clipping is at work, or this would show little
    worst = largest_change(shop, 200, seed=0)
    assert 0.99 < worst <= 1 + 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("placement", ["few directions", "q,v", "projection", "plain output.dense"])
def test_the_bound_holds_for_every_placement_and_objective(
    workshop, small_parts, placement, objective
):
    assert largest_change(workshop(placement, objective), 6, seed=1) <= 1 + 1e-6


@pytest.mark.parametrize("objective", ["bce", "mse"])
def test_the_bound_holds_for_the_default_placement_and_other_objectives(
    workshop, small_parts, objective
):
    assert largest_change(workshop(objective=objective), 12, seed=2) <= 1 + 1e-6


@pytest.mark.parametrize("rows", [1, 5, 64, 512])
def test_the_bound_holds_whatever_the_size_of_a_microbatch(workshop, monkeypatch, rows):
    monkeypatch.setattr(client.training, "MICROBATCH_ROWS", rows)
    assert largest_change(workshop(), 6, seed=rows) <= 1 + 1e-6


def test_rounding_of_batch_mates_stays_far_below_the_margin(workshop, monkeypatch):
    """What others' gradients change by when a shopper leaves: float32, not sensitivity."""
    shop, plan = workshop("q,v"), make_plan()
    everybody = np.arange(SHOPPERS)
    sums = []
    for rows in (11, 37, 200, 512):
        monkeypatch.setattr(client.training, "MICROBATCH_ROWS", rows)
        sums.append(shop.trainer.clipped_sum(everybody, plan, np.random.default_rng(1)).vector)
    for other in sums[1:]:
        assert np.linalg.norm(other - sums[0]) < 0.1 * client.training.ROUNDING_MARGIN


def test_the_clip_keeps_the_margin_for_rounding(workshop):
    shop, plan = workshop(), make_plan()
    one = np.array([int(shopper_norms(shop).argmax())])
    clipped = shop.trainer.clipped_sum(one, plan, np.random.default_rng(0)).vector
    margin = client.training.ROUNDING_MARGIN
    assert 2**-12 < margin < 2**-8
    assert np.linalg.norm(clipped) == pytest.approx(1 - margin, abs=1e-6)


def shopper_norms(shop):
    batch = shop.examples.draw(np.arange(SHOPPERS), 3)
    return shop.trainer.shopper_gradients(batch, torch.arange(40)).norm(dim=1).numpy()


def test_a_sum_is_the_sum_over_disjoint_sets(workshop):
    shop, plan = workshop(), make_plan()
    total = shop.trainer.clipped_sum(np.arange(30), plan, np.random.default_rng(3)).vector
    parts = [
        shop.trainer.clipped_sum(part, plan, np.random.default_rng(3)).vector
        for part in (np.arange(7), np.arange(7, 30))
    ]
    assert np.allclose(total, sum(parts), atol=1e-5)


# ------------------------------------------------- gradients against autograd
@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def in_double(shop):
    """The same shop in float64, and its items before anything was computed in advance."""
    tower = Tower(shop.model, shop.basis, shop.settings.placement)
    tower.load_adapter(random_adapter(tower))
    tower.double()
    trunk = encode_trunk(
        shop.model,
        shop.catalogue,
        layer=tower.first_layer,
        max_tokens=shop.settings.max_tokens,
        cache=None,
    )
    arrays = shop.tokens.arrays()
    hidden = arrays["hidden"].astype(np.float64)
    summed = arrays["summed"].astype(np.float64) if "summed" in arrays else None
    raw = ItemTokens(trunk.offsets, trunk.hidden.astype(np.float64), None)
    if summed is not None:  # what is cached, anew in float64: float32's rounding is not the point
        layer = tower.bert.encoder.layer[str(tower.first_layer)]
        hidden, summed = before_b(layer, raw)
    merchant = Merchant(
        shop.examples,
        ItemTokens(trunk.offsets, hidden, summed),
        shop.merchant.vectors.double(),
        shop.merchant.log_popularity.double(),
    )
    oracle = Tower(shop.model, shop.basis, shop.settings.placement)
    oracle.load_adapter(random_adapter(oracle))
    return PrivateTrainer(tower, merchant, shop.settings), merchant, oracle.double(), raw


def before_b(layer, raw):
    """A z and the sum before LayerNorm of each item's tokens, item by item."""
    reduced, summed = [], []
    with torch.inference_mode():
        for item in range(len(raw)):
            hidden, _, _ = raw.rows(np.array([item]))
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
    taste = pooled / pooled.norm()
    losses = []
    for row in np.flatnonzero(batch.target_shopper == shopper):
        item, value = int(batch.target_item[row]), float(batch.target_value[row])
        similarity = taste @ merchant.vectors[item]
        others = [one for one in negatives.tolist() if one != item]
        if settings.objective == "mse":
            rating = (value - settings.value_low) / (settings.value_high - settings.value_low)
            losses.append((similarity - min(max(rating, 0.0), 1.0)) ** 2)
            continue
        adjust = settings.popularity_strength * merchant.log_popularity
        score = similarity / settings.temperature + adjust[item]
        against = merchant.vectors[others] @ taste / settings.temperature + adjust[others]
        if settings.objective == "softmax":
            losses.append(-torch.log_softmax(torch.cat([score[None], against]), dim=0)[0])
        else:
            label = min(max(value, 0.0), 1.0)
            chance = torch.sigmoid(score)
            clicked = -label * torch.log(chance) - (1 - label) * torch.log(1 - chance)
            losses.append(clicked - torch.log(torch.sigmoid(-against)).mean())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_each_shoppers_gradient_is_plain_autograd_of_its_own_loss(workshop, placement, objective):
    shop = workshop(placement, objective)
    exact = in_double(shop)
    shoppers = np.array([3, 50, 51, 7, 118])
    batch, negatives = shop.examples.draw(shoppers, 11), torch.arange(0, ITEMS, 2)
    with float64():
        found = exact[0].shopper_gradients(batch, negatives)
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


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_float32_gradients_are_those_of_float64_but_for_rounding(workshop, placement):
    shop = workshop(placement)
    batch, negatives = shop.examples.draw(np.arange(40), 11), torch.arange(0, ITEMS, 2)
    single = shop.trainer.shopper_gradients(batch, negatives).double()
    trainer, *_ = in_double(shop)
    with float64():
        double = trainer.shopper_gradients(batch, negatives)
    error = (single - double).norm(dim=1) / double.norm(dim=1).clamp_min(1e-12)
    assert error.median() < 3e-6
    assert error.max() < 2e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("placement", ["output.dense", "q,v", "plain q,v and projection"])
def test_a_shopper_alone_has_the_gradient_it_has_in_company(workshop, placement, objective):
    shop = workshop(placement, objective)
    trainer, *_ = in_double(shop)
    negatives = torch.arange(40)
    shoppers = np.array([80, 2, 9, 33, 90, 41, 5])
    with float64():
        together = trainer.shopper_gradients(shop.examples.draw(shoppers, 2), negatives)
        alone_each = [
            trainer.shopper_gradients(shop.examples.draw(np.array([shopper]), 2), negatives)[0]
            for shopper in shoppers
        ]
    for place, alone in enumerate(alone_each):
        assert (together[place] - alone).norm() <= 1e-11 * alone.norm().clamp_min(1e-3)


def batch_of(history, target):
    """A batch by hand: item lists of each shopper."""
    counts = [len(one) for one in history]
    numbers = np.arange(len(history))
    weights = [np.full(len(one), 1 / len(one)) for one in history if one]
    return ExampleBatch(
        shoppers=len(history),
        history_item=np.array([item for one in history for item in one], np.int64),
        history_shopper=np.repeat(numbers, counts),
        history_weight=np.concatenate([np.empty(0), *weights]).astype(np.float32),
        target_item=np.array([item for one in target for item in one], np.int64),
        target_shopper=np.repeat(numbers, [len(one) for one in target]),
        target_value=np.ones(sum(map(len, target)), np.float32),
    )


def test_a_shopper_without_history_or_target_has_the_gradient_zero(workshop):
    trainer, negatives = workshop().trainer, torch.arange(40)
    batch = batch_of([[1, 2], [], [3], []], [[7], [8, 9], [], []])
    found = trainer.shopper_gradients(batch, negatives)
    assert found.shape == (4, trainer.shopper_gradients(batch, negatives).shape[1])
    assert found[0].norm() > 0
    assert not found[1:].any()
    alone = trainer.shopper_gradients(batch_of([[1, 2]], [[7]]), negatives)
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
    for placement in ("output.dense", "q,v", "projection"):
        found = workshop(placement).trainer.shopper_gradients(batch, torch.arange(40))
        assert found.shape[0] == batch.shoppers
        assert not found.any()


def test_two_shoppers_of_the_same_items_have_the_same_gradient(workshop):
    """The shared items of a batch are not encoded once for all: each shopper has its own rows."""
    found = workshop().trainer.shopper_gradients(
        batch_of([[1, 2, 3], [1, 2, 3], [3, 2]], [[7], [7], [7]]), torch.arange(40)
    )
    assert torch.allclose(found[0], found[1], rtol=1e-5)
    assert not torch.allclose(found[0], found[2], rtol=1e-2)


def test_gradients_do_not_stay_for_the_next_step(workshop):
    shop = workshop()
    batch = shop.examples.draw(np.arange(10), 1)
    first = shop.trainer.shopper_gradients(batch, torch.arange(40)).clone()
    again = shop.trainer.shopper_gradients(batch, torch.arange(40))
    assert torch.equal(first, again)
    assert all(parameter.grad is None for parameter in shop.tower.parameters())


def test_pooled_rows_are_unit_vectors_and_zero_without_history():
    batch = batch_of([[0, 1], []], [[2], []])
    rows = normalize(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), dim=1)
    found = pool_rows(rows, batch)
    assert torch.allclose(found[0], normalize(rows.mean(dim=0), dim=0))
    assert not found[1].any()


# ------------------------------------------------------------------- frames
def test_the_frame_is_public_undoes_the_whitening_and_keeps_norms_on_average(workshop):
    shop = workshop("every module of 2 layers")
    frames = {name: shop.tower.noise_frame(name) for name, _ in shop.tower.trained()}
    [(name, frame)] = [(name, one) for name, one in frames.items() if one is not None]
    assert name == "base_model.model.encoder.layer.2.output.dense.lora_B.weight"
    scale = shop.model.layers[-1].output.LayerNorm.weight.detach()
    flat = torch.from_numpy(shop.basis.whitening.T) @ (scale[:, None] * frame)
    flat = flat / flat[:, 0].norm()
    assert torch.allclose(flat.T @ flat, torch.eye(32), atol=1e-4)
    assert float(frame.square().sum()) == pytest.approx(32, rel=1e-4)
    shop.tower.load_adapter(random_adapter(shop.tower, seed=3))
    assert torch.equal(shop.tower.noise_frame(name), frame)  # it is the basis' alone


def test_few_directions_are_those_in_which_whitened_text_varies_most(workshop):
    """The first columns of the whole frame, by the variance of the catalogue itself."""
    whole, few = workshop(), workshop("few directions")
    [(name, _)] = few.tower.trained()
    frame = few.tower.noise_frame(name)
    assert torch.equal(frame, whole.tower.noise_frame(name)[:, :5])
    scale = few.model.layers[-1].output.LayerNorm.weight.detach()
    written = torch.from_numpy(few.basis.whitening.T) @ (scale[:, None] * frame)
    varies = whole.merchant.vectors @ normalize(written, dim=0)
    others = torch.linalg.svdvals(written)
    assert varies.var(dim=0).min() > whole.merchant.vectors.var(dim=0).mean()
    assert torch.allclose(others, others[0].expand(5), rtol=1e-4)


def test_an_update_moves_b_in_the_few_directions_only(workshop, ledger):
    shop = workshop("few directions")
    [(name, parameter)] = shop.tower.trained()
    update = one_round(shop, ledger, make_plan()).reshape(parameter.shape)
    assert np.linalg.matrix_rank(shop.tower.noise_frame(name).numpy()) == 5
    frame = shop.tower.noise_frame(name).double().numpy()
    left = update - frame @ (np.linalg.pinv(frame) @ update)
    assert np.linalg.norm(update) > 0
    assert np.linalg.norm(left) < 1e-5 * np.linalg.norm(update)


def test_a_coordinate_that_layer_norm_switched_off_is_left_alone(tiny_model):
    """Its inverse would be without bound, and drown all others."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.layers[-1].output.LayerNorm.weight[3] = 1e-30
    shop = make_workshop(model, make_catalogue(20), make_interactions(20, 9), make_settings())
    [(name, _)] = shop.tower.trained()
    frame = shop.tower.noise_frame(name)
    assert torch.isfinite(frame).all()
    assert not frame[3].any()
    assert (frame.norm(dim=1) > 1e-3).sum() == len(frame) - 1


@pytest.mark.parametrize(
    "placement", ["output.dense", "few directions", "plain output.dense", "q,v"]
)
def test_a_framed_gradient_is_that_of_c_where_b_is_s_times_c(workshop, placement):
    """By autograd: B = S C is made by hand, and a step on C is the step that is sent for B."""
    shop = workshop(placement)
    batch, negatives = shop.examples.draw(np.arange(12), 5), torch.arange(40)
    tower = Tower(shop.model, shop.basis, shop.settings.placement)
    tower.load_adapter(random_adapter(tower))
    names = [name for name, _ in tower.trained()]
    frames = [tower.noise_frame(name) for name in names]
    inner = [
        (one.detach() if frame is None else torch.linalg.pinv(frame) @ one.detach())
        .clone()
        .requires_grad_()
        for (_, one), frame in zip(tower.trained(), frames, strict=True)
    ]
    outer = [
        one if frame is None else frame @ one for one, frame in zip(inner, frames, strict=True)
    ]
    by_place = {id(one): name for name, one in tower.named_parameters()}
    given = {by_place[id(one)]: new for (_, one), new in zip(tower.trained(), outer, strict=True)}
    rows = torch.func.functional_call(tower, given, shop.tokens.rows(batch.history_item))
    candidates = Candidates(shop.merchant.vectors, shop.merchant.log_popularity, negatives)
    loss = shopper_losses(pool_rows(rows, batch), batch, candidates, shop.settings).sum()
    expected = torch.cat([one.ravel() for one in torch.autograd.grad(loss, inner)])
    before = shop.tower.adapter()
    with torch.no_grad():  # a random B may lie outside the directions; S C does not
        shop.tower.load_adapter(
            before.with_vector(torch.cat([one.ravel() for one in outer]).numpy())
        )
    found = shop.trainer._framed(shop.trainer.shopper_gradients(batch, negatives)).sum(dim=0)
    shop.tower.load_adapter(before)
    assert (found - expected).norm() < 1e-3 * expected.norm()
    step = shop.trainer._unframed(expected.double().numpy())
    pieces = np.split(step, np.cumsum([one.numel() for one in outer])[:-1])
    with torch.no_grad():
        for piece, one, frame, old in zip(pieces, inner, frames, outer, strict=True):
            gradient = expected[: one.numel()].reshape(one.shape)
            expected = expected[one.numel() :]
            moved = one - gradient if frame is None else frame @ (one - gradient)
            assert np.allclose(moved, old - torch.from_numpy(piece).reshape(old.shape), atol=1e-3)


# ------------------------------------------------------------------ poison
def test_a_number_that_is_not_finite_drops_its_shopper_only(tiny_model, caplog):
    catalogue, settings = make_catalogue(20), make_settings()
    rows = [(0, 0, 1, 0), (0, 1, 2, 1), (1, 2, 1, 0), (1, 3, 2, 1), (2, 4, 1, 0), (2, 5, 2, 1)]
    shop = make_workshop(tiny_model, catalogue, interactions_of(rows, 20, 3), settings)
    plan = make_plan()
    clean = [
        shop.trainer.clipped_sum(np.array(one), plan, np.random.default_rng(0)).vector
        for one in ([0], [2], [0, 2])
    ]
    arrays = shop.tokens.arrays()
    arrays["summed"][shop.tokens.offsets[2], 0] = np.nan
    with caplog.at_level(logging.DEBUG):
        total = shop.trainer.clipped_sum(np.arange(3), plan, np.random.default_rng(0))
    assert total.dropped == 1
    assert total.shoppers == 3
    assert np.allclose(total.vector, clean[2], atol=1e-6)
    assert np.allclose(total.vector, clean[0] + clean[1], atol=1e-6)
    assert caplog.records == []  # whether one was dropped is private, and Flower may upload logs


def test_nothing_of_a_shop_is_logged(workshop, caplog):
    shop = workshop()
    with caplog.at_level(logging.DEBUG):
        shop.trainer.clipped_sum(np.arange(40), make_plan(), np.random.default_rng(0))
    assert caplog.records == []


# ------------------------------------------------------------------ rounds
@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.sqlite", "ash", "f" * 64)


def charge_of(ledger, plan, number=1, *, seeded=True):
    return ledger.append(
        plan,
        run_id="1",
        round_number=number,
        kind="train",
        admit=lambda entries: None,
        seeded_noise=seeded,
    )


def one_round(shop, ledger, plan, seed=0, number=1):
    update, _ = shop.trainer.private_round(
        shop.tower.adapter(),
        charge_of(ledger, plan, number),
        NoiseSource.for_tests(seed, number),
        np.random.default_rng(seed),
    )
    return update


def test_a_round_is_noise_on_the_clipped_sum_over_the_public_divisor(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1.0)
    found = one_round(shop, ledger, plan)
    total = shop.trainer.clipped_sum(np.arange(SHOPPERS), plan, np.random.default_rng(0)).vector
    noise = NoiseSource.for_tests(0, 1).gaussians(total.size) * plan.noise_std("train")
    expected = shop.trainer._unframed((total + noise) / plan.divisor)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_empty_sample_still_gets_noise_and_uses_the_charge_up(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1e-9)
    charge = charge_of(ledger, plan)
    update, _ = shop.trainer.private_round(
        shop.tower.adapter(), charge, NoiseSource.for_tests(0), np.random.default_rng(0)
    )
    assert np.std(framed_step(shop, update) * plan.divisor) == pytest.approx(1, rel=0.4)
    with pytest.raises(PrivacyError, match="used up"):
        charge.use_step()


def test_a_shop_without_shoppers_sends_noise(tiny_model, ledger):
    shop = make_workshop(
        tiny_model, make_catalogue(20), interactions_of([], 20, 0), make_settings()
    )
    assert one_round(shop, ledger, make_plan()).std() > 0


def test_the_noise_has_the_plans_deviation(workshop, ledger):
    shop, plan = workshop(), make_plan(noise_multiplier=3.0, max_grad_norm=0.5)
    draws = [one_round(shop, ledger, plan, seed, seed + 1) for seed in range(6)]
    rng = np.random.default_rng
    errors = []
    for seed, draw in enumerate(draws):
        noise = NoiseSource.for_tests(seed, seed + 1)
        sample = np.flatnonzero(poisson_sample(plan, SHOPPERS, noise))
        total = shop.trainer.clipped_sum(sample, plan, rng(seed)).vector
        errors.append(framed_step(shop, draw) * plan.divisor - total)
    assert np.std(errors) == pytest.approx(1.5, rel=0.15)


def framed_step(shop, update):
    """An update back in the coordinates in which it was noised."""
    frame = shop.tower.noise_frame(next(shop.tower.trained())[0]).double().numpy()
    return (np.linalg.pinv(frame) @ update.reshape(len(frame), -1).astype(float)).ravel()


def test_a_charge_pays_for_one_round(workshop, ledger):
    shop, plan = workshop(), make_plan()
    charge = charge_of(ledger, plan)
    arguments = (shop.tower.adapter(), charge, NoiseSource.for_tests(0), np.random.default_rng(0))
    shop.trainer.private_round(*arguments)
    with pytest.raises(PrivacyError, match="used up"):
        shop.trainer.private_round(*arguments)


def test_seeded_noise_needs_an_entry_that_says_so(workshop, ledger):
    shop, plan = workshop(), make_plan()
    with pytest.raises(PrivacyError, match="fixed seed"):
        shop.trainer.private_round(
            shop.tower.adapter(),
            charge_of(ledger, plan, seeded=False),
            NoiseSource.for_tests(0),
            np.random.default_rng(0),
        )


def test_local_steps_follow_each_other_and_send_where_they_went(workshop, ledger):
    """With several steps a round, the node walks; the update is the sum of its gradients."""
    shop = workshop()
    plan = make_plan(sample_rate=1.0, steps_per_round=3, noise_multiplier=1e-6)
    start = shop.tower.adapter()
    found = one_round(shop, ledger, plan)
    vector, moved, rng = start.flatten().astype(float), 0.0, np.random.default_rng(0)
    for _ in range(3):
        shop.tower.load_adapter(start.with_vector(vector))
        total = shop.trainer.clipped_sum(np.arange(SHOPPERS), plan, rng).vector / plan.divisor
        step = shop.trainer._unframed(total)
        moved = moved + step
        vector = vector - shop.settings.local_learning_rate * step
    shop.tower.load_adapter(start)
    assert np.linalg.norm(moved) > 1e-3
    assert np.allclose(found, moved, atol=1e-5)


def test_a_round_starts_from_the_adapter_it_is_given(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1.0)
    start = shop.tower.adapter()
    first = one_round(shop, ledger, plan)
    shop.tower.load_adapter(random_adapter(shop.tower, seed=9, size=1.0))
    again, _ = shop.trainer.private_round(
        start, charge_of(ledger, plan, 2), NoiseSource.for_tests(0, 1), np.random.default_rng(0)
    )
    assert np.array_equal(first, again)


# -------------------------------------------------------------- what moves
def test_a_round_moves_no_base_weight_and_every_trained_tensor(tiny_model, ledger):
    for place, placement in enumerate(PLACEMENTS.values()):
        shop = make_workshop(
            tiny_model,
            make_catalogue(30),
            make_interactions(30, 30),
            make_settings(**placement, local_learning_rate=1.0),
        )
        before = {
            name: tensor.clone()
            for name, tensor in shop.tower.state_dict().items()
            if not any(name.endswith(one) for one, _ in trained_of(shop))
        }
        start = shop.tower.adapter()
        plan = make_plan(sample_rate=1.0, steps_per_round=2, noise_multiplier=1e-9)
        update = one_round(shop, ledger, plan, number=place + 1)
        moved = start.with_vector(start.flatten() - update)
        for name, tensor in start.tensors.items():
            assert np.abs(moved.tensors[name] - tensor).max() > 1e-6, name
        for name, tensor in before.items():
            assert torch.equal(shop.tower.state_dict()[name], tensor), name


def trained_of(shop):
    return [(name, one) for name, one in shop.tower.named_parameters() if one.requires_grad]


def test_a_tower_in_which_something_else_would_move_is_refused(workshop):
    shop = workshop()
    shop.tower.projection.weight.requires_grad_(True)
    try:
        with pytest.raises(FederationError) as caught:
            shop.trainer.check_only_adapter_trains()
    finally:
        shop.tower.projection.weight.requires_grad_(False)
    assert caught.value.public() == "federation:adapter"
    shop.trainer.check_only_adapter_trains()


def test_a_tower_in_which_nothing_would_move_is_refused(workshop):
    shop = workshop()
    tower = Tower(shop.model, shop.basis, shop.settings.placement)
    for _, parameter in tower.trained():
        parameter.requires_grad_(False)
    with pytest.raises(FederationError):
        PrivateTrainer(tower, shop.merchant, shop.settings)


# ---------------------------------------------------------- public choices
def test_negatives_are_the_catalogue_or_a_public_draw_from_it(workshop):
    trainer = workshop().trainer
    drawn = trainer._negatives(np.random.default_rng(1))
    assert len(drawn) == 40
    assert len(set(drawn.tolist())) == 40
    assert torch.equal(drawn, trainer._negatives(np.random.default_rng(1)))
    assert not torch.equal(drawn, trainer._negatives(np.random.default_rng(2)))
    small = workshop().trainer
    small_settings = small._settings
    small._settings = small_settings.model_copy(update={"negatives": 1000})
    try:
        assert torch.equal(small._negatives(np.random.default_rng(1)), torch.arange(ITEMS))
    finally:
        small._settings = small_settings


def test_popularity_is_a_logarithm_or_uniform(workshop):
    trainer, merchant = workshop("q,v").trainer, workshop("q,v").merchant
    before = merchant.log_popularity
    trainer.set_popularity(np.full(ITEMS, 0.5, np.float32))
    assert torch.allclose(merchant.log_popularity, torch.full((ITEMS,), math.log(0.5)))
    trainer.set_popularity(None)
    assert not merchant.log_popularity.any()
    merchant.log_popularity = before


def test_parts_hold_each_shopper_once_and_few_rows(workshop, small_parts):
    shop = workshop()
    sample = random_sample(np.random.default_rng(8), 60)
    parts = list(shop.trainer._parts(sample))
    assert np.array_equal(np.concatenate(parts), sample)
    assert len(parts) > 5
    for part in parts:
        rows = shop.examples.history_bound(part)
        assert rows.sum() < 67 + 40  # no more than a part and the shopper at its start
    assert list(shop.trainer._parts(np.empty(0, np.int64))) == []


def test_shoppers_without_purchases_are_no_trouble(tiny_model):
    rows = [(2, 1, 1, 0), (2, 3, 2, 1)]
    shop = make_workshop(
        tiny_model, make_catalogue(20), interactions_of(rows, 20, 5), make_settings()
    )
    assert isinstance(shop.examples, ShopperExamples)
    total = shop.trainer.clipped_sum(np.arange(5), make_plan(), np.random.default_rng(0))
    assert total.shoppers == 5
    assert np.linalg.norm(total.vector) > 0
