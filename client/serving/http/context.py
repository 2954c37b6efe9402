"""What every route is given."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from client.privacy.next_run import NextRun
from client.serving.experiments.alerts import FIGURES, Alerts
from client.serving.experiments.running import Experiments
from client.serving.feedback.store import Change, Store
from client.serving.http.problems import Problem
from client.serving.keys import KeyRecord, Scope
from client.serving.live_shop import LiveShop
from client.serving.metrics import Metrics


def now_in_microseconds() -> int:
    """Return the time as a data set has it."""
    return time.time_ns() // 1000


class HeavyWork(Protocol):
    """What the worker does; see `client.serving.worker`."""

    def encode(self, texts: Sequence[str]) -> tuple[str, list[bytes]]:
        """Return the release's digest, and each text's two vectors."""
        ...

    def budget(self) -> dict[str, float]:
        """Return what the ledger has spent."""
        ...

    def next_run(self) -> NextRun:
        """Return what another run would cost."""
        ...

    def benefit(self) -> str:
        """Return what the release brings, as JSON, after a while."""
        ...


@dataclass(eq=False)
class Service:
    """The parts of a running service."""

    live: LiveShop
    store: Store
    worker: HeavyWork
    metrics: Metrics = field(default_factory=Metrics)
    now: Callable[[], int] = now_in_microseconds
    experiments: Experiments = field(init=False)
    alerts: Alerts = field(init=False)

    def __post_init__(self) -> None:
        """Go on with the experiment that ran, and with the days that were watched."""
        self.experiments = Experiments(self.store, self.live, self.now())
        self.alerts = Alerts(self.store)

    def look(self) -> list[str]:
        """End an experiment that is decided, watch the days; return a line for what happened.

        Raises:
            StorageError: if the store cannot be used.
        """
        now = self.now()
        ended = self.experiments.look(now)
        found = self.alerts.look(now, int(self.live.snapshot.rankable.sum()))
        active = {one.figure for one in self.alerts.all(now) if one.active}
        self.metrics.drifted({figure: figure in active for figure in FIGURES})
        return ([] if ended is None else [ended]) + [one.line() for one in found]

    def place_waiting(self) -> int:
        """Have the release read the texts of new items that wait for it; return how many did.

        Raises:
            FedtailError: if the worker cannot; they go on waiting.
        """
        waiting = self.live.snapshot.waiting
        if not waiting:
            return 0
        latest = {one.item_id: one for one in self.store.changes() if one.kind == "put"}
        items = [latest[name] for name in sorted(waiting)]
        digest, vectors = self.worker.encode([one.text or one.title or "" for one in items])
        changes = [
            Change("put", one.item_id, one.title, one.text, one.category, digest, encoded)
            for one, encoded in zip(items, vectors, strict=True)
        ]
        self.live.change(changes, self.now())
        return len(changes)


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(service_of)]
_BEARER = HTTPBearer(auto_error=False, description="A key of `fedtail client keys new`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


def needs(scope: Scope) -> Callable[..., None]:
    """Return a dependency that lets only keys of a scope through; the gate has read the key."""

    def check(
        request: Request,
        _bearer: Annotated[object, Security(_BEARER)],
        _header: Annotated[object, Security(_HEADER)],
    ) -> None:
        key: KeyRecord | None = getattr(request.state, "key", None)
        if key is None or scope not in key.scopes:
            raise Problem(403, f"This needs a key with the scope {scope!r}.")

    return check
