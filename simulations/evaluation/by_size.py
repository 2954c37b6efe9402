"""What joining brings to merchants by their size: the smallest are why there is a federation."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import numpy as np

from common.evaluation.bootstrap import paired_bootstrap
from common.evaluation.scorecard import Scorecard, pool
from simulations.evaluation.scoring import best_without_others
from simulations.results.measures import ALONE, JOINED, SPREAD_METRICS, Difference
from simulations.results.sections import SizeGains

SIZES: Final = (10, 30, 100, 300, 1000, 3000, 10_000)
RESAMPLES: Final = 2000


def size_of(shoppers: int) -> int:
    """Return which of SIZES is nearest, by ratio: 55 to 173 shoppers are about 100."""
    return min(SIZES, key=lambda size: abs(np.log(max(shoppers, 1) / size)))


def gains_by_size(
    scorecards: Mapping[str, Sequence[Scorecard]], shoppers: Sequence[int], seed: int
) -> tuple[SizeGains, ...]:
    """Return what joining brings over the best alone, for merchants of about one size each.

    The best alone is chosen within a size, on the same test shoppers: what is best at a large
    merchant need not be so at a small one.

    Args:
        scorecards: By model, one scorecard a merchant.
        shoppers: How many each merchant had before the test, in that order.
        seed: Of the bootstrap.
    """
    sizes = [size_of(one) for one in shoppers]
    return tuple(
        _gains(size, [place for place, one in enumerate(sizes) if one == size],
               scorecards, shoppers, seed)
        for size in sorted(set(sizes))
    )  # fmt: skip


def _gains(
    size: int,
    places: Sequence[int],
    scorecards: Mapping[str, Sequence[Scorecard]],
    shoppers: Sequence[int],
    seed: int,
) -> SizeGains:
    pooled = {
        model: pool([of_shops[place] for place in places])
        for model, of_shops in scorecards.items()
        if model in (*ALONE, *JOINED)
    }
    means = {model: dict(one.means()) for model, one in pooled.items()}
    alone = best_without_others(means) or next(
        model for model in ALONE if model in pooled
    )  # nobody bought anything
    joined = [model for model in JOINED if model in pooled]
    return SizeGains(
        size=size,
        merchants=len(places),
        smallest=min(shoppers[place] for place in places),
        largest=max(shoppers[place] for place in places),
        cases=len(pooled[alone].per_shopper["ndcg@10"]),
        alone=alone,
        metrics={
            model: {metric: means[model][metric] for metric in SPREAD_METRICS}
            for model in (alone, *joined)
        },
        gains=tuple(
            Difference(
                model=model,
                baseline=alone,
                metric=metric,
                **vars(
                    paired_bootstrap(
                        pooled[model].per_shopper[metric],
                        pooled[alone].per_shopper[metric],
                        seed=seed,
                        resamples=RESAMPLES,
                    )
                ),
            )
            for model, metric in product(joined, SPREAD_METRICS)
        ),
    )
