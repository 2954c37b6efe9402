"""The next round: what it would cost, what it is expected to bring, and so whether to join.

Nobody can measure a round before it is trained. What a release brought on the shop's own shoppers
is the estimate, and it is called one. Measuring takes a minute and happens in a process of its own.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client.privacy.next_run import NextRun
from common.errors import FedtailError
from common.files import PRIVATE_MODE, write_atomic

BENEFIT_FILE = "benefit.json"  # in `node` of the shop's folder: means over shoppers, so it stays
METRICS = ("ndcg@10", "tail_recall@10")
THREAD = "benefit"
COMPARED = ("popularity", "local_ease", "frozen_fused", "fused")
_LOG = logging.getLogger("fedtail.serving")

Reason = Literal["brings", "no_gain", "cannot_tell", "budget", "policy", "not_measured"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Brought:
    """What `client benefit` found.

    Attributes:
        release: The release's version.
        verdict: `join`, `stay solo` or `cannot tell`.
        shoppers: How many it rests on.
        took_part: Whether the release was trained with this shop's catalogue.
        gains: Over the best way without others, by metric; None where it is not defined. It was
            chosen for one half of the shoppers on the other half.
        gains_over_frozen: Over the shop alone with titles, the `frozen_fused` of `models`.
        models: Means of COMPARED by model and metric.
        boosts: Means by tail boost and metric.
    """

    release: str
    verdict: str
    shoppers: int
    took_part: bool
    gains: Mapping[str, Estimate | None]
    gains_over_frozen: Mapping[str, Estimate | None]
    models: Mapping[str, Mapping[str, Estimate | None]]
    boosts: Mapping[float, Mapping[str, float | None]]


@dataclass(frozen=True)
class Decision:
    """Join the next round, or stay out of it; None is not known yet. And why."""

    join: bool | None
    reason: Reason


@dataclass(frozen=True)
class Measuring:
    """How the measuring stands."""

    state: Literal["idle", "running", "failed", "done"]
    brought: Brought | None = None
    error: str = ""


def decide(cost: NextRun, brought: Brought | None) -> Decision:
    """Return what follows for the next run: a budget that is spent outweighs every gain."""
    if cost.refused:
        return Decision(join=False, reason="policy")
    if not cost.fits:
        return Decision(join=False, reason="budget")
    if brought is None:
        return Decision(join=None, reason="not_measured")
    if brought.verdict == "join":
        return Decision(join=True, reason="brings")
    known = brought.verdict == "stay solo"
    return Decision(join=False, reason="no_gain" if known else "cannot_tell")


class BenefitJob:
    """Measures at most once at a time, and keeps the last result on disk for the owner alone."""

    def __init__(self, measure: Callable[[], str], file: Path) -> None:
        """`measure` returns `client benefit --json`, and takes its time."""
        self._measure, self._file = measure, file
        self._changing = threading.Lock()
        self._running, self._error = False, ""

    def start(self, model_digest: str) -> None:
        """Begin to measure, unless that is going on."""
        with self._changing:
            if self._running:
                return
            self._running, self._error = True, ""
        threading.Thread(target=self._run, args=(model_digest,), name=THREAD, daemon=True).start()

    def now(self, model_digest: str) -> Measuring:
        """Return how it stands for a model."""
        with self._changing:
            running, error = self._running, self._error
        if running:
            return Measuring("running")
        if error:
            return Measuring("failed", error=error)
        brought = self._kept(model_digest)
        return Measuring("idle") if brought is None else Measuring("done", brought)

    def _run(self, model_digest: str) -> None:
        error = ""
        try:
            found = {"model_digest": model_digest, "benefit": json.loads(self._measure())}
            write_atomic(self._file, json.dumps(found).encode(), mode=PRIVATE_MODE)
        except FedtailError as told:
            error = str(told)
        except Exception as failed:  # noqa: BLE001 -- a thread's last words; the page shows them
            _LOG.error("measuring the benefit failed: %s", type(failed).__name__)
            error = type(failed).__name__
        with self._changing:
            self._running, self._error = False, error

    def _kept(self, model_digest: str) -> Brought | None:
        try:
            found = json.loads(self._file.read_bytes())
            return _brought(found["benefit"]) if found["model_digest"] == model_digest else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never measured, or by another version: measure again


def _brought(found: Mapping[str, Any]) -> Brought:
    return Brought(
        release=str(found["release"]),
        verdict=str(found["verdict"]),
        shoppers=int(found["shoppers"]),
        took_part=bool(found["took_part"]),
        gains={metric: _estimate(found["gains"][metric]) for metric in METRICS},
        gains_over_frozen={
            metric: _estimate(found["gains_over_frozen"][metric]) for metric in METRICS
        },
        models={
            name: {metric: _estimate(found["models"][name][metric]) for metric in METRICS}
            for name in COMPARED
        },
        boosts={
            float(boost): {metric: means[metric] for metric in METRICS}
            for boost, means in found["tail_boost"].items()
        },
    )


def _estimate(found: Mapping[str, float | None]) -> Estimate | None:
    mean, low, high = (found[name] for name in ("mean", "low", "high"))
    return None if mean is None or low is None or high is None else Estimate(mean, low, high)
