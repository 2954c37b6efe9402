"""From scorecards of every model to the numbers of results.json."""

from collections.abc import Mapping, Sequence
from itertools import product

from common.evaluation.bootstrap import bootstrap_mean, paired_bootstrap
from common.evaluation.scorecard import Scorecard, pool
from simulations.evaluation.evaluator import ShopJudge
from simulations.results.measures import (
    SPREAD_METRICS,
    Difference,
    Interval,
    Intervals,
    MerchantResult,
)

BASELINES = (
    "popularity",
    "local_ease",
    "ease_trend",
    "frozen_text",
    "gated_frozen",
    "solo_adapter",
)
DIALLED_AGAINST = ("local_ease", "frozen_text", "gated_frozen_dialled")
COMPARED = (
    *product(("adapter", "fused"), BASELINES),
    *product(("fused_dialled",), DIALLED_AGAINST),
)
COMPARED_METRICS = ("ndcg@10", "tail_recall@10", "head_recall@10", "cold_recall@10")
RESAMPLES = 2000

Cards = Mapping[str, Sequence[Scorecard]]


def pooled_metrics(cards: Cards) -> dict[str, dict[str, float]]:
    """Return each model's metrics over the shoppers of all merchants."""
    return {model: dict(pool(list(of_shops)).means()) for model, of_shops in cards.items()}


def intervals(cards: Cards, seed: int) -> Intervals:
    """Return every mean's interval, and paired differences of our models to each baseline."""
    pooled = {model: pool(list(of_shops)) for model, of_shops in cards.items()}
    metrics = {
        model: {
            metric: Interval(**vars(bootstrap_mean(values, seed=seed, resamples=RESAMPLES)))
            for metric, values in card.per_shopper.items()
        }
        for model, card in pooled.items()
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
    cards: Cards, judges: Sequence[ShopJudge], declared_shoppers: int
) -> list[MerchantResult]:
    """Return each merchant's share of the test."""
    results = []
    for place, judge in enumerate(judges):
        means = {model: of_shops[place].means() for model, of_shops in cards.items()}
        results.append(
            MerchantResult(
                name=judge.shop.name,
                shoppers=declared_shoppers,
                cases=len(judge.shop.test_cases.shoppers),
                metrics={
                    model: {metric: values[metric] for metric in SPREAD_METRICS}
                    for model, values in means.items()
                },
            )
        )
    return results
