"""Recommenders from one merchant's purchases alone: popularity and EASE.

Nothing here is private or leaves the node. EASE says what each bought item adds to a score,
which explains a recommendation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, lapack, solve_triangular
from scipy.sparse import csr_matrix

from client.ranking.model_selection import validation_ndcg
from client.shop.splitting import Cases
from common.errors import InputError

DOUBLE_ITEMS = 10_000  # a float64 matrix of so many items takes 800 MB

EASE_STRENGTHS = (50.0, 200.0, 800.0)  # l2 to choose from on the validation period


# --------------------------------------------------------------- popularity
@dataclass(frozen=True, eq=False)
class PopularityModel:
    """The same order for everybody: `counts` [items], how many shoppers bought each item."""

    counts: NDArray[np.float32]

    def score(self, history: csr_matrix) -> NDArray[np.float32]:
        """Return the counts for each case: float32 [cases, items]."""
        _check_items(history, len(self.counts))
        return np.tile(self.counts, (history.shape[0], 1))


def fit_popularity(bought: csr_matrix) -> PopularityModel:
    """Count the shoppers of each item in `bought`, CSR [shoppers, items] of ones."""
    return PopularityModel(np.asarray(bought.sum(axis=0), dtype=np.float32).ravel())


# --------------------------------------------------------------------- EASE
@dataclass(frozen=True, eq=False)
class EaseModel:
    """Item-to-item weights of EASE: the score of item j is the sum over history i of B[i, j].

    Attributes:
        weights: float32 [sold, sold], B of the items that sold; its diagonal is zero.
        sold: int64 [sold], sorted indices of those items. All others score 0.
        item_count: Items in the catalogue.
        l2: The regularisation it was fitted with.
    """

    weights: NDArray[np.float32]
    sold: NDArray[np.int64]
    item_count: int
    l2: float

    def score(self, history: csr_matrix) -> NDArray[np.float32]:
        """Return scores: float32 [cases, items], 4 bytes each; pass few cases at a time.

        Raises:
            InputError: if the history is of another catalogue.
        """
        _check_items(history, self.item_count)
        among_sold: NDArray[np.float32] = history[:, self.sold].astype(np.float32) @ self.weights
        if len(self.sold) == self.item_count:
            return among_sold
        scores = np.zeros(history.shape, dtype=np.float32)
        scores[:, self.sold] = among_sold
        return scores

    def shares(
        self, history: NDArray[np.integer], items: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return what each bought item [h] adds to `items` [k] above the average: float64 [h, k].

        Its sum over the history is score − mean score, but for the rounding of float32.
        """
        place = np.full(self.item_count, -1, dtype=np.int64)
        place[self.sold] = np.arange(len(self.sold))
        known, wanted = np.flatnonzero(place[history] >= 0), np.flatnonzero(place[items] >= 0)
        rows = self.weights[place[history[known]]]
        added = np.zeros((len(history), len(items)))
        added[np.ix_(known, wanted)] = rows[:, place[items[wanted]]]
        added[known] -= rows.sum(axis=1, dtype=np.float64)[:, None] / self.item_count
        return added


def fit_ease(bought: csr_matrix, l2: float) -> EaseModel:
    """Fit EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data").

    B minimises ||X - XB||² + l2·||B||² with a zero diagonal: with P = (XᵀX + l2·I)⁻¹ it is
    B[i, j] = -P[i, j] / P[j, j] off the diagonal. Up to DOUBLE_ITEMS sold items are solved in
    float64, more in float32. Memory is about 20 bytes for each pair of sold items; time grows
    with the third power of the fewer of shoppers and items.

    Args:
        bought: CSR [shoppers, items] of ones.
        l2: Regularisation, in shoppers: above 0, usually 10 to 1,000.

    Raises:
        InputError: if l2 is not above 0.
    """
    if not 0 < l2 < np.inf:
        raise InputError(f"l2 is {l2}; it must be a finite number above 0.", field="l2")
    sold = np.flatnonzero(np.diff(bought.tocsc().indptr))
    buyers = np.flatnonzero(np.diff(bought.indptr))
    dtype = np.float64 if len(sold) <= DOUBLE_ITEMS else np.float32
    among_sold = csr_matrix(bought[buyers][:, sold], dtype=dtype)
    if 0 < len(buyers) < len(sold):
        weights = _inverse_by_shoppers(among_sold, l2)
    else:
        weights = _inverse_by_items(among_sold, l2)
    weights /= -weights.diagonal()
    np.fill_diagonal(weights, 0)
    return EaseModel(weights.astype(np.float32, copy=False), sold, bought.shape[1], l2)


def _inverse_by_items(bought: csr_matrix, l2: float) -> NDArray[np.floating]:
    """Return P = (XᵀX + l2·I)⁻¹ [items, items] by Cholesky, in the memory of the Gram matrix."""
    if not bought.shape[1]:
        return np.empty((0, 0))  # LAPACK takes no matrix of nothing, and says so on the terminal
    gram = (bought.T @ bought).toarray(order="F")
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    potri = lapack.dpotri if factor.dtype == np.float64 else lapack.spotri
    inverse, _ = potri(factor, lower=True, overwrite_c=True)  # l2 > 0: always invertible
    for item in range(len(inverse)):  # potri fills the lower half only
        inverse[item, item + 1 :] = inverse[item + 1 :, item]
    symmetric: NDArray[np.floating] = inverse.T  # the same numbers in C order
    return symmetric


def _inverse_by_shoppers(bought: csr_matrix, l2: float) -> NDArray[np.floating]:
    """Return the same P through the smaller matrix XXᵀ + l2·I = LLᵀ (Woodbury's identity).

    P = (I - ZᵀZ) / l2 with Z = L⁻¹X.
    """
    gram = (bought @ bought.T).toarray(order="F")
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    z = solve_triangular(factor, bought.toarray(), lower=True, check_finite=False)
    inverse: NDArray[np.floating] = np.ascontiguousarray(z.T @ z)
    inverse /= -l2
    inverse[np.diag_indices_from(inverse)] += 1 / l2
    return inverse


@dataclass(frozen=True, eq=False)
class EaseChoice:
    """EASE with the l2 that validation prefers, and NDCG@10 there by candidate."""

    model: EaseModel
    ndcg: Mapping[float, float]


def choose_ease(train: csr_matrix, valid: Cases, candidates: Sequence[float]) -> EaseChoice:
    """Fit each l2 of `candidates` on `train` and keep the best by NDCG@10 on `valid`.

    Equal ones go to the larger l2, and so does a merchant without validation cases: little data
    asks for more regularisation.

    Raises:
        InputError: if there is no candidate, or as `fit_ease`.
    """
    if not candidates:
        raise InputError("At least one l2 candidate is needed.", field="candidates")
    largest, *others = sorted(set(candidates), reverse=True)
    best = fit_ease(train, largest)
    found = {largest: _mean_ndcg(best, valid)}
    for l2 in others:
        model = fit_ease(train, l2)
        found[l2] = _mean_ndcg(model, valid)
        if found[l2] > found[best.l2]:
            best = model
    return EaseChoice(best, found)


def _mean_ndcg(model: EaseModel, valid: Cases) -> float:
    """Return the mean NDCG@10 over cases, NaN without any."""
    values = validation_ndcg(model.score, valid)
    return float(values.mean()) if len(values) else float("nan")


def _check_items(history: csr_matrix, item_count: int) -> None:
    if history.shape[1] != item_count:
        raise InputError(
            f"The history has {history.shape[1]} items; the model knows {item_count}.",
            field="history",
        )
