"""The replay passes honest models and refuses those in which shoppers depend on each other."""

import contextlib
import json
import stat

import numpy as np
import pytest
import torch

import client.training.dp_trainer
from client.training.dp_trainer import PrivateTrainer
from client.training.sensitivity_check import PREFLIGHT_FILE, check_once, check_sensitivity
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


@pytest.fixture(scope="module")
def shop(tiny_model):
    return shop_of(tiny_model)


def check(shop, **plan):
    check_sensitivity(shop.trainer, shop.encoder.adapter(), make_plan(**plan))


@pytest.mark.parametrize("objective", ["softmax", "bce", "mse"])
@pytest.mark.parametrize("lora_targets", LORA_TARGETS, ids=str)
def test_honest_models_pass(tiny_model, lora_targets, objective):
    honest = shop_of(tiny_model, **lora_targets, objective=objective)
    check(honest)
    check_sensitivity(
        honest.trainer,
        honest.encoder.adapter().with_vector(np.zeros(honest.encoder.adapter().size, np.float32)),
        make_plan(),
    )


@pytest.mark.parametrize("bound", [1e-3, 0.1, 1.0, 1e3])
def test_honest_models_pass_whatever_c_is(shop, bound):
    check(shop, max_grad_norm=bound)


@pytest.mark.parametrize("shoppers", [0, 1, 2, 3])
def test_a_shop_of_few_shoppers_passes(tiny_model, shoppers):
    check(shop_of(tiny_model, shoppers=shoppers))


def test_a_shop_without_purchases_passes(tiny_model):
    check(
        make_workshop(tiny_model, make_catalogue(20), interactions_of([], 20, 5), make_settings())
    )


def test_negatives_out_of_the_batch_are_refused(shop, monkeypatch):
    honest = PrivateTrainer.shopper_gradients
    monkeypatch.setattr(
        PrivateTrainer,
        "shopper_gradients",
        lambda self, batch, _: honest(
            self, batch, self.candidates(torch.from_numpy(np.unique(batch.target_item)))
        ),
    )
    with pytest.raises(PrivacyError) as caught:
        check(shop)
    assert caught.value.public() == "privacy:sensitivity"


def test_a_statistic_over_the_batch_is_refused(shop, monkeypatch):
    honest = PrivateTrainer.shopper_gradients

    def centred(self, batch, candidates):
        rows = honest(self, batch, candidates)
        return rows - rows.mean(dim=0, keepdim=True)

    monkeypatch.setattr(PrivateTrainer, "shopper_gradients", centred)
    with pytest.raises(PrivacyError):
        check(shop)


def test_after_a_check_the_shop_is_whole(shop):
    examples = shop.merchant.examples
    check(shop)
    with contextlib.suppress(RuntimeError), shop.trainer.shop_without(3):
        assert len(shop.merchant.examples) == len(examples) - 1
        raise RuntimeError
    assert shop.merchant.examples is examples


def test_a_sum_that_is_not_clipped_is_refused(shop, monkeypatch):
    clip = client.training.dp_trainer.clip_and_sum

    def unclipped(rows, bound, *, margin=0.0):
        total = clip(rows, bound * 1e6, margin=margin)
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


# ------------------------------------------------------------------ once a model
def test_a_model_is_checked_once_and_another_anew(shop, tmp_path, monkeypatch):
    calls = []
    honest = PrivateTrainer.clipped_sum

    def counting(self, *arguments):
        calls.append(1)
        return honest(self, *arguments)

    monkeypatch.setattr(PrivateTrainer, "clipped_sum", counting)
    asked = (shop.trainer, shop.encoder.adapter(), make_plan())
    for key, expected in (("one", 9), ("one", 9), ("two", 18), ("two", 18)):
        check_once(tmp_path, key, *asked)
        assert len(calls) == expected
    path = tmp_path / PREFLIGHT_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes()) == {"key": "two", "passed": True}
    path.write_bytes(b"{")
    check_once(tmp_path, "two", *asked)
    assert len(calls) == 27


def test_a_refused_model_stays_refused(shop, tmp_path, monkeypatch):
    honest = PrivateTrainer.shopper_gradients
    asked = (shop.trainer, shop.encoder.adapter(), make_plan())
    with monkeypatch.context() as patch:
        patch.setattr(
            PrivateTrainer,
            "shopper_gradients",
            lambda self, batch, candidates: (
                honest(self, batch, candidates) * batch.shoppers * 0
                + honest(self, batch, candidates).sum(dim=0)
            ),
        )
        with pytest.raises(PrivacyError):
            check_once(tmp_path, "one", *asked)
    with pytest.raises(PrivacyError, match="before"):
        check_once(tmp_path, "one", *asked)
    check_once(tmp_path, "repaired", *asked)
