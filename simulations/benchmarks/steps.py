"""A private step against the same step without privacy: per-shopper gradients, clip and sum."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from client.training.dp_trainer import Merchant, PrivateTrainer, pool_rows
from client.training.examples import ShopperExamples
from client.training.losses import Candidates, shopper_losses
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.settings.run import RunSettings
from simulations.data.marketplace import make_marketplace
from simulations.data.shop import Shop

REPEATS = 5
SHOPPERS = 100


@dataclass(frozen=True)
class MeasuredStep:
    """Median wall seconds of both ways on the same shoppers."""

    shoppers: int
    private_seconds: float
    plain_seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long the private step takes."""
        return self.private_seconds / self.plain_seconds


def measure_step() -> MeasuredStep:
    """Measure one merchant's step in the synthetic marketplace."""
    shop = Shop.of(make_marketplace(seed=0).data)
    settings = RunSettings()
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        basis = fit_public_basis(shop.data.catalogue, settings, cache)
        encoded = encode_catalogue(shop.data.catalogue, basis, settings, cache)
        plain = encode_catalogue(shop.data.catalogue, basis, settings, cache)
    items = len(shop.data.catalogue)
    examples = ShopperExamples(shop.past, settings)
    vectors = torch.from_numpy(encoded.vectors)
    merchant = Merchant(examples, encoded.tokens, vectors, torch.zeros(items))
    trainer = PrivateTrainer(encoded.encoder, merchant, settings)
    plan = settings.model_copy(update={"noise": "none"}).plan()
    shoppers = np.arange(SHOPPERS)
    batch = examples.draw(shoppers, 0)
    candidates = Candidates(vectors, torch.zeros(items), torch.arange(items))

    def private() -> None:
        trainer.clipped_sum(shoppers, plan, np.random.default_rng(0))

    def unprotected() -> None:
        rows = plain.encoder(*plain.tokens.rows(batch.history_item))
        shopper_losses(pool_rows(rows, batch), batch, candidates, settings).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    return MeasuredStep(SHOPPERS, _seconds(private), _seconds(unprotected))


def _seconds(work: Callable[[], None]) -> float:
    work()  # loads and warms what the measured calls find ready
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)
