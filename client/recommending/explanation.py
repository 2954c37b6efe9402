"""Why an item is recommended: the parts of its score, and a sentence for the shopper.

The parts are those of `client.ranking.fusion`, which made the score. Its collaborative part and its
text part are sums over the history: bought item i adds

    a_j (B_ij - mean_j B_ij) / sd(collaborative)        and
    g_j w_i f_i . (x_j - mean_j x_j) / (|pooled| sd(text))

to the score of item j, where a and g are the fusion weights and B, w, f and x are the collaborative
model's and the text's. So each says how much more a bought item speaks for j than for the average
item of the catalogue, and no constant is left over.

What float32 rounds away, some 10⁻⁶, is added to the largest share. So the shares, summed in float64
and rounded to float32, are the part bit by bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker, ScoreParts, Standardised
from client.shop.histories import Histories
from common.catalogue import Catalogue
from common.errors import InputError

Reason = Literal[
    "trend", "season", "federated_season", "cold_start", "popular", "left", "together", "alike"
]
REASONS: Mapping[Reason, str] = {
    "trend": "Selling more than usual lately.",
    "season": "What is like it sells well here lately.",
    "federated_season": "What is like it sells more than usual in other shops lately.",
    "cold_start": "Nobody has bought it here yet.",
    "popular": "Popular in this shop.",
    "left": "The best of what is left.",
    "together": "Because you bought {title}: they go together.",
    "alike": "Because you bought {title}: the two have much in common.",
}


@dataclass(frozen=True)
class HistoryPart:
    """What one bought item adds to a score.

    Attributes:
        item: Its index.
        collaborative: Through the shop's own model of what goes together: from what its shoppers
            bought, and from titles where they bought little.
        text: Through what the two texts say.
    """

    item: int
    collaborative: float
    text: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.collaborative + self.text


@dataclass(frozen=True)
class Explanation:
    """The parts of one item's score for one shopper, float32 numbers.

    (collaborative + text) + (((trend + cold_start) + popularity) + (season + federated_season)) in
    float32 is the score.

    Attributes:
        item: The item's index.
        score: Its score.
        history: One part for each bought item that ranking looked at, the largest first.
        collaborative: The collaborative part; the history's add up to it in float64.
        text: The text's part; the history's add up to it in float64.
        trend: The sales trend's part; 0 without a history.
        cold_start: What a cold-start item is given; 0 without a history, and for all others.
        popularity: What its sales add: all of the score without a history, else 0.
        season: What the season of the shop's own sales adds; 0 without a history.
        federated_season: What the release's season adds; 0 without a history.
        text_weight: The text's weight for this item.
    """

    item: int
    score: float
    history: tuple[HistoryPart, ...]
    collaborative: float
    text: float
    trend: float
    cold_start: float
    popularity: float
    season: float
    federated_season: float
    text_weight: float

    @property
    def parts(self) -> dict[str, float]:
        """The numbers that add up to the score, by name."""
        return {name: getattr(self, name) for name in ScoreParts._fields}

    @property
    def reason(self) -> Reason:
        """What speaks most for the item."""
        first = self.history[0] if self.history else None
        lately: dict[Reason, float] = {
            "trend": self.trend,
            "season": self.season,
            "federated_season": self.federated_season,
        }
        chief = max(lately, key=lambda reason: lately[reason])
        if first is None or first.total <= 0 or first.total < lately[chief]:
            if lately[chief] > 0:
                return chief
            if self.cold_start > 0:
                return "cold_start"
            return "popular" if self.popularity > 0 else "left"
        return "together" if first.collaborative > first.text else "alike"

    def because(self, catalogue: Catalogue) -> str:
        """Return the chief reason as a sentence that may be shown to the shopper."""
        title = catalogue.items[self.history[0].item].title if self.history else ""
        return REASONS[self.reason].format(title=title)


class ShopperScores:
    """One shopper's scores of the whole catalogue, and the parts of those that are asked for.

    Attributes:
        scores: float32 [items].
    """

    scores: NDArray[np.float32]

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
        self._ranker, self._history = ranker, history
        self._signals = ranker.signals(history)
        self._parts = ranker.weighted(self._signals)
        self.scores = self._parts.total()[0]

    def explain(self, items: Sequence[int] | NDArray[np.integer]) -> list[Explanation]:
        """Return the parts of the scores of `items`, in that order."""
        ranker, history, wanted = self._ranker, self._history, np.asarray(items, np.int64)
        text_weights = ranker.text_weights[wanted]
        parts = self._parts.of(wanted)
        added = (
            _shares(
                ranker.collaborative.shares(history.item, wanted) * ranker.weights.collaborative,
                self._signals.collaborative,
                parts.collaborative,
            ),
            _shares(
                ranker.text.shares(history, wanted) * text_weights, self._signals.text, parts.text
            ),
        )
        found = []
        for place, item in enumerate(wanted.tolist()):
            columns = (shares[:, place].tolist() for shares in added)
            by_item = [
                HistoryPart(*one) for one in zip(history.item.tolist(), *columns, strict=True)
            ]
            by_item.sort(key=lambda part: (-part.total, part.item))
            numbers = {name: float(part[place]) for name, part in parts._asdict().items()}
            score, weight = float(self.scores[item]), float(text_weights[place])
            found.append(Explanation(item, score, tuple(by_item), text_weight=weight, **numbers))
        return found


def _shares(
    weighted: NDArray[np.float64], signal: Standardised, part: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return what each bought item adds to `part` [k], whose sum it is: float64 [h, k]."""
    # Rounded, so that they do not depend on which other items are explained.
    shares = (weighted / float(signal.deviation[0, 0])).astype(np.float32).astype(np.float64)
    if len(shares):
        largest = np.abs(shares).argmax(axis=0)
        shares[largest, np.arange(len(part))] += part - shares.sum(axis=0)
    return shares
