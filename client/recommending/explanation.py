"""Why an item is recommended: the exact parts of its score, and a sentence for the shopper.

    score_j = a_j * z(own)_j + g_j * z(told)_j + p_j + n_j

own is the shop's collaborative model, told the text, z a shopper's scores with mean 0 and deviation
1 over the catalogue, a and g how loud the gate lets each be, p the sales trend (popularity, for
somebody of whom nothing is known), n what an item is given that never sold. own and told are sums
over the history: item i adds B_ij, or w_i (f_i . x_j) / |sum_i w_i f_i|. So the score is too:

    score_j = sum_i [ a_j (B_ij - mean_j B_ij) / sd(own)
                      + g_j w_i f_i . (x_j - mean_j x_j) / (|pooled| sd(told)) ] + p_j + n_j

Each part says how much more a bought item speaks for j than for the average item of the catalogue,
so no constant is left over. All is computed in float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker, TextTaste, deviations
from client.shop.histories import Histories
from common.catalogue import Catalogue
from common.errors import InputError

CHUNK_ITEMS = 8192  # candidate vectors held in float64 at a time
_TINY = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Loudness:
    """How the gate adds the parts of one shopper's score.

    This is all that an explanation knows of the gate: whatever decides the numbers, the score is
    linear in the two standardised parts once they are known.

    Attributes:
        own: float64 [items], weight of the collaborative part.
        told: float64 [items], weight of the text.
        trend: float64 [items], what the sales trend adds, whatever the history.
        unsold: float64 [items], what is added to an item that never sold.
    """

    own: Floats
    told: Floats
    trend: Floats
    unsold: Floats


def loudness_of(ranker: FusedRanker) -> Loudness:
    """Return how `ranker`'s gate adds the parts."""
    gate = ranker.gate
    return Loudness(
        np.full(len(ranker.sales), gate.own),
        gate.text_weights(ranker.sales).astype(np.float64),
        gate.trend * ranker.trend.astype(np.float64),
        np.where(ranker.sales == 0, gate.unsold, 0.0),
    )


@dataclass(frozen=True)
class HistoryPart:
    """What one bought item adds to a score.

    Attributes:
        item: Its index.
        own: Through the shop's own model of what goes together: from what its shoppers bought, and
            from titles where they bought little.
        text: Through what the two texts say.
    """

    item: int
    own: float
    text: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.own + self.text


@dataclass(frozen=True)
class Explanation:
    """The parts of one item's score for one shopper; they add up to it within 1e-6.

    Attributes:
        item: The item's index.
        score: Its score.
        history: One part for each bought item that ranking looked at, the largest first.
        trend: The sales trend's part; 0 without a history.
        unsold: What an item that never sold is given; 0 without a history, and for all others.
        popularity: What its sales add: all of the score without a history, else 0.
        text_weight: How loud the gate lets the text be for this item.
    """

    item: int
    score: float
    history: tuple[HistoryPart, ...]
    trend: float
    unsold: float
    popularity: float
    text_weight: float

    @property
    def own(self) -> float:
        """The collaborative part."""
        return sum(part.own for part in self.history)

    @property
    def text(self) -> float:
        """The text's part."""
        return sum(part.text for part in self.history)

    def because(self, catalogue: Catalogue) -> str:
        """Return the chief reason as a sentence that may be shown to the shopper."""
        first = self.history[0] if self.history else None
        if first is None or first.total <= 0 or first.total < self.trend:
            if self.trend > 0:
                return "Selling more than usual lately."
            if self.unsold > 0:
                return "Nobody has bought it here yet."
            return "Popular in this shop." if self.popularity > 0 else "The best of what is left."
        title = catalogue.items[first.item].title
        if first.own > first.text:
            return f"Because you bought {title}: they go together."
        return f"Because you bought {title}: the two have much in common."


class ShopperScores:
    """One shopper's scores of the whole catalogue, and the parts of each.

    Attributes:
        scores: float64 [items].
    """

    scores: Floats

    def __init__(self, ranker: FusedRanker, history: Histories) -> None:
        """Score the catalogue for one history.

        An empty history says nothing of anybody: the shop's best sellers come first then.

        Raises:
            InputError: if `history` is not that of one shopper.
        """
        if len(history) != 1:
            raise InputError(
                f"{len(history)} histories were given; one is needed.", field="history"
            )
        self._items = history.item
        self._loud = loudness_of(ranker)
        self._popularity = np.zeros(len(ranker.sales))
        if not len(history.item):
            sales = ranker.sales.astype(np.float64)
            self._popularity = (sales - sales.mean()) * _scale(sales)
            self._loud.trend[:] = self._loud.unsold[:] = 0
        self._rows = ranker.collaborative.rows(history.item)
        self._row_means = self._rows.mean(axis=1, dtype=np.float64)
        own = self._rows.sum(axis=0, dtype=np.float64)
        self._own_scale = _scale(own)

        self._candidates = ranker.text.candidate_vectors
        self._centre = self._candidates.mean(axis=0, dtype=np.float64)
        self._queries = _queries(ranker.text, history)
        told = _products(self._candidates, self._queries.sum(axis=0))
        self._told_scale = _scale(told)
        self.scores = (
            self._loud.own * (own - own.mean()) * self._own_scale
            + self._loud.told * (told - told.mean()) * self._told_scale
            + self._loud.trend
            + self._loud.unsold
            + self._popularity
        )

    def explain(self, item: int) -> Explanation:
        """Return the parts of one item's score, each computed from its own history item."""
        own = (self._rows[:, item] - self._row_means) * self._own_scale * self._loud.own[item]
        towards = self._candidates[item].astype(np.float64) - self._centre
        told = self._queries @ towards * self._told_scale * self._loud.told[item]
        parts = [
            HistoryPart(*one)
            for one in zip(self._items.tolist(), own.tolist(), told.tolist(), strict=True)
        ]
        return Explanation(
            item,
            float(self.scores[item]),
            tuple(sorted(parts, key=lambda part: (-part.total, part.item))),
            float(self._loud.trend[item]),
            float(self._loud.unsold[item]),
            float(self._popularity[item]),
            float(self._loud.told[item]),
        )


def _queries(text: TextTaste, history: Histories) -> Floats:
    """Return each bought item's share of the shopper's taste u: float64 [h, d]; they sum to u."""
    weight = np.power(text.decay, history.age)
    pulls = (weight / max(weight.sum(), _TINY))[:, None] * text.history_vectors[history.item]
    shares: Floats = pulls / max(float(np.linalg.norm(pulls.sum(axis=0))), _TINY)
    return shares


def _products(vectors: NDArray[np.float32], direction: Floats) -> Floats:
    """Return vectors @ direction in float64 without a float64 copy of all vectors: [items]."""
    starts = range(0, len(vectors), CHUNK_ITEMS)
    return np.concatenate(
        [vectors[start : start + CHUNK_ITEMS].astype(np.float64) @ direction for start in starts]
    )


def _scale(scores: Floats) -> float:
    """Return 1 / deviation, 0 where scores do not vary, as ranking sees it."""
    return 1 / float(deviations(scores[None])[0, 0])
