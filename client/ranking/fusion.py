"""Rank a merchant's catalogue for a shopper: user embedding and the shop's own purchases, fused.

    score = own * z(collaborative) + (level + rise * 3 / (3 + sales)) * z(text)
            + trend * rising + unsold * [sales = 0]

z makes each part's scores over the catalogue mean 0 and deviation 1 for a shopper, so that the two
can be added. Where an item sells little, `rise` lets the text speak louder; `rising` is how much
more it sells lately than it used to. What never sold has no purchases and no trend to speak for it,
which says nothing against it: `unsold` makes up for that. The gate's numbers stay on the merchant's
machine.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.ranking.baselines import LinearScorer
from client.ranking.model_selection import clearly_better
from client.ranking.sales_trend import sales_trend
from client.ranking.validation import FloatMatrix, Validation
from client.shop.histories import Histories
from client.shop.interactions import Interactions
from common.errors import InputError

DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
FEW_SALES = 3  # at so many sales the text's rise is half
ROUNDING = 2.0**-20  # of the largest score: equal scores come out of a float32 product so far apart


@dataclass(frozen=True, eq=False)
class TextTaste:
    """Scores by what titles say: u of a history against the frozen candidates.

    Attributes:
        history_vectors: float32 [items, d], f of each item under an adapter, or frozen.
        candidate_vectors: float32 [items, d], frozen.
        decay: Weight of a basket one older.
    """

    history_vectors: FloatMatrix
    candidate_vectors: FloatMatrix
    decay: float = 1.0

    def taste(self, history: Histories) -> FloatMatrix:
        """Return u: unit vectors [shoppers, d]; zeros where there is no history."""
        pooled = np.asarray(history.weights(self.decay) @ self.history_vectors)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(norms, 1e-12), dtype=np.float32)

    def score(self, history: Histories) -> FloatMatrix:
        """Return cosine similarities [shoppers, items]."""
        return np.asarray(self.taste(history) @ self.candidate_vectors.T)


@dataclass(frozen=True)
class Gate:
    """How loud each part speaks.

    Attributes:
        own: Weight of the collaborative part.
        level: Weight of the text for an item that sells much.
        rise: What is added to it for an item that never sold, half of it at FEW_SALES.
        trend: Weight of an item's sales trend.
        unsold: What is added to the score of an item that never sold.
    """

    own: float = 1.0
    level: float = 0.6
    rise: float = 0.15
    trend: float = 3.0
    unsold: float = 3.0

    def turned(self, tail_boost: float) -> "Gate":
        """Return the gate at a merchant's tail boost: 0 head, 1 as fitted, 2 tail.

        Raises:
            InputError: if it is not in [0, 2].
        """
        if not 0 <= tail_boost <= 2:
            raise InputError(
                f"The tail boost is {tail_boost}; it must be from 0 to 2.", field="tail_boost"
            )
        return replace(self, rise=self.rise * tail_boost, unsold=self.unsold * tail_boost)

    def text_weights(self, sales: NDArray[np.integer]) -> FloatMatrix:
        """Return the text's weight for each item: float32 [items]."""
        return (self.level + self.rise * FEW_SALES / (FEW_SALES + sales)).astype(np.float32)

    def weighed(
        self, own: FloatMatrix, text: FloatMatrix, sales: NDArray[np.integer], trend: FloatMatrix
    ) -> tuple[FloatMatrix, FloatMatrix, FloatMatrix, FloatMatrix]:
        """Return the parts of the score: own, text [shoppers, items], trend, unsold [items].

        Args:
            own: float32 [shoppers, items], standardised.
            text: float32 [shoppers, items], standardised.
            sales: int64 [items].
            trend: float32 [items].
        """
        return (
            own * np.float32(self.own),
            text * self.text_weights(sales),
            trend * np.float32(self.trend),
            (sales == 0) * np.float32(self.unsold),
        )


@dataclass(frozen=True, eq=False)
class FusedRanker:
    """Text taste, a collaborative model and the sales trend, gated.

    Attributes:
        text: The text part.
        collaborative: The shop's own model of what is bought together.
        gate: How they are added.
        sales: int64 [items], training sales at this merchant.
        trend: float32 [items], as `client.ranking.sales_trend`.
    """

    text: TextTaste
    collaborative: LinearScorer
    gate: Gate
    sales: NDArray[np.int64]
    trend: FloatMatrix

    @classmethod
    def of(
        cls, text: TextTaste, collaborative: LinearScorer, gate: Gate, past: Interactions
    ) -> "FusedRanker":
        """Return a ranker whose sales and trend are those of `past`."""
        return cls(text, collaborative, gate, past.item_counts(), sales_trend(past))

    def parts(
        self, history: Histories
    ) -> tuple[FloatMatrix, FloatMatrix, FloatMatrix, FloatMatrix]:
        """Return the parts that add up to the score, as `Gate.weighed`."""
        return self.gate.weighed(*self.unweighed(history), self.sales, self.trend)

    def unweighed(self, history: Histories) -> tuple[FloatMatrix, FloatMatrix]:
        """Return own and text as the gate reads them: standardised, [shoppers, items]."""
        own = standardised(self.collaborative.score(history.bought()))
        return own, standardised(self.text.score(history))

    def score(self, history: Histories) -> FloatMatrix:
        """Return scores [shoppers, items]."""
        own, text, trend, unsold = self.parts(history)
        return own + text + (trend + unsold)


def standardised(scores: FloatMatrix) -> FloatMatrix:
    """Return each row with mean 0 and deviation 1; zeros if it varies no more than by rounding."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    return np.asarray(centred / deviations(scores), dtype=np.float32)


def deviations(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return each row's deviation [rows, 1]; infinite, to divide by, if it is but rounding."""
    found = scores.std(axis=1, keepdims=True)
    largest = np.abs(scores).max(axis=1, keepdims=True)
    return np.where(found > ROUNDING * largest, found, np.inf)


def fit_decay(
    history_vectors: FloatMatrix,
    candidate_vectors: FloatMatrix,
    validation: Validation,
    usual: float = 1.0,
) -> TextTaste:
    """Return the user embedding of a merchant, its decay fitted on its validation period.

    Args:
        history_vectors: See `TextTaste`.
        candidate_vectors: See there.
        validation: Cases.
        usual: The decay of training, public. It stands unless another ranks the validation period
            better beyond chance.
    """
    taste = TextTaste(history_vectors, candidate_vectors, usual)
    if not len(validation.history):
        return taste
    default = validation.ndcg(taste.score(validation.history))
    others = [replace(taste, decay=decay) for decay in DECAYS if decay != usual]
    found = [validation.ndcg(other.score(validation.history)) for other in others]
    best = int(np.argmax([one.mean() for one in found]))
    return others[best] if clearly_better(found[best], default) else taste
