"""The replay passes honest models and refuses those in which shoppers depend on each other."""

import contextlib
import stat

import numpy as np
import pytest
import torch

import client.training.dp_trainer
import client.training.sensitivity_check
from client.training.dp_trainer import PrivateTrainer
from client.training.sensitivity_check import (
    PREFLIGHT_FILE,
    SHOPPERS,
    check_once,
    check_sensitivity,
    check_trainer,
    keeps_bits,
    made_up_shoppers,
)
from common.errors import PrivacyError
from tests.support.shops import (
    interactions_of,
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
)

LORA_TARGETS = [
    {},
    {"lora_modules": "query,value", "last_layers": 2},
    {"lora_modules": "projection"},
    {"lora_modules": "output.dense", "lora": "lora"},
]


def shop_of(tiny_model, shoppers=40, **settings):
    return make_workshop(
        tiny_model, make_catalogue(60), make_interactions(60, shoppers), make_settings(**settings)
    )


@pytest.fixture
def shop(tiny_model):
    return shop_of(tiny_model)


def check(shop, **plan):
    check_sensitivity(shop.trainer, shop.encoder.adapter(), make_plan(**plan))


@pytest.mark.parametrize(
    ("lora_targets", "objective"),
    [(one, "softmax") for one in LORA_TARGETS] + [({}, "bce"), ({}, "mse")],
    ids=str,
)
def test_honest_models_pass_and_share_products(tiny_model, lora_targets, objective):
    honest = shop_of(tiny_model, **lora_targets, objective=objective)
    check_trainer(honest.trainer, honest.encoder.adapter(), make_plan())
    assert not honest.trainer.goes_one_at_a_time


@pytest.mark.parametrize("bound", [1e-6, 0.1, 1.0, 1e6])
def test_honest_models_pass_whatever_c_is(shop, bound):
    check(shop, max_grad_norm=bound)


def test_a_run_that_starts_at_zero_passes(shop):
    zero = shop.encoder.adapter()
    zero = zero.with_vector(0 * zero.flatten())
    check_trainer(shop.trainer, zero, make_plan())


@pytest.mark.parametrize("items", [1, 2, 3, 500])
def test_made_up_shoppers_have_purchases_and_items_in_common(items):
    made_up = made_up_shoppers(items)
    assert made_up.shopper_count == SHOPPERS
    bought = made_up.matrix()
    assert bought.sum(axis=1).min() >= min(items, 2)
    assert bought.sum(axis=0).max() > 10


def test_what_is_found_depends_on_no_shopper_of_the_shop(tiny_model, monkeypatch):
    """The real shoppers are not even drawn: neighbouring shops cannot be told apart."""
    sums = []
    honest = PrivateTrainer.clipped_sum

    def kept(self, *arguments):
        sums.append(honest(self, *arguments))
        return sums[-1]

    monkeypatch.setattr(PrivateTrainer, "clipped_sum", kept)
    for interactions in (make_interactions(60, 40), interactions_of([], 60, 0)):
        one = make_workshop(tiny_model, make_catalogue(60), interactions, make_settings())
        monkeypatch.setattr(one.examples, "draw", None)
        check_trainer(one.trainer, one.encoder.adapter(), make_plan())
    first, second = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    assert len(first) == 9
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.vector, other.vector)


# ----------------------------------------------------------------------- what is refused
def rows_changed(monkeypatch, change):
    honest = PrivateTrainer.shopper_gradients
    monkeypatch.setattr(
        PrivateTrainer,
        "shopper_gradients",
        lambda self, batch, candidates: change(honest(self, batch, candidates)),
    )


def test_a_statistic_over_the_batch_is_refused(shop, monkeypatch):
    rows_changed(monkeypatch, lambda rows: rows - rows.mean(dim=0, keepdim=True))
    with pytest.raises(PrivacyError) as caught:
        check_trainer(shop.trainer, shop.encoder.adapter(), make_plan())
    assert caught.value.public() == "privacy:sensitivity"
    assert not shop.trainer.goes_one_at_a_time  # that is for rounding only


def test_the_last_bit_of_a_batch_mate_is_refused(shop, monkeypatch):
    rows_changed(monkeypatch, lambda rows: rows * (1 + 2.0**-22 * (len(rows) % 2)))
    with pytest.raises(PrivacyError):
        check(shop)


def test_a_machine_that_keeps_no_bits_goes_one_shopper_at_a_time(shop, monkeypatch):
    rows_changed(monkeypatch, lambda rows: rows * (1 + 2.0**-22 * (len(rows) > 1)))
    adapter = shop.encoder.adapter()
    assert not keeps_bits(shop.trainer, adapter)
    check_trainer(shop.trainer, adapter, make_plan())
    assert shop.trainer.goes_one_at_a_time
    assert keeps_bits(shop.trainer, adapter)


def test_a_sum_that_is_not_clipped_is_refused(shop, monkeypatch):
    clip = client.training.dp_trainer.clip_and_sum

    def unclipped(rows, bound):
        total = clip(rows, bound * 1e6)
        object.__setattr__(total, "max_grad_norm", bound)
        return total

    monkeypatch.setattr(client.training.dp_trainer, "clip_and_sum", unclipped)
    with pytest.raises(PrivacyError):
        check(shop)


def test_numbers_that_are_none_are_refused(shop, monkeypatch):
    honest = PrivateTrainer.clipped_sum

    def poisoned(self, shoppers, plan, rng):
        total = honest(self, shoppers, plan, rng)
        total.vector[0] = np.nan
        return total

    monkeypatch.setattr(PrivateTrainer, "clipped_sum", poisoned)
    with pytest.raises(PrivacyError):
        check(shop)


def test_after_a_check_the_shop_is_whole(shop):
    examples = shop.merchant.examples
    check(shop)
    made_up = shop.examples.without(3)
    with contextlib.suppress(RuntimeError), shop.trainer.training_on(made_up):
        assert shop.merchant.examples is made_up
        raise RuntimeError
    assert shop.merchant.examples is examples


# ------------------------------------------------------------------ once a model
@pytest.fixture
def asked(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(client.training.sensitivity_check, "_passed", set())
    return tmp_path, shop.trainer, shop.encoder.adapter(), make_plan()


def test_a_model_is_checked_once_and_another_or_other_threads_anew(asked, monkeypatch):
    folder, *rest = asked
    calls = []
    monkeypatch.setattr(
        client.training.sensitivity_check, "check_trainer", lambda *_: calls.append(1)
    )
    for key, expected in (("one", 1), ("one", 1), ("two", 2), ("two", 2)):
        check_once(folder, key, *rest)
        assert len(calls) == expected
    path = folder / PREFLIGHT_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        check_once(folder, "two", *rest)
    path.write_bytes(b"{")
    monkeypatch.setattr(client.training.sensitivity_check, "_passed", set())  # another process
    check_once(folder, "two", *rest)
    assert len(calls) == 4


def test_nodes_of_one_process_that_share_a_catalogue_check_once(asked, monkeypatch):
    folder, *rest = asked
    calls = []
    monkeypatch.setattr(
        client.training.sensitivity_check, "check_trainer", lambda *_: calls.append(1)
    )
    for node in ("ash", "birch", "cedar"):
        (folder / node).mkdir()
        check_once(folder / node, "one", *rest)
    check_once(folder / "cedar", "two", *rest)
    assert len(calls) == 2


def test_a_refusal_leaves_nothing_and_may_be_asked_for_again(asked, monkeypatch):
    folder, *rest = asked
    with monkeypatch.context() as patch:
        rows_changed(patch, lambda rows: rows.sum(dim=0).expand(len(rows), -1))
        for _ in range(2):
            with pytest.raises(PrivacyError):
                check_once(folder, "one", *rest)
    assert not (folder / PREFLIGHT_FILE).exists()
    check_once(folder, "one", *rest)


def test_one_shopper_at_a_time_is_found_out_anew_by_each_process(asked, shop, monkeypatch):
    folder, *rest = asked
    rows_changed(monkeypatch, lambda rows: rows * (1 + 2.0**-22 * (len(rows) > 1)))
    check_once(folder, "one", *rest)
    assert shop.trainer.goes_one_at_a_time
    assert not (folder / PREFLIGHT_FILE).exists()
