"""Four weeks of an experiment, many times: does it end on the better arm, and on none of equals?

A list depends on the shopper and the arm alone while the model stays, so each is ranked once, and
four weeks are drawn as arrays. `through_the_store` serves and writes them as the routes do, a row
and events for each visit, and has the service's own code look at the experiment each evening.
`directly` counts the same arrays and asks the same test: a hundred times faster. A test holds the
two equal, list by list and figure by figure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.recommending.shop_model import save_shop_model
from client.serving.experiments.arms import OTHER, OWN, RELEASE, with_arm
from client.serving.experiments.design import (
    Decision,
    Design,
    Figures,
    ShopperCounts,
    decide,
    figures_of,
)
from client.serving.experiments.running import Experiments
from client.serving.feedback.daily_rows import DAY
from client.serving.feedback.online import Rate
from client.serving.feedback.store import NewEvent, Store
from client.serving.lists import serve_list
from client.serving.live_shop import LiveShop, snapshot_of
from client.serving.messages import RecommendationRequest
from client.shop.histories import histories
from common.evaluation.metrics import rank_scores
from simulations.traffic.visits import (
    BOUGHT_AFTER_CLICK,
    DAYS,
    OPENING,
    Reaction,
    draw_visits,
    events_of,
)
from simulations.traffic.world import World, make_world

LENGTH = 5  # of a list
VISITS = 2.5  # of a shopper in four weeks, on average
SAME = f"{OTHER}model"  # the folder that serves: another name for the release, for a test of equals


@dataclass(frozen=True, eq=False)
class Lists:
    """Every shopper's list by an arm.

    Attributes:
        items: int64 [shoppers, LENGTH], the items' indices.
        tail: bool [shoppers, LENGTH], whether each is outside the head.
        truth: The shop's click-through with this arm: the mean chance of what it shows.
    """

    items: NDArray[np.int64]
    tail: NDArray[np.bool_]
    truth: float


@dataclass(frozen=True, eq=False)
class FourWeeks:
    """All visits, in order of time, and what came of each list.

    Attributes:
        time: int64 [visits], microseconds since 1970 UTC.
        shopper: int64 [visits].
        challenged: bool [visits], whether the shopper has the challenger.
        chances: float64 [visits, LENGTH] of a click.
        clicked: bool [visits, LENGTH].
        bought: bool [visits, LENGTH].
        tail: bool [visits, LENGTH], whether the item is outside the head.
    """

    time: NDArray[np.int64]
    shopper: NDArray[np.int64]
    challenged: NDArray[np.bool_]
    chances: NDArray[np.float64]
    clicked: NDArray[np.bool_]
    bought: NDArray[np.bool_]
    tail: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """How one experiment ended.

    Attributes:
        decision: The arm that all got, and why; None if it ran to the end of the four weeks.
        day: The day it ended on, from 1.
        looks: The figures of each evening.
    """

    decision: Decision | None
    day: int
    looks: tuple[Figures, ...]


def make_lists(world: World, arm: str) -> Lists:
    """Return every shopper's list by an arm."""
    model = with_arm(snapshot_of(world.model, []), arm).model
    bought, everybody = model.purchases.matrix(), np.arange(len(world.clicks))
    known = histories(model.purchases, everybody)
    ranking = rank_scores(lambda rows: model.ranker.score(known.take(rows)), bought, LENGTH)
    items = ranking.items.astype(np.int64)
    tail = model.tail | (model.ranker.sales == 0)
    shown = np.take_along_axis(world.clicks, items, axis=1)
    return Lists(items, tail[items], float(shown.mean()))


def draw_four_weeks(
    world: World,
    baseline: Lists,
    challenger: Lists,
    challenged: NDArray[np.bool_],
    random: np.random.Generator,
) -> FourWeeks:
    """Draw who comes when and what they do; `challenged` [shoppers] says who has which arm."""
    visits = draw_visits(len(world.clicks), VISITS, random)
    time, shopper = np.array(visits, np.int64).T
    second = challenged[shopper]
    items, tail = (
        np.where(second[:, None], there[shopper], here[shopper])
        for here, there in ((baseline.items, challenger.items), (baseline.tail, challenger.tail))
    )
    chances = world.clicks[shopper[:, None], items]
    draws = random.random((2, *chances.shape))
    clicked = draws[0] < chances
    bought = clicked & (draws[1] < BOUGHT_AFTER_CLICK)
    return FourWeeks(time, shopper, second, chances, clicked, bought, tail)


def directly(weeks: FourWeeks, design: Design) -> Outcome:
    """Count four weeks shopper by shopper and ask the test each evening, without a store."""
    shoppers = int(weeks.shopper.max()) + 1
    first = np.full(shoppers, np.iinfo(np.int64).max - design.window)
    np.minimum.at(first, weeks.shopper, weeks.time)
    inside = weeks.time < first[weeks.shopper] + design.window
    who = weeks.shopper[inside]
    sums = [
        np.bincount(who, one[inside].sum(axis=1), shoppers).astype(np.int64)
        for one in (np.ones_like(weeks.clicked), weeks.clicked, weeks.bought, weeks.tail)
    ]
    challenged = np.zeros(shoppers, dtype=bool)
    challenged[weeks.shopper] = weeks.challenged
    looks = []
    for day in range(1, DAYS + 1):
        over = first + design.window <= OPENING + day * DAY
        arms = (over & ~challenged, over & challenged)
        looks.append(
            figures_of(design, *(ShopperCounts(*(one[mine] for one in sums)) for mine in arms))
        )
        decision = decide(design, looks[-1])
        if decision is not None:
            return Outcome(decision, day, tuple(looks))
    return Outcome(None, DAYS, tuple(looks))


def through_the_store(
    world: World, lists: Mapping[str, Lists], design: Design, seed: int, folder: Path
) -> tuple[Outcome, FourWeeks]:
    """Run one experiment in the service's own store and code, in `folder`; return it all."""
    random = np.random.default_rng(seed)
    save_shop_model(world.model, folder / "model")
    store = Store(f"sqlite:///{folder}/events.db")
    try:
        live = LiveShop(folder / "model", store)
        experiments = Experiments(store, live, OPENING)
        experiments.start("run", design, OPENING)
        names = world.model.purchases.shopper_ids
        arms = [experiments.assigned(live.snapshot, name).variant for name in names]
        challenged = np.array([arm == design.challenger for arm in arms])
        pair = lists[design.baseline], lists[design.challenger]
        weeks = draw_four_weeks(world, *pair, challenged, random)
        day_of = (weeks.time - OPENING) // DAY
        looks = []
        for day in range(1, DAYS + 1):
            serving = _Serving(store, live, experiments, names)
            serving.trade(weeks, np.flatnonzero(day_of == day - 1), pair)
            evening = OPENING + day * DAY
            looks.append(experiments.figures(experiments.all()[0], evening))
            if experiments.look(evening) is not None:
                break
        ended = experiments.all()[0]
        reason: Any = ended.reason
        decision = None if ended.winner is None else Decision(ended.winner, reason)
        return Outcome(decision, day, tuple(looks)), weeks
    finally:
        store.close()


@dataclass(frozen=True, eq=False)
class _Serving:
    """The parts of a service that make and keep lists."""

    store: Store
    live: LiveShop
    experiments: Experiments
    names: Sequence[str]

    def trade(
        self, weeks: FourWeeks, visits: NDArray[np.int64], lists: tuple[Lists, Lists]
    ) -> None:
        """Serve visits as the routes do: a list and its row, then its events."""
        events: list[NewEvent] = []
        for visit in visits.tolist():
            shopper, time = int(weeks.shopper[visit]), int(weeks.time[visit])
            who = self.names[shopper]
            request = RecommendationRequest(shopper_id=who, count=LENGTH)
            assigned = self.experiments.assigned(self.live.snapshot, who)
            snapshot = self.experiments.armed(self.live.snapshot, assigned.variant)
            served = serve_list(snapshot, request, time, assigned=assigned)
            self.store.lists.add(served.row)
            ids = [one.item_id for one in served.answer.items]
            place = snapshot.model.catalogue.index_of
            wanted = lists[bool(weeks.challenged[visit])].items[shopper].tolist()
            if [place(item) for item in ids] != wanted:
                raise AssertionError("the list that was served is not the one that was ranked")
            pairs = zip(weeks.clicked[visit].tolist(), weeks.bought[visit].tolist(), strict=True)
            reactions = [Reaction(number, *one) for number, one in enumerate(pairs)]
            events += [
                NewEvent(time=time, shopper_id=who, **one)
                for one in events_of(served.answer.recommendation_id, ids, reactions)
            ]
        self.store.add_events(events)


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
        effect_covered: In how many the effect's interval held the true effect at every look.
    """

    runs: int
    winners: Mapping[str, int]
    reasons: Mapping[str, int]
    last_day: float
    effect_covered: int


def repeat(
    worlds: Sequence[tuple[World, Mapping[str, Lists]]], design: Design, runs: int
) -> Repeated:
    """Run an experiment `runs` times, by turns in each of several shops."""
    outcomes, covered = [], 0
    for run in range(runs):
        world, lists = worlds[run % len(worlds)]
        baseline, challenger = lists[design.baseline], lists[design.challenger]
        random = np.random.default_rng((17, run))
        challenged = random.random(len(world.clicks)) < 0.5
        weeks = draw_four_weeks(world, baseline, challenger, challenged, random)
        outcomes.append(directly(weeks, design))
        difference = challenger.truth - baseline.truth
        known = [one.effect for one in outcomes[-1].looks if one.effect.low is not None]
        covered += all((one.low or 0) <= difference <= (one.high or 0) for one in known)
    decisions = [one.decision for one in outcomes]
    return Repeated(
        runs,
        Counter(one.winner if one else "" for one in decisions),
        Counter(one.reason if one else "" for one in decisions),
        float(np.median([one.day for one in outcomes])),
        covered,
    )


def online_coverage(
    worlds: Sequence[tuple[World, Mapping[str, Lists]]], runs: int
) -> tuple[int, int]:
    """Return how often the 95% interval of `/v1/online` held the truth, in `runs` times four weeks.

    Returns:
        In how many runs it held the mean chance of what was shown, and in how many the shop's
        click-through, to which who came and how often adds chance.
    """
    shown = truth = 0
    for run in range(runs):
        world, lists = worlds[run % len(worlds)]
        release, random = lists[RELEASE], np.random.default_rng((99, run))
        nobody = np.zeros(len(world.clicks), dtype=bool)
        weeks = draw_four_weeks(world, release, release, nobody, random)
        rate = Rate.of(int(weeks.clicked.sum()), weeks.clicked.size)
        shown += _holds(rate, float(weeks.chances.mean()))
        truth += _holds(rate, release.truth)
    return shown, truth


def make_worlds(count: int) -> list[tuple[World, Mapping[str, Lists]]]:
    """Return shops with their lists by arm."""
    found: list[tuple[World, Mapping[str, Lists]]] = []
    for seed in range(count):
        world = make_world(seed)
        release = make_lists(world, RELEASE)
        found.append((world, {OWN: make_lists(world, OWN), RELEASE: release, SAME: release}))
    return found


def _holds(rate: Rate, truth: float) -> bool:
    return rate.low is not None and rate.high is not None and rate.low <= truth <= rate.high
