"""The experiment that runs, who is in it, and what all others get.

A shopper's arm follows from the experiment's name, their id and a key of the store's alone: it is
the same on every request and after every restart, and nothing is kept of it but the lists.

Requests without a shopper whom the shop knows get the baseline and count in no test. Somebody who
cannot be told from others may come twice and meet both arms, and would be two units that are alike.
Whoever is not known gets the best sellers, in either arm.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from client.recommending.shop_model import ShopModel
from client.serving.experiments.arms import RELEASE, TO_ALL, Assigned, folder_of, with_arm
from client.serving.experiments.design import (
    Decision,
    Design,
    Figures,
    ShopperCounts,
    decide,
    figures_of,
)
from client.serving.feedback.database import RowExistsError
from client.serving.feedback.experiment_rows import (
    CountedShoppers,
    add_experiment,
    all_experiments,
    counted_shoppers,
    end_experiment,
)
from client.serving.feedback.store import Store
from client.serving.live_shop import LiveShop, Snapshot, snapshot_of
from common.errors import FedtailError, InputError

_PURPOSE = "experiment-arm"


@dataclass(frozen=True)
class Experiment:
    """One experiment as it stands.

    Attributes:
        name: Its name, which no other ever has.
        design: What it asks.
        started: In microseconds since 1970 UTC.
        stopped: The same; None while it runs.
        winner: The arm that all got from then on.
        reason: Why; see `Reason`.
        result: The figures that it ended with, as JSON.
    """

    name: str
    design: Design
    started: int
    stopped: int | None = None
    winner: str | None = None
    reason: str | None = None
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _State:
    """What a request reads, in one piece."""

    running: Experiment | None
    to_all: Assigned


class Experiments:
    """Starts, watches and ends experiments."""

    def __init__(self, store: Store, live: LiveShop, now: int) -> None:
        """Go on where the store says that the service was at its end; `now` is the time."""
        self._store, self._live = store, live
        self._changing = threading.Lock()
        self._others: dict[str, ShopModel] = {}
        self._armed: dict[str, tuple[Snapshot, Snapshot]] = {}
        self._state = _State(None, TO_ALL)
        self._read_state(now)

    # -------------------------------------------------------------- for a list
    def assigned(self, snapshot: Snapshot, shopper_id: str | None) -> Assigned:
        """Return the arm of a request."""
        state = self._state
        if state.running is None or shopper_id is None:
            return state.to_all
        if shopper_id not in snapshot.model.place_of_shopper or self._store.is_erased(shopper_id):
            return state.to_all
        arm = self._arm_of(state.running, shopper_id)
        return Assigned(arm, state.running.name)

    def again(self, variant: str, experiment: str | None) -> Assigned:
        """Return the arm that goes on with a list of an arm: the same, if it is still there."""
        folder = folder_of(variant)
        if folder is not None and variant not in self._others:
            return self._state.to_all
        return Assigned(variant, experiment)

    def armed(self, snapshot: Snapshot, arm: str) -> Snapshot:
        """Return the shop as an arm ranks it, made once for each snapshot."""
        if arm == RELEASE:
            return snapshot
        kept = self._armed.get(arm)
        if kept is not None and kept[0] is snapshot:
            return kept[1]
        other = self._others.get(arm)
        if other is not None:
            made = snapshot_of(other, self._store.changes(until=snapshot.version))
        else:
            made = with_arm(snapshot, arm)
        self._armed[arm] = (snapshot, made)
        return made

    # -------------------------------------------------------------- for the shop
    def all(self) -> list[Experiment]:
        """Return all of them, the latest first.

        Raises:
            StorageError: if the store cannot be read.
        """
        return [_read(row) for row in all_experiments(self._store.engine)]

    def find(self, name: str) -> Experiment | None:
        """Return the one of that name.

        Raises:
            StorageError: if the store cannot be read.
        """
        return next((one for one in self.all() if one.name == name), None)

    def start(self, name: str, design: Design, now: int) -> Experiment:
        """Start one, or find it running with just that design.

        Raises:
            InputError: if the name is taken, another runs, the arms are the same, or one cannot
                be made.
            StorageError: if the store refuses.
        """
        if design.baseline == design.challenger:
            raise InputError("The two arms are the same.", field="challenger")
        with self._changing:
            for one in self.all():
                if one.name == name:
                    if one.stopped is None and one.design == design:
                        return one
                    raise InputError("There was an experiment of that name.", field="name")
                if one.stopped is None:
                    raise InputError(
                        "Another experiment runs; stop it first. A list has one arm.", field="name"
                    )
            self._load_arms(design)
            kept = json.dumps(design.model_dump(mode="json"))
            try:
                add_experiment(self._store.engine, name, kept, now)
            except RowExistsError:
                raise InputError("There was an experiment of that name.", field="name") from None
            self._read_state(now)
        return Experiment(name, design, now)

    def stop(self, name: str, serve: str | None, now: int) -> Experiment | None:
        """End one by hand, or change what all get since the last one ended.

        Args:
            name: The running one, or the one that ended last.
            serve: The arm that all get from now on; None is its baseline.
            now: In microseconds since 1970 UTC.

        Returns:
            How it stands then; None if there is none of that name.

        Raises:
            InputError: if a later one governs, or `serve` is none of its arms.
            StorageError: if the store refuses.
        """
        with self._changing:
            found = self.all()
            one = next((one for one in found if one.name == name), None)
            if one is None:
                return None
            if one is not found[0]:
                raise InputError("A later experiment says what all get.", field="name")
            winner = serve or one.design.baseline
            if winner not in {one.design.baseline, one.design.challenger, RELEASE}:
                raise InputError("Name one of the experiment's arms, or `release`.", field="serve")
            if one.stopped is None:
                self._end(one, Decision(winner, "asked"), self.figures(one, now), now)
            else:
                end_experiment(self._store.engine, name, winner=winner, reason="asked")
            self._read_state(now)
        return self.find(name)

    def figures(self, experiment: Experiment, now: int) -> Figures:
        """Return what is known of a running experiment now.

        Raises:
            StorageError: if the store cannot be read.
        """
        design = experiment.design
        self._store.lists.flush()
        counted = counted_shoppers(self._store.engine, experiment.name, design.window, now)
        baseline, challenger = (
            _shopper_counts(counted.get(arm)) for arm in (design.baseline, design.challenger)
        )
        return figures_of(design, baseline, challenger)

    def look(self, now: int) -> str | None:
        """End the running experiment if its figures decide; return a line about it then.

        Raises:
            StorageError: if the store cannot be used.
        """
        with self._changing:
            self._read_state(now)
            running = self._state.running
            if running is None:
                return None
            figures = self.figures(running, now)
            decision = decide(running.design, figures)
            if decision is None:
                return None
            self._end(running, decision, figures, now)
            self._read_state(now)
        return f"experiment {running.name} ended: {decision.winner} for all ({decision.reason})"

    # -------------------------------------------------------------- inside
    def _arm_of(self, experiment: Experiment, shopper_id: str) -> str:
        hashed = self._store.keyed_hash(_PURPOSE, f"{experiment.name}\0{shopper_id}")
        design = experiment.design
        return design.challenger if hashed[0] & 1 else design.baseline

    def _end(self, one: Experiment, decision: Decision, figures: Figures, now: int) -> None:
        end_experiment(
            self._store.engine,
            one.name,
            stopped=now,
            winner=decision.winner,
            reason=decision.reason,
            result=json.dumps(as_json(figures)),
        )

    def _read_state(self, now: int) -> None:
        """Read which experiment governs; one whose arm is gone ends here."""
        latest = next(iter(self.all()), None)
        if latest is None:
            self._state = _State(None, TO_ALL)
            return
        running = latest if latest.stopped is None else None
        wanted = latest.design.baseline if running else latest.winner or RELEASE
        try:
            if running:
                self._load_arms(running.design)
            self._load(wanted)
        except FedtailError:
            if running:
                end_experiment(
                    self._store.engine,
                    latest.name,
                    stopped=now,
                    winner=RELEASE,
                    reason="arm_gone",
                )
            running, wanted = None, RELEASE
        self._state = _State(running, Assigned(wanted))

    def _load_arms(self, design: Design) -> None:
        for arm in (design.baseline, design.challenger):
            self._load(arm)

    def _load(self, arm: str) -> None:
        folder = folder_of(arm)
        if folder is not None and arm not in self._others:
            self._others[arm] = self._live.beside(folder)


def as_json(figures: Figures) -> dict[str, Any]:
    """Return figures as JSON has them: an interval or variance that is not there is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return value

    found: dict[str, Any] = plain(asdict(figures))
    return found


def _shopper_counts(counted: CountedShoppers | None) -> ShopperCounts:
    if counted is None:
        return ShopperCounts(*(np.empty(0, np.int64) for _ in range(4)))
    return ShopperCounts(counted.seen, counted.clicked, counted.bought, counted.tail)


def _read(row: Mapping[str, Any]) -> Experiment:
    return Experiment(
        name=row["name"],
        design=Design.model_validate_json(row["design"]),
        started=row["started"],
        stopped=row["stopped"],
        winner=row["winner"],
        reason=row["reason"],
        result=None if row["result"] is None else json.loads(row["result"]),
    )
