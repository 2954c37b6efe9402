"""What a federation takes beside its merchants' steps: ledger, checks, messages, rounds, set-up."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from client.app import app
from client.training.dp_trainer import PrivateTrainer
from common.settings.run import RunSettings
from simulations.benchmarks.rows import Row
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.pool_worker import RUN_LOG
from simulations.federation.runner import run_federation

MERCHANTS, ROUNDS = 32, 20


@dataclass
class _Clock:
    """Processor seconds inside a method, however often it is called."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, kind: type, name: str) -> Iterator[None]:
        """Count the time in a method of a class while open."""
        inner: Callable[..., Any] = getattr(kind, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*arguments, **named)
            finally:
                taken = time.process_time() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + taken

        with mock.patch.object(kind, name, timed):
            yield


def rows() -> Iterator[Row]:
    """Simulate merchants of the synthetic marketplace, and divide the processor's time.

    A node's own computing is its private rounds, and once the check of the model on made-up
    shoppers and the encoding that it finds on disk; what it does beside that to answer is ledger,
    checks and decoding.
    """
    data = make_marketplace(MarketplaceSettings(merchants=MERCHANTS), seed=0).data
    settings = RunSettings(rounds=ROUNDS, min_merchants=MERCHANTS)
    logging.getLogger(RUN_LOG).setLevel(logging.WARNING)
    clock = _Clock()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        parts = partition_merchants(data, how="column", merchants=MERCHANTS, seed=0)
        shops = [Shop.of(part) for part in parts]
        began = time.process_time()
        write_federation(shops, root / "merchants", settings.plan())
        with clock.on(type(app), "__call__"), clock.on(PrivateTrainer, "private_round"):
            run_federation(root / "merchants", settings, root / "run", root / "cache")
        whole = time.process_time() - began
    nodes, steps = clock.seconds["__call__"], clock.seconds["private_round"]
    yield Row(
        what=f"{MERCHANTS} merchants x {ROUNDS} rounds, set-up included: outside the nodes",
        against="all of it",
        figure=100 * (whole - nodes) / whole,
        unit="%",
        target=10.0,
        seconds=whole - nodes,
        peer_seconds=whole,
    )
    yield Row(
        what="of the same, a node's ledger, checks and decoding",
        against="its private steps",
        figure=(nodes - steps) / steps,
        unit="times",
        target=1.0,
        seconds=nodes - steps,
        peer_seconds=steps,
    )
