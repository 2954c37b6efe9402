"""The score of an item for a shopper: text and the shop's own purchases, fused.

    score = (c * z(collaborative) + (text + tail * 3 / (3 + sales)) * z(text))
            + ((trend * growth + cold_start * [sales = 0])
               + (season * min(z(own season), 1.5) * 10 / (10 + sales) + elsewhere))
    elsewhere = federated_season * reliability * min(z(federated season), 1.5) * 40 / (40 + sales)
                + trend * (what federated_prior * reliability * z(federated season) adds to growth)

z makes each part's scores over the catalogue mean 0 and deviation 1 for a shopper, so that the two
can be added. Where an item sells little, the tail weight lets the text count more; `growth` is how
much more it sells lately than it used to. A season says the same of an item's text: what is like it
sells more of late, here or in all shops of a federation, and counts less where the item's own sales
tell more; the federation's counts as far as it is neither noise nor stale
(`ItemSeason.reliability`). The latter is added, and may be what a growth is taken to be before the
shop has sold the item. A cold-start item, which never sold, has no purchases and no trend to speak
for it, which says nothing against it: a bonus makes up for that. A shopper of whom nothing is known
gets z(sales), the shop's best sellers, instead.

This is the one place where a score is made. All of it is float32, added in the order above, so the
parts of `FusedRanker.parts` add up to `FusedRanker.score` bit by bit, and a shopper's score is the
same alone as among others. The weights stay on the merchant's machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.sales_trend import SalesTrend, sales_trend
from client.ranking.season import Seasons, seasons
from client.ranking.text_scorer import TextScorer
from client.ranking.validation import FloatMatrix
from client.shop.histories import Histories
from client.shop.interactions import Interactions
from common.errors import InputError
from common.season import NoisedVector

FEW_SALES = 3  # at so many sales half of the tail weight is added to the text's
ROUNDING = 2.0**-20  # of the largest score: equal scores come out of a float32 product so far apart


class CollaborativeModel(Protocol):
    """A model of what is bought together whose score is a sum over the history."""

    def score(self, history: csr_matrix) -> FloatMatrix:
        """Return scores [cases, items] for what each case bought, CSR [cases, items] of ones."""
        ...

    def shares(
        self, history: NDArray[np.integer], items: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return what each bought item [h] adds to `items` [k] above the average: [h, k]."""
        ...


@dataclass(frozen=True)
class FusionWeights:
    """How much each part counts.

    Attributes:
        collaborative: Weight of the shop's own model of what is bought together.
        text: Weight of the text for an item that sells much.
        tail: What is added to it for a cold-start item, half of it at FEW_SALES.
        trend: Weight of an item's sales trend.
        cold_start: What is added to the score of a cold-start item.
        season: Weight of the season of the shop's own sales.
        federated_season: Weight of the season that a release has.
        federated_prior: How much an item's trend is taken to be before any evidence, for each
            deviation of that season.
    """

    collaborative: float = 1.0
    text: float = 0.6
    tail: float = 0.15
    trend: float = 3.0
    cold_start: float = 2.5
    season: float = 0.5
    federated_season: float = 0.75
    federated_prior: float = 0.0

    def boosted(self, tail_boost: float) -> "FusionWeights":
        """Return the weights at a merchant's tail boost: 0 head, 1 as fitted, 2 tail.

        Raises:
            InputError: if it is not in [0, 2].
        """
        if not 0 <= tail_boost <= 2:
            raise InputError(
                f"The tail boost is {tail_boost}; it must be from 0 to 2.", field="tail_boost"
            )
        return replace(self, tail=self.tail * tail_boost, cold_start=self.cold_start * tail_boost)

    def text_weights(self, sales: NDArray[np.integer]) -> FloatMatrix:
        """Return the text's weight for each item: float32 [items]."""
        return (self.text + self.tail * FEW_SALES / (FEW_SALES + sales)).astype(np.float32)


class ScoreParts(NamedTuple):
    """The parts of a score, float32; each is [shoppers, items] or [1, items], the same for all."""

    collaborative: FloatMatrix
    text: FloatMatrix
    trend: FloatMatrix
    cold_start: FloatMatrix
    popularity: FloatMatrix
    season: FloatMatrix
    federated_season: FloatMatrix

    def total(self) -> FloatMatrix:
        """Return the score [shoppers, items], added in the order that makes it the same bits."""
        alike = self.trend + self.cold_start + self.popularity
        alike = alike + (self.season + self.federated_season)
        return self.collaborative + self.text + alike

    def of(self, items: NDArray[np.integer] | Sequence[int]) -> "ScoreParts":
        """Return the parts of one shopper's `items` [k]: float32 [k] each."""
        return ScoreParts(*(part[0, items] for part in self))


class Standardised(NamedTuple):
    """Scores with mean 0 and deviation 1 in each row, and what they were divided by."""

    scores: FloatMatrix  # [rows, items]
    deviation: FloatMatrix  # [rows, 1]; infinite where a row varies no more than by rounding

    def take(self, rows: slice) -> "Standardised":
        """Return some rows."""
        return Standardised(self.scores[rows], self.deviation[rows])


@dataclass(frozen=True, eq=False)
class Signals:
    """What is known of shoppers before it is weighted.

    Attributes:
        collaborative: Of the shop's own model, [shoppers, items].
        text: Of the titles, [shoppers, items].
        known: bool [shoppers, 1], whether there is a history; [1, 1] if all have one.
    """

    collaborative: Standardised
    text: Standardised
    known: NDArray[np.bool_]

    def take(self, rows: slice) -> "Signals":
        """Return those of some shoppers in a row."""
        known = self.known if len(self.known) == 1 else self.known[rows]
        return Signals(self.collaborative.take(rows), self.text.take(rows), known)


@dataclass(frozen=True, eq=False)
class FusedRanker:
    """Text, a collaborative model and the sales trend, fused.

    Attributes:
        text: The text part.
        collaborative: The shop's own model of what is bought together.
        weights: How they are added.
        sales: int64 [items], training sales at this merchant.
        trend: Of these sales.
        season: What is known of the season.
    """

    text: TextScorer
    collaborative: CollaborativeModel
    weights: FusionWeights
    sales: NDArray[np.int64]
    trend: SalesTrend
    season: Seasons

    @classmethod
    def of(
        cls,
        text: TextScorer,
        collaborative: CollaborativeModel,
        weights: FusionWeights,
        past: Interactions,
        federated: NoisedVector | None = None,
    ) -> "FusedRanker":
        """Return a ranker whose sales, trend and own season are those of `past`.

        Args:
            text: The text part.
            collaborative: The shop's own model.
            weights: How they are added.
            past: The shop's purchases.
            federated: The season vector of a release, if it has one.
        """
        season = seasons(past, text.candidate_vectors, federated)
        return cls(text, collaborative, weights, past.item_counts(), sales_trend(past), season)

    def score(self, history: Histories) -> FloatMatrix:
        """Return scores: float32 [shoppers, items]."""
        return self.parts(history).total()

    def parts(self, history: Histories) -> ScoreParts:
        """Return the parts that add up to the score."""
        return self.weighted(self.signals(history))

    def signals(self, history: Histories) -> Signals:
        """Return what the weights are applied to."""
        own = standardised(self.collaborative.score(history.bought()))
        return self.signals_of(own, standardised(self.text.score(history)), history)

    @staticmethod
    def signals_of(own: Standardised, text: Standardised, history: Histories) -> Signals:
        """Return the signals of histories whose scores by either part are known already."""
        known = np.diff(history.starts)[:, None] > 0
        return Signals(own, text, known[:1] if known.all() else known)

    def weighted(self, signals: Signals) -> ScoreParts:
        """Return the parts of the score of shoppers whose signals are known."""
        known, nothing = signals.known, np.float32(0)
        alike = (
            np.where(known, self._trend_part, nothing),
            np.where(known, self._cold_start_part, nothing),
            np.where(known, nothing, self._popularity),
            np.where(known, self._season_part, nothing),
            np.where(known, self._federated_part, nothing),
        )
        return ScoreParts(
            signals.collaborative.scores * np.float32(self.weights.collaborative),
            signals.text.scores * self.text_weights,
            *alike,
        )

    @cached_property
    def text_weights(self) -> FloatMatrix:
        """The text's weight for each item: float32 [items]."""
        return self.weights.text_weights(self.sales)

    @cached_property
    def _trend_part(self) -> FloatMatrix:
        part: FloatMatrix = self.trend.trend * np.float32(self.weights.trend)
        return part

    @cached_property
    def _seasons(self) -> tuple[FloatMatrix, FloatMatrix]:
        return self.season.counted(self.sales)

    @cached_property
    def _season_part(self) -> FloatMatrix:
        part: FloatMatrix = self._seasons[0] * np.float32(self.weights.season)
        return part

    @cached_property
    def _federated_part(self) -> FloatMatrix:
        weights = self.weights
        part: FloatMatrix = self._seasons[1] * np.float32(weights.federated_season)
        if weights.federated_prior:
            season = self.season.federated
            prior = season.scores * np.float32(weights.federated_prior * season.reliability)
            part = part + self.trend.shifted_by(prior) * np.float32(weights.trend)
        return part

    @cached_property
    def _cold_start_part(self) -> FloatMatrix:
        part: FloatMatrix = (self.sales == 0) * np.float32(self.weights.cold_start)
        return part

    def with_weights(self, weights: FusionWeights) -> "FusedRanker":
        """Return the ranker with other weights."""
        return replace(self, weights=weights)

    @cached_property
    def _popularity(self) -> FloatMatrix:
        return standardised(self.sales[None].astype(np.float32)).scores


def standardised(scores: FloatMatrix) -> Standardised:
    """Return each row with mean 0 and deviation 1; zeros if it varies no more than by rounding."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True))
    largest = np.maximum(scores.max(axis=1, keepdims=True), -scores.min(axis=1, keepdims=True))
    deviation = np.where(spread > ROUNDING * largest, spread, np.float32(np.inf))
    centred /= deviation
    return Standardised(centred, deviation)
