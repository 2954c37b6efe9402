"""Measure and print: python -m simulations.traffic, or make traffic."""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t

from client.serving.experiments.arms import OWN, RELEASE
from simulations.traffic.fed_back import MODELS, measure_gain
from simulations.traffic.over_http import four_weeks, online, running_shop
from simulations.traffic.repeats import (
    SAME,
    VISITS,
    Repeated,
    design_of,
    make_worlds,
    online_coverage,
    repeat,
)
from simulations.traffic.visits import OPENING, draw_visits
from simulations.traffic.world import SETTINGS, make_world

SHOPS = 5
HTTP_SHOPPERS = 500


def main() -> None:
    """Run what is asked for; all of it takes some minutes on two cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each experiment")
    parser.add_argument("--seeds", type=int, default=7, help="of the round on fed-back events")
    parser.add_argument("--parts", nargs="+", default=["http", "experiments", "round"])
    parser.add_argument("--first-seed", type=int, default=200, help="of those rounds")
    given = parser.parse_args()
    if "http" in given.parts:
        _over_http()
    if "experiments" in given.parts:
        _experiments(given.runs)
    if "round" in given.parts:
        _round(range(given.first_seed, given.first_seed + given.seeds))


def _over_http() -> None:
    """Four weeks through HTTP: /v1/online beside the truth."""
    world = make_world(0, replace(SETTINGS, min_shoppers=HTTP_SHOPPERS, max_shoppers=HTTP_SHOPPERS))
    random = np.random.default_rng(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_shop(world.model, Path(folder), OPENING) as shop,
    ):
        visits = draw_visits(len(world.clicks), VISITS, random)
        names = world.model.purchases.shopper_ids
        found = four_weeks(shop, visits, world.clicks, names, random)
        told = online(shop)
    clicks = told["clicks"]
    print(  # noqa: T201 -- a benchmark's output
        f"Through HTTP: {len(visits)} lists, {told['impressions']} items seen; {clicks['count']} "
        f"clicks counted of {found.clicked} made, {told['conversions']['count']} bought of "
        f"{found.bought}. Click-through {clicks['rate']:.4f} ({clicks['low']:.4f} to "
        f"{clicks['high']:.4f}), true {found.chances.mean():.4f}.",
        flush=True,
    )


def _round(seeds: range) -> None:
    """A round with and without what came back, on several marketplaces."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure_gain(seed, Path(folder), Path(folder) / "cache"))
        one = found[-1]
        print(  # noqa: T201 -- a benchmark's output
            f"Seed {seed}: {one.purchases} purchases came back. Tail recall@10 "
            + ", ".join(
                f"{model} {one.without[model]:.4f} then {one.fed_back[model]:.4f}"
                for model in MODELS
            ),
            flush=True,
        )
    for model in MODELS:
        gains = np.array([one.fed_back[model] - one.without[model] for one in found])
        half = t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
        mean = gains.mean()
        print(  # noqa: T201 -- a benchmark's output
            f"Gain of {model} over {len(gains)} seeds: {mean:+.4f} (95% {mean - half:+.4f} to "
            f"{mean + half:+.4f}).",
            flush=True,
        )


def _experiments(runs: int) -> None:
    worlds = make_worlds(SHOPS)
    for world, lists in worlds:
        tail = {arm: world.model.tail[one.items].mean() for arm, one in lists.items()}
        print(  # noqa: T201 -- a benchmark's output
            "A shop: click-through "
            + ", ".join(
                f"{arm} {one.truth:.4f} (tail {tail[arm]:.2f})" for arm, one in lists.items()
            )
        )
    times = 10 * runs
    shown, truth = online_coverage(worlds, times)
    print(  # noqa: T201 -- a benchmark's output
        f"Of {times} times four weeks the 95% interval of /v1/online held the chance of what was "
        f"shown in {shown}, the shop's click-through in {truth}.",
        flush=True,
    )
    plans = (
        ("release or own, conversion guarded", design_of(RELEASE, OWN, "conversion"), runs),
        ("release or release", design_of(RELEASE, SAME, "conversion", "tail_share"), runs),
        (
            "release or own, tail share guarded too",
            design_of(RELEASE, OWN, "conversion", "tail_share"),
            max(runs // 5, 1),
        ),
    )
    for title, design, times in plans:
        _print(title, repeat(worlds, design, times))


def _print(title: str, found: Repeated) -> None:
    winners = ", ".join(f"{arm or 'undecided'} {n}" for arm, n in sorted(found.winners.items()))
    reasons = ", ".join(f"{why or 'undecided'} {n}" for why, n in sorted(found.reasons.items()))
    print(  # noqa: T201 -- a benchmark's output
        f"{title}: of {found.runs} runs {winners} ({reasons}); median day {found.last_day:g}. "
        f"The effect's interval held the truth at every look in {found.effect_covered}.",
        flush=True,
    )


if __name__ == "__main__":
    main()
