"""One shopper moves the clipped sum by C at most."""

import numpy as np
import pytest
import torch

import client.training.dp_trainer
from tests.support.shops import (
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
)
from tests.support.workshops import ITEMS, OBJECTIVES, SHOPPERS, random_sample


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
@pytest.mark.parametrize(
    "lora_targets", ["few directions", "q,v", "projection", "plain output.dense"]
)
def test_the_bound_holds_for_every_lora_targets_and_objective(
    workshop, small_parts, lora_targets, objective
):
    assert largest_change(workshop(lora_targets, objective), 6, seed=1) <= 1 + 1e-6


@pytest.mark.parametrize("objective", ["bce", "mse"])
def test_the_bound_holds_for_the_default_lora_targets_and_other_objectives(
    workshop, small_parts, objective
):
    assert largest_change(workshop(objective=objective), 12, seed=2) <= 1 + 1e-6


@pytest.mark.parametrize("rows", [1, 5, 64, 512])
def test_the_bound_holds_whatever_the_size_of_a_microbatch(workshop, monkeypatch, rows):
    monkeypatch.setattr(client.training.dp_trainer, "MICROBATCH_ROWS", rows)
    assert largest_change(workshop(), 6, seed=rows) <= 1 + 1e-6


def test_rounding_of_batch_mates_stays_far_below_the_margin(workshop, monkeypatch):
    """What others' gradients change by when a shopper leaves: float32, not sensitivity."""
    shop, plan = workshop("q,v"), make_plan()
    everybody = np.arange(SHOPPERS)
    sums = []
    for rows in (11, 37, 200, 512):
        monkeypatch.setattr(client.training.dp_trainer, "MICROBATCH_ROWS", rows)
        sums.append(shop.trainer.clipped_sum(everybody, plan, np.random.default_rng(1)).vector)
    for other in sums[1:]:
        assert np.linalg.norm(other - sums[0]) < 0.1 * client.training.dp_trainer.ROUNDING_MARGIN


def test_the_clip_keeps_the_margin_for_rounding(workshop):
    shop, plan = workshop(), make_plan()
    one = np.array([int(shopper_norms(shop).argmax())])
    clipped = shop.trainer.clipped_sum(one, plan, np.random.default_rng(0)).vector
    margin = client.training.dp_trainer.ROUNDING_MARGIN
    assert 2**-12 < margin < 2**-8
    assert np.linalg.norm(clipped) == pytest.approx(1 - margin, abs=1e-6)


def shopper_norms(shop):
    batch = shop.examples.draw(np.arange(SHOPPERS), 3)
    candidates = shop.trainer.candidates(torch.arange(40))
    return shop.trainer.shopper_gradients(batch, candidates).norm(dim=1).numpy()


def test_a_sum_is_the_sum_over_disjoint_sets(workshop):
    shop, plan = workshop(), make_plan()
    total = shop.trainer.clipped_sum(np.arange(30), plan, np.random.default_rng(3)).vector
    parts = [
        shop.trainer.clipped_sum(part, plan, np.random.default_rng(3)).vector
        for part in (np.arange(7), np.arange(7, 30))
    ]
    assert np.allclose(total, sum(parts), atol=1e-5)


@pytest.mark.parametrize("left_out", [0, 7, SHOPPERS - 1])
def test_a_shop_without_one_shopper_changes_the_sum_by_c_at_most(tiny_model, left_out):
    """Neighbours differ by a whole shopper: those who stay have other indices, and no other cut."""
    plan, everybody = make_plan(), make_interactions(ITEMS, SHOPPERS)
    stayed = everybody.only_shoppers(np.delete(np.arange(SHOPPERS), left_out))
    sums = []
    for interactions in (everybody, stayed):
        shop = make_workshop(tiny_model, make_catalogue(ITEMS), interactions, make_settings())
        shoppers = np.arange(interactions.shopper_count)
        sums.append(shop.trainer.clipped_sum(shoppers, plan, np.random.default_rng(5)).vector)
    assert 0 < np.linalg.norm(sums[0] - sums[1]) <= plan.max_grad_norm * (1 + 1e-6)
