"""A private round: sample, clip, sum, noise; what moves, and what is public."""

import logging
import math

import numpy as np
import pytest
import torch

from client.training.dp_trainer import PrivateTrainer
from client.training.examples import ShopperExamples
from common.encoder.adapted_encoder import AdaptedEncoder
from common.errors import FederationError, PrivacyError
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.sampling import poisson_sample
from tests.support.shops import (
    interactions_of,
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
    random_adapter,
)
from tests.support.workshops import (
    ITEMS,
    LORA_TARGETS,
    SHOPPERS,
    charge_of,
    one_round,
)


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


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.sqlite", "ash", "f" * 64)


def test_a_round_is_noise_on_the_clipped_sum_over_the_public_divisor(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1.0)
    found = one_round(shop, ledger, plan)
    total = shop.trainer.clipped_sum(np.arange(SHOPPERS), plan, np.random.default_rng(0)).vector
    noise = NoiseSource.for_tests(0, 1).gaussians(total.size) * plan.noise_std("train")
    expected = shop.trainer._unframed((total + noise) / plan.divisor)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_update_moves_b_in_the_few_directions_only(workshop, ledger):
    shop = workshop("few directions")
    [(name, parameter)] = shop.encoder.trained()
    update = one_round(shop, ledger, make_plan()).reshape(parameter.shape)
    assert np.linalg.matrix_rank(shop.encoder.noise_basis(name).numpy()) == 5
    frame = shop.encoder.noise_basis(name).double().numpy()
    left = update - frame @ (np.linalg.pinv(frame) @ update)
    assert np.linalg.norm(update) > 0
    assert np.linalg.norm(left) < 1e-5 * np.linalg.norm(update)


def test_an_empty_sample_still_gets_noise_and_uses_the_charge_up(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1e-9)
    charge = charge_of(ledger, plan)
    update, _ = shop.trainer.private_round(
        shop.encoder.adapter(), charge, NoiseSource.for_tests(0), np.random.default_rng(0)
    )
    assert np.std(projected_step(shop, update) * plan.divisor) == pytest.approx(1, rel=0.4)
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
        errors.append(projected_step(shop, draw) * plan.divisor - total)
    assert np.std(errors) == pytest.approx(1.5, rel=0.15)


def projected_step(shop, update):
    """An update back in the coordinates in which it was noised."""
    frame = shop.encoder.noise_basis(next(shop.encoder.trained())[0]).double().numpy()
    return (np.linalg.pinv(frame) @ update.reshape(len(frame), -1).astype(float)).ravel()


def test_a_charge_pays_for_one_round(workshop, ledger):
    shop, plan = workshop(), make_plan()
    charge = charge_of(ledger, plan)
    arguments = (shop.encoder.adapter(), charge, NoiseSource.for_tests(0), np.random.default_rng(0))
    shop.trainer.private_round(*arguments)
    with pytest.raises(PrivacyError, match="used up"):
        shop.trainer.private_round(*arguments)


def test_seeded_noise_needs_an_entry_that_says_so(workshop, ledger):
    shop, plan = workshop(), make_plan()
    with pytest.raises(PrivacyError, match="fixed seed"):
        shop.trainer.private_round(
            shop.encoder.adapter(),
            charge_of(ledger, plan, seeded=False),
            NoiseSource.for_tests(0),
            np.random.default_rng(0),
        )


def test_local_steps_follow_each_other_and_send_where_they_went(workshop, ledger):
    """With several steps a round, the node walks; the update is the sum of its gradients."""
    shop = workshop()
    plan = make_plan(sample_rate=1.0, steps_per_round=3, noise_multiplier=1e-6)
    start = shop.encoder.adapter()
    found = one_round(shop, ledger, plan)
    vector, moved, rng = start.flatten().astype(float), 0.0, np.random.default_rng(0)
    for _ in range(3):
        shop.encoder.load_adapter(start.with_vector(vector))
        total = shop.trainer.clipped_sum(np.arange(SHOPPERS), plan, rng).vector / plan.divisor
        step = shop.trainer._unframed(total)
        moved = moved + step
        vector = vector - shop.settings.local_learning_rate * step
    shop.encoder.load_adapter(start)
    assert np.linalg.norm(moved) > 1e-3
    assert np.allclose(found, moved, atol=1e-5)


def test_a_round_starts_from_the_adapter_it_is_given(workshop, ledger):
    shop, plan = workshop(), make_plan(sample_rate=1.0)
    start = shop.encoder.adapter()
    first = one_round(shop, ledger, plan)
    shop.encoder.load_adapter(random_adapter(shop.encoder, seed=9, size=1.0))
    again, _ = shop.trainer.private_round(
        start, charge_of(ledger, plan, 2), NoiseSource.for_tests(0, 1), np.random.default_rng(0)
    )
    assert np.array_equal(first, again)


# -------------------------------------------------------------- what moves
def test_a_round_moves_no_base_weight_and_every_trained_tensor(tiny_model, ledger):
    for place, lora_targets in enumerate(LORA_TARGETS.values()):
        shop = make_workshop(
            tiny_model,
            make_catalogue(30),
            make_interactions(30, 30),
            make_settings(**lora_targets, local_learning_rate=1.0),
        )
        before = {
            name: tensor.clone()
            for name, tensor in shop.encoder.state_dict().items()
            if not any(name.endswith(one) for one, _ in trained_of(shop))
        }
        start = shop.encoder.adapter()
        plan = make_plan(sample_rate=1.0, steps_per_round=2, noise_multiplier=1e-9)
        update = one_round(shop, ledger, plan, number=place + 1)
        moved = start.with_vector(start.flatten() - update)
        for name, tensor in start.tensors.items():
            assert np.abs(moved.tensors[name] - tensor).max() > 1e-6, name
        for name, tensor in before.items():
            assert torch.equal(shop.encoder.state_dict()[name], tensor), name


def trained_of(shop):
    return [(name, one) for name, one in shop.encoder.named_parameters() if one.requires_grad]


def test_a_encoder_in_which_something_else_would_move_is_refused(workshop):
    shop = workshop()
    shop.encoder.projection.weight.requires_grad_(True)
    try:
        with pytest.raises(FederationError) as caught:
            shop.trainer.check_only_adapter_trains()
    finally:
        shop.encoder.projection.weight.requires_grad_(False)
    assert caught.value.public() == "federation:adapter"
    shop.trainer.check_only_adapter_trains()


def test_a_encoder_in_which_nothing_would_move_is_refused(workshop):
    shop = workshop()
    encoder = AdaptedEncoder(shop.model, shop.basis, shop.settings.lora_targets)
    for _, parameter in encoder.trained():
        parameter.requires_grad_(False)
    with pytest.raises(FederationError):
        PrivateTrainer(encoder, shop.merchant, shop.settings)


# ---------------------------------------------------------- public choices
def test_negatives_are_the_catalogue_or_a_public_draw_from_it(workshop):
    trainer = workshop().trainer
    drawn = trainer.negatives(np.random.default_rng(1))
    assert len(drawn) == 40
    assert len(set(drawn.tolist())) == 40
    assert torch.equal(drawn, trainer.negatives(np.random.default_rng(1)))
    assert not torch.equal(drawn, trainer.negatives(np.random.default_rng(2)))
    small = workshop().trainer
    small_settings = small._settings
    small._settings = small_settings.model_copy(update={"negatives": 1000})
    try:
        assert torch.equal(small.negatives(np.random.default_rng(1)), torch.arange(ITEMS))
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


def test_shoppers_without_purchases_are_no_trouble(tiny_model):
    rows = [(2, 1, 1, 0), (2, 3, 2, 1)]
    shop = make_workshop(
        tiny_model, make_catalogue(20), interactions_of(rows, 20, 5), make_settings()
    )
    assert isinstance(shop.examples, ShopperExamples)
    total = shop.trainer.clipped_sum(np.arange(5), make_plan(), np.random.default_rng(0))
    assert total.shoppers == 5
    assert np.linalg.norm(total.vector) > 0
