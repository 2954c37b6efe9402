"""EASE that also reads titles: the shop's purchases and the catalogue's texts in one linear model.

A small shop sees most pairs of its items bought together once or never. Items of like texts can
lend each other what each lacks: EASE is fitted on the purchases with one pseudo-shopper appended
for each text dimension, who "bought" every item as much as its vector says (side information
stacked below the ratings, as in Jeunen, Van Balen and Goethals 2020, "Closed-Form Models for
Collaborative Filtering with Side-Information"). Nothing here is private or leaves the node.

A shop whose whole matrix would take more than DENSE_BYTES has its leading directions and strongest
pairs instead (`client.ranking.low_rank`): nearly the same model, read the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.low_rank import LargeShop
from client.ranking.model_selection import clearly_better, validation_ndcg
from client.ranking.products import double_sum, row_products
from client.shop.splitting import Cases
from common.errors import InputError

TEXT_STRENGTH = 10.0  # weight of the texts, in pseudo-shoppers per dimension
# l2 and text strength; the first stands unless another is clearly better. The last two are EASE.
CANDIDATES = (
    (200.0, TEXT_STRENGTH),
    (50.0, TEXT_STRENGTH),
    (800.0, TEXT_STRENGTH),
    (200.0, 0.0),
    (50.0, 0.0),
)
# A fit of the whole matrix may take so much; a larger shop is taken apart.
DENSE_BYTES = 6.5e9
LARGE_CASES = 1500  # that a large shop compares candidates on

FloatMatrix = NDArray[np.float32]
_BYTES_BY_ROWS, _BYTES_BY_ITEMS = 29, 20  # of a whole fit, for each number of its matrix
_Doubles = NDArray[np.float64]
_TINY = 1e-12


class TextRows:
    """The pseudo-shoppers that stand for the dimensions of a catalogue's texts.

    A shop is fitted several times, on several periods and with several strengths, and a simulation
    has many shops of one catalogue: what depends on its texts alone is found once for each pair of
    strengths, and kept as long as this object, text dimensions x items x 8 bytes each.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Keep the items' text vectors, float32 [items, d]."""
        self._vectors = vectors
        self._factors: dict[tuple[float, float], _Doubles] = {}

    def rows(self, text_strength: float) -> _Doubles:
        """Return T = sqrt(text_strength)·vectorsᵀ: float64 [d, items]."""
        rows: _Doubles = np.sqrt(text_strength) * self._vectors.T.astype(np.float64)
        return rows

    def factors(self, l2: float, text_strength: float) -> _Doubles:
        """Return L⁻¹T [d, items] with LLᵀ = TTᵀ + l2·I; not to be written to."""
        if (l2, text_strength) not in self._factors:
            self._factors[l2, text_strength] = _text_factors(self.rows(text_strength), l2)
        return self._factors[l2, text_strength]


@dataclass(frozen=True, eq=False)
class TextEaseModel:
    """Item-to-item weights as a product: B[i, j] = ± (factor_i . factor_j) / d_j, B[i, i] = 0.

    Of a large shop it is (factor_i . factor_j + pairs[i, j]) / d_j.

    Attributes:
        factors: float32 [items, m], Zᵀ or Fᵀ of `fit_text_ease`, contiguous; m is shoppers + text
            dimensions, or items where those are fewer, or RANK of `client.ranking.low_rank`.
        diagonal: float32 [items], d: the diagonal of P of `fit_text_ease` times l2, which is
            1 - |Z_j|², or |F_j|². It is what the other items leave unsaid of j.
        sign: Of the product: 1.0 with Z, -1.0 with F.
        l2: The regularisation it was fitted with.
        text_strength: The weight of the texts it was fitted with.
        pairs: Of a large shop: float32 CSR [items, items], nothing on its diagonal; may be empty.
    """

    factors: FloatMatrix
    diagonal: FloatMatrix
    sign: float
    l2: float
    text_strength: float
    pairs: csr_matrix | None = None

    def refitted(
        self, bought: csr_matrix, vectors: FloatMatrix, rows: TextRows | None = None
    ) -> "TextEaseModel":
        """Return the model of other purchases, regularised the same way."""
        if self.pairs is not None and is_large(bought, vectors):
            start = self.factors / np.maximum(np.linalg.norm(self.factors, axis=0), _TINY)
            found = LargeShop.of(bought, vectors, self.text_strength, start)
            return _of_large(found, self.l2, with_pairs=self.pairs.nnz > 0)
        return fit_text_ease(bought, vectors, self.l2, self.text_strength, rows)

    def score(self, history: csr_matrix) -> FloatMatrix:
        """Return the sum of B over each history: float32 [cases, items].

        Raises:
            InputError: if the history is of another catalogue.
        """
        if history.shape[1] != len(self.factors):
            raise InputError(
                f"The history has {history.shape[1]} items; the model knows {len(self.factors)}.",
                field="history",
            )
        return self._scores(history, row_products)

    def rough_score(self, history: csr_matrix) -> FloatMatrix:
        """Return `score` but for last digits, which depend on the other rows; several times faster.

        It compares models on past cases. What is served or judged is `score`.
        """
        return self._scores(history, lambda rows, items: rows @ items.T)

    def _scores(
        self, history: csr_matrix, product: Callable[[FloatMatrix, FloatMatrix], FloatMatrix]
    ) -> FloatMatrix:
        summed = np.asarray(history.astype(np.float32) @ self.factors)
        scores = product(summed, self.factors)
        if self.pairs is not None:
            together = csr_matrix(history.astype(np.float32) @ self.pairs).tocoo()
            scores[together.row, together.col] += together.data
        bought = history.tocoo()  # an item adds nothing to itself
        itself = self._itself(bought.col) * bought.data.astype(np.float32)
        scores[bought.row, bought.col] -= itself
        scores /= self.diagonal * np.float32(self.sign)
        return scores

    def shares(
        self, history: NDArray[np.integer], items: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return what each bought item [h] adds to `items` [k] above the average: float64 [h, k].

        Its sum over the history is score − mean score, but for the rounding of float32.
        """
        divisor = self.diagonal[items].astype(np.float64) * self.sign
        rows = self.factors[history].astype(np.float64)
        added: NDArray[np.float64] = rows @ self.factors[items].T
        if self.pairs is not None:
            added += self.pairs[history][:, items].toarray()
        added /= divisor
        added[np.asarray(history)[:, None] == items] = 0
        added -= self.averages(history)[:, None]
        return added

    def averages(self, history: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return what each bought item adds to the average item: float64 [h]."""
        rows = self.factors[history].astype(np.float64)
        itself = self._itself(history) / (self.diagonal[history].astype(np.float64) * self.sign)
        averages: NDArray[np.float64] = rows @ self._centre - itself / len(self.diagonal)
        if self.pairs is not None:
            averages += (
                self.pairs[history] @ (1 / self.diagonal.astype(np.float64)) / len(self.diagonal)
            )
        return averages

    @cached_property
    def _centre(self) -> _Doubles:
        """The mean over items j of factor_j / (± d_j): float64 [m]."""
        inverse = 1 / (self.diagonal.astype(np.float64) * self.sign)
        return double_sum(self.factors, inverse) / len(inverse)

    def _itself(self, items: NDArray[np.integer]) -> FloatMatrix:
        """Return factor_j . factor_j of some items: float32 [k]."""
        if self.pairs is not None:
            rows = self.factors[items]
            return np.asarray(np.vecdot(rows, rows))
        diagonal: FloatMatrix = self.diagonal[items]
        itself: FloatMatrix = 1 - diagonal if self.sign > 0 else diagonal
        return itself


def fit_text_ease(
    bought: csr_matrix,
    vectors: FloatMatrix,
    l2: float,
    text_strength: float = TEXT_STRENGTH,
    rows: TextRows | None = None,
) -> TextEaseModel:
    """Fit B that minimises ||A - AB||² + l2·||B||² with a zero diagonal.

    A is `bought` with sqrt(text_strength)·vectorsᵀ above it, and P = (AᵀA + l2·I)⁻¹ says B. Where
    A has fewer rows than items, LLᵀ = AAᵀ + l2·I and Z = L⁻¹A give P = (I - ZᵀZ) / l2; else
    LLᵀ = AᵀA + l2·I and F = sqrt(l2)·L⁻¹ give P = FᵀF / l2. Time grows with the third power of the
    fewer of rows and items, memory is 20 to 29 bytes for each pair of one of those and an item.
    Where that is above DENSE_BYTES, it is `client.ranking.low_rank`'s.

    Args:
        bought: CSR [shoppers, items] of ones.
        vectors: float32 [items, d], unit vectors of the items' texts.
        l2: Regularisation, in shoppers: above 0.
        text_strength: Weight of the texts, at least 0; 0 is plain EASE.
        rows: Of `vectors`, where there are several fits; the result is the same.

    Raises:
        InputError: if a number is out of bounds or the vectors are of another catalogue.
    """
    if not 0 < l2 < np.inf:
        raise InputError(f"l2 is {l2}; it must be a finite number above 0.", field="l2")
    if not 0 <= text_strength < np.inf:
        raise InputError(
            f"text_strength is {text_strength}; it must be at least 0.", field="text_strength"
        )
    if len(vectors) != bought.shape[1]:
        raise InputError(f"{len(vectors)} vectors for {bought.shape[1]} items.", field="vectors")
    if is_large(bought, vectors):
        return _of_large(LargeShop.of(bought, vectors, text_strength), l2, with_pairs=True)
    buyers = np.flatnonzero(np.diff(bought.indptr))
    among_buyers = csr_matrix(bought[buyers], dtype=np.float64)
    by_rows = len(buyers) + vectors.shape[1] < len(vectors)
    rows = rows or TextRows(vectors)
    if by_rows:
        factors = _factors_by_rows(among_buyers, rows.factors(l2, text_strength), l2)
    else:
        factors = _factors_by_items(among_buyers, rows.rows(text_strength), l2)
    left = np.einsum("ij,ij->j", factors, factors)
    if by_rows:
        left = 1 - left
    return TextEaseModel(
        factors=np.ascontiguousarray(factors.T, np.float32),  # an item's numbers side by side
        diagonal=left.astype(np.float32),  # l2 times P's diagonal: above 0
        sign=1.0 if by_rows else -1.0,
        l2=l2,
        text_strength=text_strength,
    )


def is_large(bought: csr_matrix, vectors: FloatMatrix) -> bool:
    """Return whether a fit of the whole matrix would take more than DENSE_BYTES.

    The rule counts shoppers and items and looks at nothing else.
    """
    rows = np.count_nonzero(np.diff(bought.indptr)) + vectors.shape[1]
    items = len(vectors)
    taken = _BYTES_BY_ROWS * rows if rows < items else _BYTES_BY_ITEMS * items
    return bool(taken * items > DENSE_BYTES)


def _of_large(shop: LargeShop, l2: float, *, with_pairs: bool) -> TextEaseModel:
    factors, diagonal, pairs = shop.parts(l2, with_pairs=with_pairs)
    return TextEaseModel(factors, diagonal, 1.0, l2, shop.text_strength, pairs)


def _text_factors(rows: _Doubles, l2: float) -> _Doubles:
    # scipy.linalg loads here: who only ranks with a model waits for none of it.
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415 -- see above

    gram = rows @ rows.T
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    z: _Doubles = solve_triangular(factor, rows, lower=True, overwrite_b=True, check_finite=False)
    z.flags.writeable = False
    return z


def _factors_by_rows(bought: csr_matrix, texts: _Doubles, l2: float) -> _Doubles:
    """Return Z = L⁻¹A [rows, items] with LLᵀ = AAᵀ + l2·I, whose first rows are `texts`.

    With A's first rows T and the others B, L has the blocks L₁, BZ₁ᵀ and L₂, where L₂L₂ᵀ =
    BBᵀ + l2·I - BZ₁ᵀZ₁Bᵀ; so Z's other rows are L₂⁻¹(B - BZ₁ᵀZ₁). Time grows with the square of
    the buyers, however many text dimensions there are.
    """
    # scipy.linalg loads here: who only ranks with a model waits for none of it.
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415 -- see above

    across = bought @ texts.T
    gram = (bought @ bought.T).toarray()
    gram -= across @ across.T
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    left = bought.toarray()
    left -= across @ texts
    z: _Doubles = solve_triangular(factor, left, lower=True, overwrite_b=True, check_finite=False)
    return np.vstack([texts, z])


def _factors_by_items(bought: csr_matrix, texts: _Doubles, l2: float) -> _Doubles:
    """Return F = sqrt(l2)·L⁻¹ [items, items] with LLᵀ = AᵀA + l2·I."""
    from scipy.linalg import cholesky, lapack  # noqa: PLC0415 -- as in `_factors_by_rows`

    gram = (bought.T @ bought).toarray()
    gram += texts.T @ texts
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = lapack.dtrtri(factor, lower=1, overwrite_c=1)  # l2 > 0: always invertible
    factors: _Doubles = np.sqrt(l2) * np.tril(inverse)
    return factors


def choose_text_ease(
    train: csr_matrix,
    vectors: FloatMatrix,
    valid: Cases,
    candidates: Sequence[tuple[float, float]] = CANDIDATES,
    rows: TextRows | None = None,
) -> TextEaseModel:
    """Fit each of `candidates` on `train`; keep the first unless another is clearly better.

    They are compared by NDCG@10 on `valid`. A merchant without validation cases gets the first. A
    large shop compares those of the first one's text strength, which are one shop taken apart, on
    LARGE_CASES cases at even steps.

    Raises:
        InputError: if there is no candidate, or as `fit_text_ease`.
    """
    if not candidates:
        raise InputError("At least one candidate is needed.", field="candidates")
    rows = rows or TextRows(vectors)
    if not len(valid):
        return fit_text_ease(train, vectors, *candidates[0], rows)
    if is_large(train, vectors):
        return _choose_large(train, vectors, valid.thinned(LARGE_CASES), candidates)
    first = best = fit_text_ease(train, vectors, *candidates[0], rows)
    found = default = validation_ndcg(first.rough_score, valid)
    for candidate in candidates[1:]:  # one at a time: a model is shoppers x items large
        model = fit_text_ease(train, vectors, *candidate, rows)
        objective = validation_ndcg(model.rough_score, valid)
        if objective.mean() > found.mean():
            best, found = model, objective
    return best if clearly_better(found, default) else first


def _choose_large(
    train: csr_matrix,
    vectors: FloatMatrix,
    valid: Cases,
    candidates: Sequence[tuple[float, float]],
) -> TextEaseModel:
    """Do the same where all candidates of a text strength are one shop taken apart.

    With pairs and without are two ways to come near one model: what ranks `valid` better is used.
    """
    first, strength = candidates[0]
    shop = LargeShop.of(train, vectors, strength)

    def found(l2: float, *, with_pairs: bool) -> NDArray[np.float64]:
        model = _of_large(shop, l2, with_pairs=with_pairs)
        return validation_ndcg(model.rough_score, valid)

    default, without = found(first, with_pairs=True), found(first, with_pairs=False)
    with_pairs = bool(default.mean() >= without.mean())
    default = best = default if with_pairs else without
    chosen = first
    for l2, other in candidates[1:]:
        if other == strength:
            objective = found(l2, with_pairs=with_pairs)
            if objective.mean() > best.mean():
                chosen, best = l2, objective
    chosen = chosen if clearly_better(best, default) else first
    return _of_large(shop, chosen, with_pairs=with_pairs)
