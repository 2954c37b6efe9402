"""What a shop gets by how many orders it has: client/recommending/orders_curves.json, measured.

Each run's held-out merchants, which had no part in its release, are cut to N orders and fitted as
any shop is. They are judged on all shoppers of their test period, each with its whole history, as a
shop's server would send it: what grows with N is what the shop knows of the others.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from client.ranking.baselines import EASE_STRENGTHS, fit_popularity
from client.ranking.released_vectors import ReleasedVectors, released_vectors
from client.ranking.shop_fit import ShopFit
from client.ranking.text_ease import choose_text_ease
from client.recommending.expected_benefit import (
    CURVES_FILE,
    ExpectedBenefit,
    OrdersCurve,
    Share,
    curves_json,
)
from client.shop.histories import histories
from client.shop.interactions import Interactions
from client.shop.splitting import evaluation_cases, split_interactions
from common.catalogue import Buckets
from common.errors import FedtailError, InputError
from common.evaluation.bootstrap import bootstrap_mean
from common.evaluation.scorecard import Scorecard, evaluate_scores, pool
from common.files import write_atomic
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from simulations.data.datasets import load_dataset
from simulations.data.partition import PartitionKind, Sizes, partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import shared_buckets
from simulations.evaluation.held_out import hold_out
from simulations.evaluation.shared_parts import Scores
from simulations.results.schema import Results, load_results

ORDERS: Final = (0, 30, 100, 300, 1000)
FILE: Final = Path(__file__).parents[2] / "client" / "recommending" / CURVES_FILE
SEED: Final = 0
_MODELS: Final = ("fused", "own", "popularity")


@dataclass(frozen=True, eq=False)
class _Case:
    """One held-out merchant, with its items under the release."""

    shop: Shop
    vectors: ReleasedVectors
    buckets: Buckets


def orders_curve(
    data: Path, runs: Sequence[Path], cache: Path, orders: Sequence[int] = ORDERS
) -> OrdersCurve:
    """Return the curve of a data set.

    Args:
        data: Where it lies, as the runs read it.
        runs: Folders of finished simulations with held-out merchants, of one kind.
        cache: Folder of encodings.
        orders: At how many orders to measure.

    Raises:
        InputError: if a run held nobody out, or a shop has fewer orders than are asked for.
    """
    results = [load_results(run / "results.json") for run in runs]
    cases = [
        case
        for run, told in zip(runs, results, strict=True)
        for case in _held_out(data, run, told, cache)
    ]
    first = results[0]
    merchants, epsilon = (_number(first, name) for name in ("merchants", "epsilon"))
    return OrdersCurve(
        data=first.dataset.name,
        shops=len(cases),
        shoppers=sum(len(case.shop.test_cases) for case in cases),
        items=len(cases[0].shop.data.catalogue),
        merchants=int(merchants),
        epsilon=epsilon,
        points=tuple(_point(count, cases) for count in orders),
    )


def _held_out(data: Path, run: Path, told: Results, cache: Path) -> Iterator[_Case]:
    """Yield a run's held-out merchants, dealt again as the run dealt them."""
    if told.held_out is None:
        raise InputError(f"{run.name}: this run held no merchant out.", field="runs")
    seed, apart = int(_number(told, "seed")), len(told.held_out.merchants)
    whole = load_dataset(data, seed=seed, cache=cache / "imports")
    parts = partition_merchants(
        whole,
        how=TypeAdapter[PartitionKind](PartitionKind).validate_python(told.settings["partition"]),
        merchants=int(_number(told, "merchants")) + apart,
        seed=seed,
        sizes=TypeAdapter[Sizes](Sizes).validate_python(told.settings.get("sizes", "equal")),
    )
    release = verify_release(run / "release", PublicKey.load(run / "operator.pub"))
    shops = [Shop.of(part) for part in hold_out(parts, apart, seed)[1]]
    buckets = shared_buckets(shops)
    for shop in shops:
        vectors = released_vectors(release, shop.data.catalogue, cache)
        yield _Case(shop, vectors, buckets[shop.name])


def _number(told: Results, name: str) -> float:
    return float(str(told.settings[name]))


def _point(orders: int, cases: Sequence[_Case]) -> ExpectedBenefit:
    found = [_evaluated(case, orders) for case in cases]
    by_model = {model: [one[model] for one in found] for model in _MODELS}
    return ExpectedBenefit(
        orders=orders,
        found=_share(by_model["fused"], "recall@10"),
        found_in_tail=_share(by_model["fused"], "tail_recall@10"),
        best_sellers_found=_share(by_model["popularity"], "recall@10"),
        own_model_found=_share(by_model["own"], "recall@10"),
        own_model_found_in_tail=_share(by_model["own"], "tail_recall@10"),
    )


def _evaluated(case: _Case, orders: int) -> Mapping[str, Scorecard]:
    """Fit a shop on so many orders, and judge it on its whole test period."""
    shop, data = case.shop, case.shop.data
    past = first_orders(shop.past, orders)
    split = split_interactions(past, data.split_rule)
    fitted_on = evaluation_cases(split.train, split.valid)
    fit = ShopFit(split.train, fitted_on, past, case.vectors.frozen)
    ranker = fit.fit(case.vectors.adapted, case.vectors.decay).ranker
    # EASE by way of its factors, as many as there are shoppers: a small shop takes no time.
    candidates = [(l2, 0.0) for l2 in EASE_STRENGTHS]
    early = choose_text_ease(split.train.matrix(), case.vectors.frozen, fitted_on, candidates)
    own = early.refitted(past.matrix(), case.vectors.frozen)
    popularity = fit_popularity(past.matrix())
    cases, history = shop.test_cases, histories(shop.past, shop.test_cases.shoppers)

    def judged(score: Scores) -> Scorecard:
        return evaluate_scores(
            lambda rows: score(history.take(rows)), cases.seen, cases.relevant, case.buckets
        )

    return {
        "fused": judged(ranker.score),
        "own": judged(lambda some: own.score(some.bought())),
        "popularity": judged(lambda some: popularity.score(some.bought())),
    }


def first_orders(past: Interactions, orders: int) -> Interactions:
    """Return the orders of shoppers who come in a drawn order, whole shoppers but for the last.

    Fewer orders are always a part of more.

    Raises:
        InputError: if there are not so many.
    """
    baskets = np.stack([past.shopper, past.basket])
    distinct, place = np.unique(baskets, axis=1, return_inverse=True)
    if orders > distinct.shape[1]:
        raise InputError(
            f"A shop has {distinct.shape[1]} orders; {orders} were asked for.", field="orders"
        )
    turn = np.random.default_rng(SEED).permutation(past.shopper_count)
    kept = np.zeros(distinct.shape[1], bool)
    kept[np.lexsort((distinct[1], turn[distinct[0]]))[:orders]] = True
    return past.where(kept[place.ravel()])


def _share(scorecards: Sequence[Scorecard], metric: str) -> Share:
    found = bootstrap_mean(pool(scorecards).per_shopper[metric], seed=SEED)
    shops = [one.means()[metric] for one in scorecards]
    numbers = (found.mean, found.low, found.high, min(shops), max(shops))
    mean, low, high, worst, best = (round(float(one), 4) for one in numbers)
    return Share(mean=mean, low=low, high=high, worst_shop=worst, best_shop=best)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a curve for each data set named, and write the package's file."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.results_page.orders_curve", description=__doc__
    )
    parser.add_argument(
        "--of", nargs="+", action="append", type=Path, required=True, metavar="PATH",
        help="a data set and the folders of its runs; repeat it",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, required=True, help="folder of encodings")
    parser.add_argument("--out", type=Path, default=FILE, help="the file that is written")
    asked = parser.parse_args(arguments)
    try:
        curves = [orders_curve(data, runs, asked.cache) for data, *runs in asked.of]
    except FedtailError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_atomic(asked.out, curves_json(curves))
    sys.stdout.write(f"written: {asked.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
