"""A private step on another device: every tensor where it belongs, and the processor's numbers."""

from dataclasses import replace

import numpy as np
import pytest

from client.training import sensitivity_check
from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.sensitivity_check import PREFLIGHT_FILE, check_once, check_trainer
from common.encoder.adapted_encoder import AdaptedEncoder
from common.encoder.base_model import load_base_model
from common.errors import PrivacyError
from tests.support.elsewhere import ELSEWHERE
from tests.support.ledgers import reopen
from tests.support.shops import (
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
)
from tests.support.workshops import one_round

LORA_TARGETS = [
    {},
    {"lora_modules": "query,value"},
    {"lora_modules": "projection"},
    {"lora_modules": "output.dense", "lora": "lora"},
]


def shop_on(model, **settings):
    return make_workshop(
        model, make_catalogue(60), make_interactions(60, 40), make_settings(**settings)
    )


@pytest.fixture
def moved(tiny_bert, device):
    """Give a shop a trainer on the device, from the same basis and the same arrays."""

    def move(shop):
        model = load_base_model(str(tiny_bert), device)
        encoder = AdaptedEncoder(model, shop.basis, shop.settings.lora_targets)
        encoder.load_adapter(shop.encoder.adapter())
        there = (one.to(device) for one in (shop.merchant.vectors, shop.merchant.log_popularity))
        merchant = Merchant(shop.examples, shop.tokens, *there)
        trainer = PrivateTrainer(encoder, merchant, shop.settings)
        return replace(shop, model=model, encoder=encoder, merchant=merchant, trainer=trainer)

    return move


def assert_same(found, expected, *, to_the_bit):
    if to_the_bit:
        np.testing.assert_array_equal(found, expected)
    else:  # torch takes other ways through BERT's layers there, or another machine computes
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("lora_targets", "objective"),
    [(one, "softmax") for one in LORA_TARGETS] + [({}, "bce"), ({}, "mse")],
    ids=str,
)
def test_a_clipped_sum_is_the_processors(tiny_model, moved, device, lora_targets, objective):
    shop = shop_on(tiny_model, **lora_targets, objective=objective)
    there = moved(shop)
    here, found = (
        one.trainer.clipped_sum(np.arange(40), make_plan(), np.random.default_rng(0))
        for one in (shop, there)
    )
    assert there.trainer.device.type == device.type
    assert (found.dropped, found.shoppers) == (0, 40)
    exact = device == ELSEWHERE and not lora_targets
    assert_same(found.vector, here.vector, to_the_bit=exact)


@pytest.mark.parametrize("popularity", [None, np.linspace(1, 2, 60, dtype=np.float32) / 90])
def test_a_step_against_the_whole_catalogue_is_the_processors(
    tiny_model, moved, device, popularity
):
    """Where nothing is drawn, and with the popularity that a run brings."""
    shop, found = shop_on(tiny_model, negatives=4096), []
    for one in (shop, moved(shop)):
        one.trainer.set_popularity(popularity)
        found.append(one.trainer.clipped_sum(np.arange(40), make_plan(), np.random.default_rng(0)))
    assert_same(found[1].vector, found[0].vector, to_the_bit=device == ELSEWHERE)


def test_a_noised_round_is_the_processors(tiny_model, moved, device, tmp_path):
    """Noise, coins and sums never leave the processor: the same stream gives the same update."""
    shop = shop_on(tiny_model)
    updates = [
        one_round(one, reopen(tmp_path / f"{number}.sqlite"), make_plan())
        for number, one in enumerate((shop, moved(shop)))
    ]
    assert_same(updates[1], updates[0], to_the_bit=device == ELSEWHERE)


@pytest.mark.parametrize("lora_targets", [{}, {"lora_modules": "projection"}], ids=str)
def test_the_check_before_the_first_round_passes(tiny_model, moved, lora_targets):
    there = moved(shop_on(tiny_model, **lora_targets))
    check_trainer(there.trainer, there.encoder.adapter(), make_plan())


def test_a_check_on_one_device_says_nothing_of_another(
    tiny_model, moved, device, tmp_path, monkeypatch
):
    monkeypatch.setattr(sensitivity_check, "_passed", set())
    shop, checked = shop_on(tiny_model), []
    monkeypatch.setattr(
        sensitivity_check, "check_trainer", lambda trainer, *_: checked.append(trainer.device.type)
    )
    for one in (shop, moved(shop), moved(shop)):
        check_once(tmp_path, "key", one.trainer, one.encoder.adapter(), make_plan())
    assert checked == ["cpu", device.type]
    assert (tmp_path / PREFLIGHT_FILE).is_file()


def test_a_device_whose_rows_vary_trains_nothing(tiny_model, moved, monkeypatch):
    """As one does that adds in the order in which its threads are done."""
    there, draws = moved(shop_on(tiny_model)), np.random.default_rng(0)
    honest = PrivateTrainer.projected

    def unsteady(self, gradients):
        return honest(self, gradients) * (1 + 1e-6 * draws.random())

    monkeypatch.setattr(PrivateTrainer, "projected", unsteady)
    with pytest.raises(PrivacyError) as caught:
        check_trainer(there.trainer, there.encoder.adapter(), make_plan())
    assert caught.value.field == "sensitivity"


@pytest.mark.parametrize("left", ["vectors", "log_popularity"])
def test_a_tensor_that_is_left_behind_is_found(tiny_model, moved, left):
    """What the tests above rest on: a step does not mix devices without an error."""
    there = moved(shop_on(tiny_model))
    setattr(there.merchant, left, getattr(there.merchant, left).cpu())
    with pytest.raises((RuntimeError, TypeError)):
        there.trainer.clipped_sum(np.arange(40), make_plan(), np.random.default_rng(0))
