"""A merchant that trains, by LoRA targets and objective, and one round of it."""

import functools

import numpy as np

from client.training.examples import ExampleBatch
from common.privacy.mechanism.noise import NoiseSource
from tests.support.shops import (
    make_catalogue,
    make_interactions,
    make_settings,
    make_workshop,
)

ITEMS, SHOPPERS = 90, 120
LORA_TARGETS = {
    "output.dense": {"lora_modules": "output.dense"},
    "few directions": {"lora_modules": "output.dense", "output_rank": 5},
    "q,v": {"lora_modules": "query,value"},
    "q,v of 2 layers": {"lora_modules": "query,value", "last_layers": 2},
    "projection": {"lora_modules": "projection"},
    "output.dense and projection": {"lora_modules": "output.dense,projection"},
    "every module of 2 layers": {
        "lora_modules": "query,key,value,attention.output.dense,intermediate.dense,output.dense",
        "last_layers": 2,
    },
    "plain output.dense": {"lora_modules": "output.dense", "lora": "lora"},
    "plain q,v and projection": {"lora_modules": "query,value,projection", "lora": "lora"},
}
OBJECTIVES = ("softmax", "bce", "mse")


def workshop_of(model):
    """Return what makes a trainer on a shop of 120 shoppers, by LoRA targets and loss, once."""

    @functools.cache
    def make(lora_targets="output.dense", objective="softmax"):
        settings = make_settings(**LORA_TARGETS[lora_targets], objective=objective)
        catalogue, interactions = make_catalogue(ITEMS), make_interactions(ITEMS, SHOPPERS)
        if objective != "softmax":
            values = np.random.default_rng(4).integers(0, 6, len(interactions)).astype(np.float32)
            interactions.value[:] = values
        return make_workshop(model, catalogue, interactions, settings)

    return make


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
        shop.encoder.adapter(),
        charge_of(ledger, plan, number),
        NoiseSource.for_tests(seed, number),
        np.random.default_rng(seed),
    )
    return update
