"""From scorecards of every model to the numbers of results.json."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from common.adapter import AdapterState
from common.evaluation.bootstrap import bootstrap_mean, paired_bootstrap
from common.evaluation.scorecard import Scorecard, pool
from simulations.evaluation.evaluator import ShopEvaluator
from simulations.results.measures import (
    ALONE,
    JOINED,
    SPREAD_METRICS,
    Difference,
    Interval,
    Intervals,
    MerchantResult,
    best_alone,
)

BOOSTED_AGAINST = ("local_ease", "frozen_text", "fused_frozen_boosted")
COMPARED = (
    *product(JOINED, ALONE),
    *product(("fused_boosted",), BOOSTED_AGAINST),
)
COMPARED_METRICS = ("ndcg@10", "tail_recall@10", "head_recall@10", "cold_recall@10")
RESAMPLES = 2000

Scorecards = Mapping[str, Sequence[Scorecard]]


def pooled_metrics(scorecards: Scorecards) -> dict[str, dict[str, float]]:
    """Return each model's metrics over the shoppers of all merchants."""
    return {model: dict(pool(list(of_shops)).means()) for model, of_shops in scorecards.items()}


def best_without_others(metrics: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return `best_alone` of metrics in which what is undefined is NaN."""
    return best_alone(
        {
            model: {"ndcg@10": None if math.isnan(of["ndcg@10"]) else of["ndcg@10"]}
            for model, of in metrics.items()
        }
    )


def intervals(scorecards: Scorecards, seed: int) -> Intervals:
    """Return every mean's interval, and paired differences of our models to each baseline."""
    pooled = {model: pool(list(of_shops)) for model, of_shops in scorecards.items()}
    metrics = {
        model: {
            metric: Interval(**vars(bootstrap_mean(values, seed=seed, resamples=RESAMPLES)))
            for metric, values in scorecard.per_shopper.items()
        }
        for model, scorecard in pooled.items()
    }
    differences = []
    for (model, baseline), metric in product(COMPARED, COMPARED_METRICS):
        if model in pooled and baseline in pooled:
            found = paired_bootstrap(
                pooled[model].per_shopper[metric],
                pooled[baseline].per_shopper[metric],
                seed=seed,
                resamples=RESAMPLES,
            )
            differences.append(
                Difference(model=model, baseline=baseline, metric=metric, **vars(found))
            )
    return Intervals(
        confidence=0.95,
        method=f"percentile bootstrap over test cases, {RESAMPLES} resamples; differences paired",
        metrics=metrics,
        differences=differences,
    )


def merchant_results(
    scorecards: Scorecards, evaluators: Sequence[ShopEvaluator], size_bracket: int
) -> list[MerchantResult]:
    """Return each merchant's share of the test."""
    results = []
    for place, evaluator in enumerate(evaluators):
        means = {model: of_shops[place].means() for model, of_shops in scorecards.items()}
        results.append(
            MerchantResult(
                name=evaluator.shop.name,
                shoppers=size_bracket,
                cases=len(evaluator.shop.test_cases.shoppers),
                past_shoppers=evaluator.shop.node_data.shopper_count,
                metrics={
                    model: {metric: values[metric] for metric in SPREAD_METRICS}
                    for model, values in means.items()
                },
            )
        )
    return results


def validation_means(
    evaluators: Sequence[ShopEvaluator], adapter: AdapterState
) -> tuple[float, float]:
    """Return NDCG@10 and tail recall@10 over all merchants' validation cases."""
    scores = [evaluator.validation_scores(adapter) for evaluator in evaluators]
    ndcg = np.concatenate([one[0] for one in scores])
    tail = np.concatenate([one[1] for one in scores])
    return _mean(ndcg), _mean(tail)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
