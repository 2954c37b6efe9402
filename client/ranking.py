"""Rank a merchant's catalogue for a shopper: text taste and the shop's own purchases, fused.

    score = z(collaborative) + (level + rise / (1 + sales)) * z(text)

z makes each part's scores over the catalogue mean 0 and deviation 1 for a shopper, so that the two
can be added. The gate's two numbers are fitted on the merchant's own validation period and stay on
its machine; where an item sells little, `rise` lets the text speak louder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.collaborative import EaseModel
from client.histories import Histories
from common.catalogue import popularity_buckets
from common.metrics import ndcg, rank_scores, recall

DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5)
RISES = (0.0, 0.5, 1.0, 2.0)
CHUNK = 512  # shoppers scored at once

FloatMatrix = NDArray[np.float32]


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
    """How loud the text speaks beside the shop's own purchases: level + rise / (1 + sales)."""

    level: float
    rise: float

    def weights(self, sales: NDArray[np.integer]) -> FloatMatrix:
        """Return the text's weight for each item: float32 [items]."""
        return (self.level + self.rise / (1.0 + sales)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FusedRanker:
    """Text taste and a collaborative model, gated.

    Attributes:
        text: The text part.
        collaborative: The shop's own EASE.
        gate: How they are added.
        sales: int64 [items], training sales at this merchant.
    """

    text: TextTaste
    collaborative: EaseModel
    gate: Gate
    sales: NDArray[np.int64]

    def parts(self, history: Histories) -> tuple[FloatMatrix, FloatMatrix]:
        """Return the two parts [shoppers, items] that add up to the score."""
        text = standardised(self.text.score(history)) * self.gate.weights(self.sales)
        return standardised(self.collaborative.score(history.bought())), text

    def score(self, history: Histories) -> FloatMatrix:
        """Return scores [shoppers, items]."""
        collaborative, text = self.parts(history)
        return collaborative + text


def standardised(scores: FloatMatrix) -> FloatMatrix:
    """Return each row with mean 0 and deviation 1; a constant row becomes zeros."""
    varies = np.ptp(scores, axis=1, keepdims=True) > 0  # a constant's mean is rounded too
    centred = np.where(varies, scores - scores.mean(axis=1, keepdims=True), 0)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(centred / np.where(spread > 1e-12, spread, 1.0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Validation:
    """The merchant's validation period: who is asked, what they had, what they bought next."""

    history: Histories
    seen: csr_matrix
    relevant: csr_matrix

    def ndcg(self, score: FloatMatrix) -> float:
        """Return the mean NDCG@10 of given scores [shoppers, items]."""
        ranking = rank_scores(lambda rows: score[rows], self.seen, 10)
        return float(np.nanmean(ndcg(ranking, self.relevant)))

    def balanced(self, score: FloatMatrix, tail: NDArray[np.bool_]) -> float:
        """Return NDCG@10 plus tail recall@10: a ranking that forgets the tail is not a good one.

        Args:
            score: float32 [shoppers, items].
            tail: bool [items].
        """
        ranking = rank_scores(lambda rows: score[rows], self.seen, 10)
        found = recall(ranking, self.relevant, tail)
        known = found[~np.isnan(found)]
        of_tail = float(known.mean()) if len(known) else 0.0
        return float(np.nanmean(ndcg(ranking, self.relevant))) + of_tail


def fit_decay(
    history_vectors: FloatMatrix,
    candidate_vectors: FloatMatrix,
    validation: Validation,
    decays: Sequence[float] = DECAYS,
) -> TextTaste:
    """Return the text taste whose decay ranks the validation period best; 1 without cases."""
    tastes = [TextTaste(history_vectors, candidate_vectors, decay) for decay in decays]
    if not len(validation.history):
        return tastes[0]
    return max(tastes, key=lambda taste: validation.ndcg(taste.score(validation.history)))


def fit_gate(
    text: TextTaste, collaborative: EaseModel, sales: NDArray[np.int64], validation: Validation
) -> Gate:
    """Return the gate that ranks the validation period best, overall and in the tail together.

    Args:
        text: Its decay already fitted.
        collaborative: Fitted on purchases before the validation period.
        sales: int64 [items], sales before the validation period.
        validation: Cases after it.
    """
    if not len(validation.history):
        return Gate(1.0, 0.0)
    own = standardised(collaborative.score(validation.history.bought()))
    told = standardised(text.score(validation.history))
    gates = [Gate(level, rise) for level, rise in product(LEVELS, RISES)]
    tail = popularity_buckets(sales).tail
    return max(gates, key=lambda gate: validation.balanced(own + gate.weights(sales) * told, tail))
