"""The chance that a shopper buys an item it has not bought, from the fused score.

The chance is about a period as long as the validation period, on which the curves are fitted; they
stay on the merchant's machine. Head and tail have a curve each: fusion lifts items that sell
little, so the same score stands for fewer clicks there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.shop.histories import Histories, histories
from client.shop.interactions import Interactions
from client.shop.splitting import Cases
from common.evaluation.calibration import ClickCurve, fit_click_curve

MAX_PAIRS = 4_000_000  # of shopper and item, held at a time: above it, evenly spaced shoppers

Score = Callable[[Histories], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Shoppers and items they had not bought before, a row each.

    Attributes:
        score: float32 [n].
        clicked: bool [n], whether the item was bought in the period.
        tail: bool [n], whether it is a tail item.
    """

    score: NDArray[np.float32]
    clicked: NDArray[np.bool_]
    tail: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClickChances:
    """A curve for head items and one for tail items."""

    head: ClickCurve
    tail: ClickCurve

    def of(self, score: NDArray[np.floating], tail: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the chances [n] of scores [n] of items that are `tail` [n] or not."""
        return np.where(tail, self.tail(score), self.head(score))


def pairs_of(
    score: Score,
    before: Interactions,
    cases: Cases,
    tail: NDArray[np.bool_],
    max_pairs: int = MAX_PAIRS,
) -> Pairs:
    """Return all pairs of a case and an item it has not seen; of many cases, evenly spaced ones.

    Args:
        score: From histories to scores [cases, items].
        before: The purchases that the histories are made of.
        cases: Who is asked, and what they went on to buy.
        tail: bool [items].
        max_pairs: The most pairs.
    """
    count = min(len(cases), max(max_pairs // max(len(tail), 1), 1))
    chosen = cases.take(np.linspace(0, len(cases) - 1, count).round().astype(np.int64))
    scores = score(histories(before, chosen.shoppers))
    unseen = ~chosen.seen.astype(bool).toarray()
    clicked = chosen.relevant.astype(bool).toarray()
    tails = np.broadcast_to(tail, scores.shape)
    return Pairs(scores[unseen], clicked[unseen], tails[unseen])


def fit_chances(pairs: Pairs) -> ClickChances | None:
    """Fit both curves; None without a pair of either kind."""
    if pairs.tail.all() or not pairs.tail.any():
        return None
    head = ~pairs.tail
    return ClickChances(
        fit_click_curve(pairs.score[head], pairs.clicked[head]),
        fit_click_curve(pairs.score[pairs.tail], pairs.clicked[pairs.tail]),
    )
