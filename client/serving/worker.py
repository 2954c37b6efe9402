"""Processes beside the service for what needs the language model or the accountants.

The serving process never loads torch. Its one worker is started by the first text to be read, and
stays. What takes a minute gets a process of its own, which ends with it: a new item never waits.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from common.errors import FedtailError, StorageError

if TYPE_CHECKING:
    from client.privacy.next_run import NextRun

_PATHS = ("release", "key", "shop", "cache", "model")
_SECONDS = 300.0  # a cold worker loads a language model first


@dataclass(eq=False)
class Worker:
    """Encodes texts with a release, reads the ledger, measures and fits, in other processes.

    Attributes:
        release: The release's folder.
        key: The operator's public key.
        shop: The shop's folder, whose ledger `budget` reads.
        cache: Folder of encodings.
        model: The models' folder.
    """

    release: Path
    key: Path
    shop: Path
    cache: Path
    model: Path
    _lock: Lock = field(default_factory=Lock, init=False)
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)

    def encode(self, texts: Sequence[str]) -> tuple[str, list[bytes]]:
        """Return the release's digest, and float32 [2, d] of each text, adapted and frozen.

        Raises:
            FedtailError: if the release cannot be verified, or the worker fails.
        """
        found: tuple[str, list[bytes]] = self._run(_encode, self, list(texts))
        return found

    def budget(self) -> dict[str, float]:
        """Return what `/v1/budget` answers.

        Raises:
            FedtailError: if the ledger cannot be read, or the worker fails.
        """
        found: dict[str, float] = self._run(_budget, self.shop)
        return found

    def next_run(self) -> "NextRun":
        """Return what another run like that of the release would cost the shop.

        Raises:
            FedtailError: if the ledger or the release cannot be read, or the worker fails.
        """
        found: NextRun = self._run(_next_run, self)
        return found

    def benefit(self) -> str:
        """Return what the release brings to the shop, as `client benefit --json` prints it.

        Raises:
            FedtailError: as `benefit_of`, or if the process fails.
        """
        found: str = _aside(_benefit, self)
        return found

    def fit_if_stale(self) -> bool:
        """Fit the shop, as `client fit` does, unless its model is of this release and data.

        Returns:
            Whether it was fitted.

        Raises:
            FedtailError: as `fit_and_keep`, or if the process fails.
        """
        found: bool = _aside(_fit_if_stale, self)
        return found

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None

    def __getstate__(self) -> dict[str, Path]:
        return {name: getattr(self, name) for name in _PATHS}

    def _run(self, work: Any, *arguments: Any) -> Any:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            pool = self._pool
        try:
            return pool.submit(work, *arguments).result(_SECONDS)
        except FedtailError:
            raise
        except BrokenExecutor:
            self.close()
            raise StorageError("The worker process ended; try again.", field="worker") from None
        except FutureTimeoutError:
            raise StorageError("The worker process is busy; try again.", field="worker") from None


def _aside(work: Any, *arguments: Any) -> Any:
    """Run `work` in a process that ends with it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenExecutor:
            raise StorageError("The worker process ended; try again.", field="worker") from None


def _encode(worker: Worker, texts: list[str]) -> tuple[str, list[bytes]]:
    # Imported in the worker's process alone: the serving process loads no torch.
    import numpy as np  # noqa: PLC0415 -- see above

    from client.ranking.released_vectors import released_vectors  # noqa: PLC0415 -- see above
    from client.recommending.model_history import release_of  # noqa: PLC0415 -- see above
    from client.recommending.shop_model import read_manifest  # noqa: PLC0415 -- see above
    from common.catalogue import Catalogue, Item  # noqa: PLC0415 -- see above
    from common.identity.signing_key import PublicKey  # noqa: PLC0415 -- see above

    source = read_manifest(worker.model)[0].source
    release = release_of(source, worker.model, worker.release, PublicKey.load(worker.key))
    items = [Item(str(place), text, text) for place, text in enumerate(texts)]
    found = released_vectors(release, Catalogue(tuple(items)), worker.cache)
    pairs = np.stack([found.adapted, found.frozen], axis=1).astype(np.float32)
    return release.manifest.digest, [pair.tobytes() for pair in pairs]


def _budget(shop: Path) -> dict[str, float]:
    from client.privacy.budget import LEDGER_FILE, open_ledger  # noqa: PLC0415 -- see above
    from client.privacy.policy import read_policy  # noqa: PLC0415 -- see above
    from common.privacy.accounting.accountants import account  # noqa: PLC0415 -- see above
    from common.privacy.ledger.entry import spent_events  # noqa: PLC0415 -- see above

    policy, path = read_policy(shop), shop / "node" / LEDGER_FILE
    entries = open_ledger(path, shop.resolve().name).entries() if path.exists() else ()
    report = account(spent_events(entries), policy.delta)
    return {
        "entries": len(entries),
        "epsilon": report.pld,
        "delta": policy.delta,
        "max_epsilon": policy.max_epsilon,
    }


def _next_run(worker: Worker) -> "NextRun":
    from client.privacy.budget import LEDGER_FILE, open_ledger  # noqa: PLC0415 -- see above
    from client.privacy.next_run import next_run  # noqa: PLC0415 -- see above
    from client.privacy.policy import read_policy  # noqa: PLC0415 -- see above
    from common.identity.signing_key import PublicKey  # noqa: PLC0415 -- see above
    from common.release.verify import verify_release  # noqa: PLC0415 -- see above
    from common.settings.run import RunSettings  # noqa: PLC0415 -- see above

    release = verify_release(worker.release, PublicKey.load(worker.key))
    plan = RunSettings.from_flat(dict(release.manifest.adapter.settings)).plan()
    path = worker.shop / "node" / LEDGER_FILE
    entries = open_ledger(path, worker.shop.resolve().name).entries() if path.exists() else ()
    return next_run(entries, read_policy(worker.shop), plan)


def _benefit(worker: Worker) -> str:
    from client.recommending.benefit_of_release import benefit_of  # noqa: PLC0415 -- see above
    from client.recommending.join_benefit_output import benefit_json  # noqa: PLC0415 -- see above
    from common.identity.signing_key import PublicKey  # noqa: PLC0415 -- see above
    from common.release.verify import verify_release  # noqa: PLC0415 -- see above

    release = verify_release(worker.release, PublicKey.load(worker.key))
    told = benefit_of(release, worker.shop, worker.model, worker.cache)
    return benefit_json(told.benefit, told.release, took_part=told.took_part)


def _fit_if_stale(worker: Worker) -> bool:
    from client.recommending.model_history import source_of  # noqa: PLC0415 -- see above
    from client.recommending.shop_model import is_fresh  # noqa: PLC0415 -- see above
    from common.identity.signing_key import PublicKey  # noqa: PLC0415 -- see above
    from common.release.verify import verify_release  # noqa: PLC0415 -- see above

    release = verify_release(worker.release, PublicKey.load(worker.key))
    if is_fresh(worker.model, source_of(release, worker.shop)):
        return False
    from client.recommending.model_fit import fit_and_keep  # noqa: PLC0415 -- see above

    fit_and_keep(worker.release, worker.key, worker.shop, worker.model, worker.cache)
    return True
