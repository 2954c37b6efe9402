"""How evenly a federation serves its merchants, and what each gains over what it had alone."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import numpy as np

from common.evaluation.bootstrap import paired_bootstrap
from common.evaluation.scorecard import Scorecard, spread
from simulations.results.measures import ALONE, SPREAD_METRICS, Interval, SpreadMetric
from simulations.results.sections import Fairness, MerchantGain, ModelSpread, OwnBest

JOINED: Final = "fused"
OWN_BEST_CASES: Final = 100  # below it an interval of one merchant says nothing
COMPARED: Final = (  # what joining brings: like against like
    ("adapter", "frozen_text"),
    ("adapter", "solo_adapter"),
    ("fused", "local_ease"),
    ("fused", "own_alone"),
    ("fused", "fused_frozen"),
)


def fairness(
    scorecards: Mapping[str, Sequence[Scorecard]],
    merchants: Sequence[str],
    *,
    seed: int,
    resamples: int = 2000,
) -> Fairness:
    """Return how models spread over merchants, and each merchant's gains.

    A merchant counts once, whatever its size; one without a value is left out.

    Args:
        scorecards: By model, one scorecard a merchant.
        merchants: Their names, in that order.
        seed: Of the bootstrap.
        resamples: How many.
    """
    spreads = []
    for model, of_shops in scorecards.items():
        found = spread(dict(zip(merchants, of_shops, strict=True)))
        for metric in SPREAD_METRICS:
            name, worst = found.worst.get(metric, ("", float("nan")))
            spreads.append(
                ModelSpread(
                    model=model,
                    metric=metric,
                    mean=found.mean[metric],
                    worst=worst,
                    worst_merchant=name,
                )
            )
    gains = [
        _gain(scorecards, merchants, pair, metric, seed=seed, resamples=resamples)
        for pair, metric in product(COMPARED, SPREAD_METRICS)
        if set(pair) <= set(scorecards)
    ]
    return Fairness(
        spreads=spreads,
        gains=[one for one in gains if one is not None],
        own_best=_own_best(scorecards, merchants, seed=seed, resamples=resamples),
    )


def _own_best(
    scorecards: Mapping[str, Sequence[Scorecard]],
    merchants: Sequence[str],
    *,
    seed: int,
    resamples: int,
) -> OwnBest | None:
    """Return how the joined model does against each merchant's own best without the others.

    Which that is, is chosen by NDCG@10 on the merchant's own test. Chance helps it, so the joined
    model has the harder part.
    """
    baselines = [model for model in ALONE if model in scorecards]
    if JOINED not in scorecards or not baselines:
        return None
    found = {}
    for place, name in enumerate(merchants):
        ours = scorecards[JOINED][place].per_shopper["ndcg@10"]
        if len(ours) < OWN_BEST_CASES:
            continue
        alone = [scorecards[model][place].per_shopper["ndcg@10"] for model in baselines]
        best = max(alone, key=lambda values: float(np.nanmean(values)))
        found[name] = paired_bootstrap(ours, best, seed=seed, resamples=resamples)
    worst = min(found, key=lambda name: found[name].mean, default="")
    return OwnBest(
        model=JOINED,
        metric="ndcg@10",
        min_cases=OWN_BEST_CASES,
        merchants=len(found),
        better=sum(one.low > 0 for one in found.values()),
        worse=sum(one.high < 0 for one in found.values()),
        worst=Interval(**vars(found[worst])) if found else None,
        worst_merchant=worst,
    )


def _gain(
    scorecards: Mapping[str, Sequence[Scorecard]],
    merchants: Sequence[str],
    pair: tuple[str, str],
    metric: SpreadMetric,
    *,
    seed: int,
    resamples: int,
) -> MerchantGain | None:
    """Return one comparison over merchants, None if no merchant has it."""
    found = {}
    for name, ours, theirs in zip(merchants, *(scorecards[model] for model in pair), strict=True):
        values = [scorecard.per_shopper[metric] for scorecard in (ours, theirs)]
        one = paired_bootstrap(*values, seed=seed, resamples=resamples)
        if not np.isnan(one.mean):
            found[name] = one
    if not found:
        return None
    means = [one.mean for one in found.values()]
    worst = min(found, key=lambda name: found[name].mean)
    return MerchantGain(
        model=pair[0],
        baseline=pair[1],
        metric=metric,
        merchants=len(found),
        ahead=sum(mean > 0 for mean in means),
        median=float(np.median(means)),
        worst=Interval(**vars(found[worst])),
        worst_merchant=worst,
    )
