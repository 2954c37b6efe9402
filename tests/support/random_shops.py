"""Shops of random numbers: no text and no BERT, so that a thousand of them take a minute."""

import numpy as np
import torch

from client.shop.interactions import Interactions
from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ShopperExamples
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.last_layer import TopNorm
from common.encoder.lexical_part import LexicalPart
from common.encoder.public_basis import PublicBasis
from common.settings.run import LEAST_TEMPERATURE, RunSettings
from tests.support.shops import random_adapter

TEMPERATURES = (LEAST_TEMPERATURE, 0.1, 10.0)
SCALES = (1e-3, 1.0, 1e3)  # of a hostile basis
RAREST = (1.0, 1e-2, 1e-6)  # the rarest item's popularity against the likeliest one's


def random_trainer(seed):
    """Return a trainer whose every public number is drawn, the extremes of what is allowed too."""
    rng = np.random.default_rng(seed)
    width = int(rng.choice([32, 48, 384], p=[0.45, 0.45, 0.1]))
    items, words = int(rng.integers(30, 700)), bool(rng.integers(2))
    settings = RunSettings.from_flat(
        {
            "rank": int(rng.choice([1, 3, 16, 17])),
            "output_rank": int(rng.choice([5, 16, 96])),
            "negatives": int(rng.choice([1, 40, 4096])),
            "objective": str(rng.choice(["softmax", "softmax", "bce", "mse"])),
            "temperature": float(rng.choice(TEMPERATURES)),
            "popularity_strength": float(rng.choice([0.0, 1.2, 2.0])),
            "max_history": int(rng.choice([3, 100])),
            "max_targets": int(rng.choice([1, 30])),
        }
    )
    basis = _basis(rng, width, settings.rank, words=words)
    top = TopNorm(1, _normal(rng, width), _normal(rng, width), 1e-12)
    encoder = AdaptedEncoder.without_bert(top, basis, settings.lora_targets)
    encoder.load_adapter(random_adapter(encoder, seed, size=float(rng.choice([0.0, 0.1, 10.0]))))
    popularity = np.geomspace(1, rng.choice(RAREST), items)
    merchant = Merchant(
        ShopperExamples(random_shoppers(rng, items), settings),
        _tokens(rng, items, width, settings.rank, words=words),
        torch.from_numpy(_units(rng, items, width * (1 + words))),
        torch.from_numpy(np.log(rng.permutation(popularity) / popularity.sum()).astype(np.float32)),
    )
    return PrivateTrainer(encoder, merchant, settings), merchant


def random_shoppers(rng, items, shoppers=40):
    """Return shoppers of 0 to 60 purchases, most of them of a few."""
    counts = np.minimum(rng.geometric(0.08, shoppers) - 1, min(60, items))
    bought = [np.sort(rng.choice(items, count, replace=False)) for count in counts]
    basket = np.concatenate([np.arange(count) // max(1, count // 4) for count in counts])
    return Interactions(
        tuple(f"s{number}" for number in range(shoppers)),
        items,
        np.repeat(np.arange(shoppers), counts).astype(np.int32),
        np.concatenate(bought).astype(np.int32),
        basket.astype(np.int64),
        basket.astype(np.int32),
        rng.uniform(0, 5, counts.sum()).astype(np.float32),
        timed=False,
    )


def _basis(rng, width, rank, *, words):
    def whitening():
        square = rng.normal(size=(width, width))
        return (rng.choice(SCALES) * (square @ square.T)).astype(np.float32)

    name = "bert.encoder.layer.0.output.dense"
    part = LexicalPart(_normal(rng, width), whitening(), 0.7) if words else None
    directions = {name: _normal(rng, rank, 4 * width)}
    return PublicBasis(_normal(rng, width), whitening(), np.ones(9, np.float32), directions, part)


def _tokens(rng, items, width, rank, *, words):
    lengths = rng.integers(2, 13, items)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = offsets[-1]
    return ItemTokens(
        offsets,
        _normal(rng, total, rank),
        _normal(rng, total, width),
        rng.uniform(1e-4, 1, total).astype(np.float32),
        0.7 * _units(rng, items, width) if words else None,
    )


def _normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def _units(rng, count, width):
    rows = _normal(rng, count, width)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
