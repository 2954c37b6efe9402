"""A few recommendations for a person to look at: made-up shoppers, or histories nobody had."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker
from client.recommending.filters import best_eligible
from client.recommending.recommender import find_item
from client.shop.histories import Histories, histories, typed_history
from common.catalogue import Buckets
from simulations.evaluation.evaluator import ShopEvaluator
from simulations.results.measures import Bucket
from simulations.results.schema import Example, Recommendation

EXAMPLES = 5  # of the first merchants: of the others no ranker is kept
SHOWN = 5
HISTORY_SHOWN = 4


def example_recommendations(
    evaluators: Sequence[ShopEvaluator],
    rankers: Sequence[FusedRanker],
    *,
    synthetic: bool,
    typed: Sequence[str] = (),
) -> list[Example]:
    """Return examples over the merchants in turn.

    Synthetic shoppers may be shown. Of real data a history is shown only if somebody typed it;
    without one, each example's history is a single item taken from the catalogue at even steps,
    which is nobody's.
    """
    examples = []
    for number in range(EXAMPLES):
        place = number % len(evaluators)
        evaluator, ranker = evaluators[place], rankers[place]
        catalogue = evaluator.shop.data.catalogue
        if typed:
            items = [find_item(catalogue, name) for name in typed]
            examples.append(
                _example(evaluator, ranker, typed_history(items, len(catalogue)), "typed")
            )
            break
        if synthetic:
            chosen = evaluator.shop.test_cases.shoppers[number :: len(evaluators)][:1]
            if not len(chosen):
                continue  # a small shop may have nobody in the test
            found, past = histories(evaluator.shop.past, chosen), evaluator.shop.past
            bought = past.item[np.isin(past.shopper, chosen)]  # a history is the latest items only
            examples.append(_example(evaluator, ranker, found, "synthetic", bought))
        else:
            item = (number * 2 + 1) * len(catalogue) // (2 * EXAMPLES)
            examples.append(
                _example(evaluator, ranker, typed_history([item], len(catalogue)), "typed")
            )
    return examples


def _example(
    evaluator: ShopEvaluator,
    ranker: FusedRanker,
    history: Histories,
    origin: str,
    bought: NDArray[np.integer] | None = None,
) -> Example:
    catalogue = evaluator.shop.data.catalogue
    parts = ranker.parts(history)
    total = parts.total()[0]
    eligible = np.ones(len(catalogue), dtype=bool)
    eligible[history.item if bought is None else bought] = False
    best = best_eligible(total, eligible, SHOWN)
    shown = parts.of(best)._asdict()
    return Example(
        merchant=evaluator.shop.name,
        origin=origin,
        history=[catalogue.items[item].title for item in history.item[-HISTORY_SHOWN:]],
        recommendations=[
            Recommendation(
                title=catalogue.items[item].title,
                score=float(total[item]),
                parts={name: float(part[place]) for name, part in shown.items() if part.any()},
                bucket=bucket_of(evaluator.buckets, item),
            )
            for place, item in enumerate(best.tolist())
        ],
    )


def bucket_of(buckets: Buckets, item: int) -> Bucket:
    """Return an item's bucket; a cold one is named cold, though it is tail too."""
    if buckets.cold[item]:
        return "cold"
    return "tail" if buckets.tail[item] else "head"
