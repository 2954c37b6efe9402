"""A shopper's gradient is the same bits in any company and order, on one and two threads."""

import contextlib

import numpy as np
import pytest
import torch

from client.training import shopper_gradients
from client.training.sensitivity_check import within
from client.training.shopper_gradients import HookedGradients, PackedGradients, parts_of
from tests.support.random_shops import random_trainer
from tests.support.shops import make_plan
from tests.support.workshops import batch_of


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows_of(trainer, merchant, shoppers, seed=0):
    candidates = trainer.candidates(trainer.negatives(np.random.default_rng(seed)))
    return trainer.rows(merchant.examples.draw(shoppers, seed), candidates)


def unequal_rows(seed):
    """Rows of a random shop that differ in a bit from those of the same shopper elsewhere."""
    trainer, merchant = random_trainer(seed)
    rng, count = np.random.default_rng(seed), len(merchant.examples)
    orders = [np.arange(count), rng.permutation(count)[: rng.integers(2, count)]]
    orders += [np.array([one]) for one in rng.permutation(count)[:4]]
    with threads(1):
        found = [rows_of(trainer, merchant, shoppers) for shoppers in orders]
    if seed % 5 == 0:
        orders.append(rng.permutation(count))
        with threads(2):
            found.append(rows_of(trainer, merchant, orders[-1]))
    whole = found[0]
    assert torch.isfinite(whole).all()
    assert (whole != 0).any()
    return sum(
        int((rows != whole[shoppers]).any(dim=1).sum())
        for rows, shoppers in zip(found, orders, strict=True)
    )


def test_random_shops_give_each_shopper_the_same_bits_in_any_company_and_order():
    assert [seed for seed in range(30) if unequal_rows(seed)] == []


@pytest.mark.statistical
@pytest.mark.timeout(3000)
def test_a_thousand_random_shops_give_each_shopper_the_same_bits():
    assert [seed for seed in range(1000) if unequal_rows(seed)] == []


def change_of(seed, bound):
    """One shopper more in a random step: the sum's change, and that shopper's own clipped row."""
    trainer, merchant = random_trainer(seed)
    rng, plan = np.random.default_rng(seed), make_plan(max_grad_norm=bound)
    company = rng.permutation(len(merchant.examples))[: rng.integers(1, 40)]
    left_out, stay = company[0], company[1:]

    def total(shop, shoppers):
        with trainer.training_on(shop):
            return trainer.clipped_sum(shoppers, plan, np.random.default_rng(seed)).vector

    whole = total(merchant.examples, company)
    less = total(merchant.examples.without(left_out), stay - (stay > left_out))
    return whole - less, total(merchant.examples, company[:1])


def replay(pairs):
    largest = 0.0
    for seed in range(pairs):
        bound = (1e-6, 1e-3, 1.0, 1e6)[seed % 4]
        change, own = change_of(seed, bound)
        assert np.array_equal(change, own)
        assert within(change, bound)
        largest = max(largest, float(np.linalg.norm(change)) / bound)
    assert largest > 1 - 1e-6  # some rows are clipped, or this would show little


def test_a_neighbour_changes_a_sum_by_its_own_row_and_c_at_most_in_exact_arithmetic():
    replay(50)


@pytest.mark.statistical
@pytest.mark.timeout(3000)
def test_a_thousand_neighbours_change_a_sum_by_c_at_most():
    replay(1000)


def test_c_is_held_to_the_last_unit_of_the_grid():
    unit = 2.0**-31
    assert within(np.array([0.6, 0.8 - unit]), 1.0)
    assert within(np.array([1.0, 0.0]), 1.0)
    assert not within(np.array([1.0, unit]), 1.0)
    assert not within(np.array([np.nan, 0.0]), 1.0)


@pytest.mark.parametrize("lora_targets", ["q,v", "projection", "plain output.dense"])
@pytest.mark.parametrize("count", [1, 2])
def test_other_lora_targets_keep_their_bits_too(workshop, lora_targets, count):
    shop = workshop(lora_targets)
    shoppers = np.random.default_rng(1).permutation(len(shop.examples))[:12]
    with threads(count):
        together = rows_of(shop.trainer, shop.merchant, shoppers)
        for place in (0, 5, 11):
            alone = rows_of(shop.trainer, shop.merchant, shoppers[place : place + 1])
            assert torch.equal(together[place], alone[0])


def test_the_lora_targets_decide_how_gradients_are_taken(workshop):
    assert isinstance(workshop("few directions").trainer._gradients, PackedGradients)
    for other in ("q,v", "output.dense and projection", "plain output.dense"):
        assert isinstance(workshop(other).trainer._gradients, HookedGradients)


def test_a_step_that_is_stopped_half_way_leaves_nothing_in_the_hooks(workshop, monkeypatch):
    shop = workshop("q,v")
    shoppers = np.arange(12)
    before = rows_of(shop.trainer, shop.merchant, shoppers)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", stopped_after(torch.Tensor.backward, 4))
        with pytest.raises(KeyboardInterrupt):
            rows_of(shop.trainer, shop.merchant, shoppers)
    assert torch.equal(rows_of(shop.trainer, shop.merchant, shoppers), before)


def stopped_after(work, calls):
    left = [calls]

    def stopping(*arguments, **named):
        left[0] -= 1
        work(*arguments, **named)
        if not left[0]:
            raise KeyboardInterrupt

    return stopping


def test_parts_hold_each_shopper_once_and_neither_too_many_nor_too_much(monkeypatch):
    monkeypatch.setattr(shopper_gradients, "PART_TOKENS", 20)
    lengths = np.array([3, 30, 1, 0])
    batch = batch_of([[0, 0], [1], [0, 2], [], [2], [0] * 5], [[0], [], [1, 2], [0], [], []])
    parts = parts_of(batch, lengths, 3)
    assert [part.shoppers for part in parts] == [1, 1, 3, 1]
    assert np.concatenate([part.history_item for part in parts]).tolist() == (
        batch.history_item.tolist()
    )
    assert [part.target_item.tolist() for part in parts] == [[0], [], [1, 2, 0], []]
    assert parts[2].history_shopper.tolist() == [0, 0, 2]
    assert parts[2].target_shopper.tolist() == [0, 0, 1]
    assert parts_of(batch_of([], []), lengths, 3) == []
