"""Score items by what titles say: a shopper's embedding against the frozen items.

The embedding u is the mean of a history's item vectors under the adapter, older baskets counting
less by a decay that each shop fits.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from client.ranking.model_selection import clearly_better
from client.ranking.products import row_products
from client.ranking.validation import FloatMatrix, Validation
from client.shop.histories import Histories

DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class TextScorer:
    """Scores by what titles say: u of a history against the frozen candidates.

    Attributes:
        history_vectors: float32 [items, d], f of each item under an adapter, or frozen.
        candidate_vectors: float32 [items, d], frozen.
        decay: Weight of a basket one older.
        strength: With how much of the adapter `history_vectors` were made, see `strengthened`.
    """

    history_vectors: FloatMatrix
    candidate_vectors: FloatMatrix
    decay: float = 1.0
    strength: float = 1.0

    def user_embeddings(self, history: Histories) -> FloatMatrix:
        """Return u: unit vectors [shoppers, d]; zeros where there is no history."""
        pooled = np.asarray(history.weights(self.decay) @ self.history_vectors)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(norms, _TINY), dtype=np.float32)

    def score(self, history: Histories) -> FloatMatrix:
        """Return cosine similarities [shoppers, items]."""
        return row_products(self.user_embeddings(history), self.candidate_vectors)

    def shares(self, history: Histories, items: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return what each bought item adds to the score of `items` above the average item.

        Args:
            history: One shopper's, of h items.
            items: [k].

        Returns:
            float64 [h, k]. Its sum over the history is score − mean score, but for the rounding of
            float32.
        """
        weight = np.power(self.decay, history.age)
        pulls = (weight / max(weight.sum(), _TINY))[:, None] * self.history_vectors[history.item]
        queries = pulls / max(float(np.linalg.norm(pulls.sum(axis=0))), _TINY)
        towards = self.candidate_vectors[items].astype(np.float64) - self._centre
        shares: NDArray[np.float64] = queries @ towards.T
        return shares

    @cached_property
    def _centre(self) -> NDArray[np.float64]:
        return np.asarray(self.candidate_vectors.mean(axis=0, dtype=np.float64))


def strengthened(frozen: FloatMatrix, adapted: FloatMatrix, strength: float) -> FloatMatrix:
    """Return item vectors with more or less of an adapter: float32 unit vectors [items, d].

    Args:
        frozen: float32 [items, d], without it.
        adapted: The same, with it.
        strength: How far to go from one to the other, at least 0: 0 is frozen, 1 as released.
    """
    if strength == 0:
        return frozen
    if strength == 1:
        return adapted
    moved = frozen + np.float32(strength) * (adapted - frozen)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(norms, _TINY), dtype=np.float32)


def fit_decay(
    history_vectors: FloatMatrix,
    candidate_vectors: FloatMatrix,
    validation: Validation,
    usual: float = 1.0,
) -> TextScorer:
    """Return a merchant's scorer by titles, its decay fitted on the validation period.

    Args:
        history_vectors: See `TextScorer`.
        candidate_vectors: See there.
        validation: Cases.
        usual: The decay of training, public. It stands unless another ranks the validation period
            better beyond chance.
    """
    text = TextScorer(history_vectors, candidate_vectors, usual)
    if not len(validation.history):
        return text
    default = validation.ndcg(text.score(validation.history))
    others = [replace(text, decay=decay) for decay in DECAYS if decay != usual]
    found = [validation.ndcg(other.score(validation.history)) for other in others]
    best = int(np.argmax([one.mean() for one in found]))
    return others[best] if clearly_better(found[best], default) else text
