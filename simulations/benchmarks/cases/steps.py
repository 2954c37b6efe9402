"""A private step against the same step without privacy: per-shopper gradients, clip and sum."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ExampleBatch, ShopperExamples
from client.training.losses import TOGETHER, shopper_losses
from client.training.shopper_gradients import parts_of, pool_rows
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.privacy.mechanism.clipping import clip_and_sum
from common.settings.run import RunSettings
from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import Row, ratio_row
from simulations.data.marketplace import make_marketplace
from simulations.data.shop import Shop

REPEATS = 15
SHOPPERS = 100


LIMIT = 1.1  # times the plain step


def rows() -> Iterator[Row]:
    """Measure one merchant's step in the synthetic marketplace, both ways by turns.

    Both take gradients of the same packed rows in the same parts. The plain one is ordinary
    autograd of B, flat products included; the private one has a row for each shopper, in the noise
    basis, clipped and added up.
    """
    shop = Shop.of(make_marketplace(seed=0).data)
    settings = RunSettings()
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        basis = fit_public_basis(shop.data.catalogue, settings, cache)
        encoded = encode_catalogue(shop.data.catalogue, basis, settings, cache)
    items = len(shop.data.catalogue)
    examples = ShopperExamples(shop.past, settings)
    merchant = Merchant(
        examples, encoded.tokens, torch.from_numpy(encoded.vectors), torch.zeros(items)
    )
    trainer = PrivateTrainer(encoded.encoder, merchant, settings)
    batch = examples.draw(np.arange(SHOPPERS), 0)
    parts = parts_of(batch, encoded.tokens.lengths, TOGETHER)
    candidates = trainer.candidates(trainer.negatives(np.random.default_rng(0)))

    def private() -> None:
        clip_and_sum(trainer.rows(batch, candidates), settings.max_grad_norm)

    def unprotected() -> None:
        for part in parts:
            embedding = pool_rows(_plain_rows(encoded.encoder, encoded.tokens, part), part)
            shopper_losses(embedding, part, candidates, settings).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    yield ratio_row(
        f"one merchant's private step, {SHOPPERS} shoppers",
        "autograd over the same packed rows",
        by_turns([processor(private), processor(unprotected)], REPEATS),
        target=LIMIT,
    )


def _plain_rows(encoder: AdaptedEncoder, tokens: ItemTokens, batch: ExampleBatch) -> Tensor:
    """Return the batch's rows with the way back to B itself."""
    [(_, b)] = encoder.trained()
    packed = tokens.packed(batch.history_item)
    return encoder.from_norm(torch.addmm(packed.summed, packed.reduced, b.T), packed)
