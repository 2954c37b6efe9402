"""Four weeks of an experiment, many times: does it end on the better arm, and on none of equals?

A list depends on the shopper and the arm alone while the model stays, so each is made once by the
service's own `serve_list`. Every visit's row and events are written to a store of its own as the
routes write them, and every other evening the code that the service runs looks at the experiment.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.recommending.shop_model import save_shop_model
from client.serving.experiments.arms import OTHER, OWN, RELEASE, Assigned, with_arm
from client.serving.experiments.design import Design
from client.serving.experiments.running import Experiments
from client.serving.feedback.daily_rows import DAY
from client.serving.feedback.online import Rate, Where, measure_online
from client.serving.feedback.store import NewEvent, Store
from client.serving.lists import serve_list
from client.serving.live_shop import LiveShop, snapshot_of
from client.serving.messages import RecommendationRequest
from simulations.traffic.visits import DAYS, OPENING, Visit, draw_visits, events_of, react
from simulations.traffic.world import World, make_world

LENGTH = 5  # of a list
VISITS = 2.5  # of a shopper in four weeks, on average
EVERY = 2  # days between two looks
SAME = f"{OTHER}model"  # the folder that serves: another name for the release, for a test of equals


@dataclass(frozen=True, eq=False)
class Lists:
    """Every shopper's list by an arm.

    Attributes:
        rows: Of the table of recommendations, one a shopper.
        ids: The items' ids, one list a shopper.
        items: int64 [shoppers, LENGTH], the items' indices.
        truth: The shop's click-through with this arm: the mean chance of what it shows.
    """

    rows: list[Mapping[str, Any]]
    ids: list[list[str]]
    items: NDArray[np.int64]
    truth: float


@dataclass(frozen=True)
class Outcome:
    """How one experiment ended.

    Attributes:
        winner: The arm that all got; None if it ran to the end of the four weeks.
        reason: Why.
        day: The day it ended on, from 1.
        measured: Click-through of the baseline, as /v1/online tells it.
        shown: The mean chance of what the baseline's lists showed in this run.
        truth: The same over all of the shop's shoppers.
        covered: Whether the interval of the effect held the true effect at every look.
    """

    winner: str | None
    reason: str | None
    day: int
    measured: Rate
    shown: float
    truth: float
    covered: bool


def make_lists(world: World, arm: str) -> Lists:
    """Return every shopper's list by an arm."""
    snapshot = with_arm(snapshot_of(world.model, []), arm)
    rows, ids = [], []
    for name in world.model.purchases.shopper_ids:
        request = RecommendationRequest(shopper_id=name, count=LENGTH)
        served = serve_list(snapshot, request, 0)
        rows.append(served.row)
        ids.append([one.item_id for one in served.answer.items])
    place = world.model.catalogue.index_of
    items = np.array([[place(item) for item in some] for some in ids], np.int64)
    shown = np.take_along_axis(world.clicks, items, axis=1)
    return Lists(rows, ids, items, float(shown.mean()))


def run_experiment(
    world: World, lists: Mapping[str, Lists], design: Design, seed: int, folder: Path | None = None
) -> Outcome:
    """Run four weeks of an experiment.

    Args:
        world: The shop.
        lists: By arm; of both.
        design: The experiment's.
        seed: Of the visits and what came of them; another gives other arms to shoppers, too.
        folder: With the shop's model, if it is kept somewhere already.
    """
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        if folder is None:
            folder = Path(place) / "model"
            save_shop_model(world.model, folder)
        store = Store(f"sqlite:///{place}/events.db")
        try:
            return _Run(world, lists, design, store, LiveShop(folder, store)).outcome(random, seed)
        finally:
            store.close()


@dataclass(eq=False)
class _Run:
    world: World
    lists: Mapping[str, Lists]
    design: Design
    store: Store
    live: LiveShop
    arms: dict[int, Assigned] = field(default_factory=dict)

    def outcome(self, random: np.random.Generator, seed: int) -> Outcome:
        experiments = Experiments(self.store, self.live, OPENING)
        experiments.start(f"run-{seed}", self.design, OPENING)
        visits = draw_visits(len(self.world.clicks), VISITS, random)
        baseline, challenger = self.design.baseline, self.design.challenger
        effect = self.lists[challenger].truth - self.lists[baseline].truth
        covered = True
        chances: list[float] = []
        for day in range(DAYS):
            evening = OPENING + (day + 1) * DAY
            today = [one for one in visits if evening - DAY <= one.time < evening]
            chances += self._trade(today, experiments, random)
            if (day + 1) % EVERY:
                continue
            figures = experiments.figures(experiments.all()[0], evening).effect
            if figures.low is not None and figures.high is not None:
                covered &= figures.low <= effect <= figures.high
            if experiments.look(evening) is not None:
                break
        ended = experiments.all()[0]
        measured = measure_online(self.store.engine, Where(variant=baseline)).clicks
        shown = float(np.mean(chances))
        return Outcome(
            ended.winner,
            ended.reason,
            day + 1,
            measured,
            shown,
            self.lists[baseline].truth,
            covered,
        )

    def _trade(
        self, visits: list[Visit], experiments: Experiments, random: np.random.Generator
    ) -> list[float]:
        """Serve the visits of a day; return the chances of what the baseline showed."""
        events: list[NewEvent] = []
        chances: list[float] = []
        for time, shopper in visits:
            who = self.world.model.purchases.shopper_ids[shopper]
            assigned = self.arms.get(shopper)  # it never changes: asked for once
            if assigned is None:
                assigned = experiments.assigned(self.live.snapshot, who)
                self.arms[shopper] = assigned
            made = self.lists[assigned.variant]
            name = random.bytes(16).hex()
            mine = {
                "recommendation_id": name,
                "time": time,
                "variant": assigned.variant,
                "experiment": assigned.experiment,
            }
            self.store.lists.add({**made.rows[shopper], **mine})
            reactions = react(self.world.clicks, shopper, made.items[shopper].tolist(), random)
            events += [
                NewEvent(time=time, shopper_id=who, **one)
                for one in events_of(name, made.ids[shopper], reactions)
            ]
            if assigned.variant == self.design.baseline:
                chances += self.world.clicks[shopper, made.items[shopper]].tolist()
        self.store.add_events(events)
        return chances


def design_of(baseline: str, challenger: str, *guardrails: str) -> Design:
    """Return the design that the service takes where nothing else is said, with some guardrails."""
    return Design(
        baseline=baseline,
        challenger=challenger,
        window_days=7.0,
        level=0.05,
        guardrails=dict.fromkeys(guardrails, 0.2),
    )


@dataclass(frozen=True)
class Repeated:
    """What came of an experiment that was run many times.

    Attributes:
        runs: How many.
        winners: How often each arm won; "" is a run that ended undecided.
        reasons: How often for which reason.
        last_day: The median day on which a run ended.
        shown_covered: In how many runs /v1/online's 95% interval held the chance of what was shown.
        truth_covered: In how many it held the shop's click-through with that arm.
        effect_covered: In how many the effect's interval held the true effect at every look.
    """

    runs: int
    winners: Mapping[str, int]
    reasons: Mapping[str, int]
    last_day: float
    shown_covered: int
    truth_covered: int
    effect_covered: int


def repeat(
    worlds: Sequence[tuple[World, Mapping[str, Lists]]], design: Design, runs: int
) -> Repeated:
    """Run an experiment `runs` times, by turns in each of several shops."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / f"{number}" / "model" for number in range(len(worlds))]
        for (world, _), folder in zip(worlds, folders, strict=True):
            save_shop_model(world.model, folder)
        for run in range(runs):
            world, lists = worlds[run % len(worlds)]
            found.append(run_experiment(world, lists, design, run, folders[run % len(worlds)]))

    def holds(rate: Rate, truth: float) -> bool:
        return rate.low is not None and rate.high is not None and rate.low <= truth <= rate.high

    return Repeated(
        runs,
        Counter(one.winner or "" for one in found),
        Counter(one.reason or "" for one in found),
        float(np.median([one.day for one in found])),
        sum(holds(one.measured, one.shown) for one in found),
        sum(holds(one.measured, one.truth) for one in found),
        sum(one.covered for one in found),
    )


def make_worlds(count: int) -> list[tuple[World, Mapping[str, Lists]]]:
    """Return shops with their lists by arm."""
    found = []
    for seed in range(count):
        world = make_world(seed)
        release = make_lists(world, RELEASE)
        found.append((world, {OWN: make_lists(world, OWN), RELEASE: release, SAME: release}))
    return found
