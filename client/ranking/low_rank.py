"""EASE with titles of a large shop: the leading directions of A'A, and the pairs they leave out.

What `client.ranking.text_ease` inverts is G + l2·I with G = AᵀA, A the purchases and the texts
below them. Of a large shop that matrix is too large. Here it is taken as

    G + l2·I = (U diag(w) Uᵀ + E) + R,    E = l2·I + diag(G - U diag(w) Uᵀ)

with U the RANK leading directions of G and w their eigenvalues: what is left, R, is small beside E.
The inverse of the first part follows from Woodbury's identity,

    (U diag(w) Uᵀ + E)⁻¹ = E⁻¹ - FFᵀ / l2,    FFᵀ / l2 = E⁻¹U (diag(1/w) + UᵀE⁻¹U)⁻¹ UᵀE⁻¹,

and R adds -E⁻¹RE⁻¹ in first order. Of R only pairs of items that somebody bought together are
kept, MOST_PAIRS in all, an item's strongest first. So a pair of rare items counts as it does in the
whole model, and what is bought together by many counts by the directions.

U is found by block power iteration (Halko, Martinsson, Tropp 2011, "Finding structure with
randomness", algorithms 4.4 and 5.3). Time and memory grow with purchases, pairs and items, never
with the square of items.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.products import CHUNK_ROWS

RANK = 768
SPARE = 64  # directions beside RANK, without which the last ones are found slowly
ITERATIONS = 3  # from random directions
AGAIN = 1  # from those of a model of other purchases of the same shop
MOST_PAIRS = 40_000_000  # 320 MB
_USUAL = 200.0  # regularisation by which pairs are compared
_ITEMS = 1024  # whose pairs are counted at a time
_COLUMNS = 128  # of the directions, multiplied by the purchases at a time
_TINY = 1e-12  # of the largest squared length: a direction that is none

FloatMatrix = NDArray[np.float32]
_Doubles = NDArray[np.float64]


class Directions(NamedTuple):
    """The leading directions of AᵀA.

    Attributes:
        directions: float32 [items, k], orthonormal columns, the largest eigenvalue first.
        values: float64 [k], the eigenvalues.
    """

    directions: FloatMatrix
    values: _Doubles


class Parts(NamedTuple):
    """What `TextEaseModel` is made of: B[i, j] = (factor_i . factor_j + pairs[i, j]) / diagonal_j.

    Attributes:
        factors: float32 [items, k], F.
        diagonal: float32 [items], l2 times the inverse's diagonal.
        pairs: float32 CSR [items, items], l2·E⁻¹RE⁻¹.
    """

    factors: FloatMatrix
    diagonal: FloatMatrix
    pairs: csr_matrix


@dataclass(frozen=True, eq=False)
class LargeShop:
    """A large shop's G, without its regularisation.

    Attributes:
        leading: Its leading directions.
        left: float64 [items], what they leave of its diagonal.
        pairs: float32 CSR [items, items], what they leave of pairs: R.
        text_strength: The weight of the texts in it.
    """

    leading: Directions
    left: _Doubles
    pairs: csr_matrix
    text_strength: float

    @classmethod
    def of(
        cls,
        bought: csr_matrix,
        vectors: FloatMatrix,
        text_strength: float,
        start: FloatMatrix | None = None,
    ) -> "LargeShop":
        """Take a shop apart; arguments as of `leading_directions`."""
        leading = leading_directions(bought, vectors, text_strength, start)
        directions, values = leading
        texts = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        said = np.einsum("ij,ij,j->i", directions, directions, values, dtype=np.float64)
        sold = np.bincount(bought.indices, minlength=len(vectors))
        left = np.maximum(sold + text_strength * texts - said, 0)
        pairs = _pairs(bought, left)
        _take_off(pairs, leading, text_strength, vectors)
        return cls(leading, left, pairs, text_strength)

    def parts(self, l2: float, *, with_pairs: bool) -> Parts:
        """Return the model of a regularisation, with what pairs add or without."""
        directions, values = self.leading
        e = l2 + self.left
        inner = np.diag(1 / np.maximum(values, _TINY * max(values[0], 1.0)))
        for start in range(0, len(e), CHUNK_ROWS):
            some = slice(start, start + CHUNK_ROWS)
            rows = directions[some].astype(np.float64)
            inner += (rows / e[some, None]).T @ rows
        lower = np.linalg.cholesky(inner)
        turn = np.linalg.inv(lower).T * np.sqrt(l2)
        factors = (directions / e[:, None].astype(np.float32)) @ turn.astype(np.float32)
        itself = np.vecdot(factors, factors)
        diagonal = (l2 / e - itself).astype(np.float32)
        return Parts(factors, diagonal, self._scaled(l2 / e, e) if with_pairs else self._no_pairs())

    def _scaled(self, of_row: _Doubles, divisor: _Doubles) -> csr_matrix:
        pairs = self.pairs
        each = np.repeat(of_row, np.diff(pairs.indptr)) / divisor[pairs.indices]
        data = pairs.data * each.astype(np.float32)
        return csr_matrix((data, pairs.indices, pairs.indptr), pairs.shape)

    def _no_pairs(self) -> csr_matrix:
        starts = np.zeros(self.pairs.shape[0] + 1, np.int32)
        nothing = (np.empty(0, np.float32), np.empty(0, np.int32), starts)
        return csr_matrix(nothing, self.pairs.shape)


def _pairs(bought: csr_matrix, left: _Doubles) -> csr_matrix:
    """Return how many bought both of two items, for each item's strongest pairs: float32 CSR."""
    rows = csr_matrix(bought, dtype=np.float32)
    columns = csr_matrix(rows.T)
    items = rows.shape[1]
    most = max(MOST_PAIRS // max(items, 1), 1)
    weight = (1 / np.sqrt(_USUAL + left)).astype(np.float32)
    indices: list[NDArray[np.int32]] = []
    data: list[FloatMatrix] = []
    counts = np.zeros(items + 1, np.int64)
    for start in range(0, items, _ITEMS):
        both = csr_matrix(columns[start : start + _ITEMS] @ rows)
        both.sort_indices()
        for row in range(both.shape[0]):
            some = slice(both.indptr[row], both.indptr[row + 1])
            others, shared = both.indices[some], both.data[some]
            apart = others != start + row
            others, shared = others[apart], shared[apart]
            if len(others) > most:
                kept = np.sort(np.argpartition(-shared * weight[others], most)[:most])
                others, shared = others[kept], shared[kept]
            counts[start + row + 1] = len(others)
            indices.append(others.astype(np.int32))
            data.append(shared)
    starts = np.cumsum(counts)
    joined = (np.concatenate([*data, np.empty(0, np.float32)]), np.concatenate([*indices, []]))
    return csr_matrix((joined[0], joined[1].astype(np.int32), starts), (items, items))


def _take_off(
    pairs: csr_matrix, leading: Directions, text_strength: float, vectors: FloatMatrix
) -> None:
    """Make R of how many bought both, in place: add the texts' part, take off the directions'."""
    directions, values = leading
    scale, strength = values.astype(np.float32), np.float32(text_strength)
    for item in range(pairs.shape[0]):
        some = slice(pairs.indptr[item], pairs.indptr[item + 1])
        others = pairs.indices[some]
        said = directions[others] @ (directions[item] * scale)
        pairs.data[some] += strength * (vectors[others] @ vectors[item]) - said


def leading_directions(
    bought: csr_matrix,
    vectors: FloatMatrix,
    text_strength: float,
    start: FloatMatrix | None = None,
    rank: int | None = None,
) -> Directions:
    """Return the `rank` leading directions of AᵀA, all of them where there are fewer items.

    Args:
        bought: CSR [shoppers, items] of ones.
        vectors: float32 [items, d], unit vectors of the items' texts.
        text_strength: Weight of the texts, at least 0.
        start: float32 [items, k], columns near those looked for: then one iteration is enough.
        rank: How many; RANK where it is None.
    """
    rows = csr_matrix(bought[np.diff(bought.indptr) > 0], dtype=np.float32)
    columns = csr_matrix(rows.T)
    texts = np.float32(np.sqrt(text_strength)) * vectors if text_strength else None

    def product(found: FloatMatrix) -> FloatMatrix:
        return _gram_product(rows, columns, texts, found)

    rank = RANK if rank is None else rank
    wide = min(rank + SPARE, len(vectors))
    random = np.random.default_rng(0)
    found = random.standard_normal((len(vectors), wide), dtype=np.float32)
    if start is not None:
        found[:, : start.shape[1]] = start[:, :wide]
    _orthonormalise(found)
    for _ in range(ITERATIONS if start is None else AGAIN):
        found = product(found)
        _orthonormalise(found)
    values, turn = np.linalg.eigh(_inner(found, product(found)))
    leading = np.argsort(-values)[:rank]
    _turn(found, turn[:, leading])
    kept = np.ascontiguousarray(found[:, : len(leading)])
    return Directions(kept, np.maximum(values[leading], 0))


def _gram_product(
    rows: csr_matrix, columns: csr_matrix, texts: FloatMatrix | None, found: FloatMatrix
) -> FloatMatrix:
    """Return AᵀA times `found` [items, k], few columns at a time: shoppers are many."""
    made = np.empty_like(found)
    for start in range(0, found.shape[1], _COLUMNS):
        some = np.ascontiguousarray(found[:, start : start + _COLUMNS])
        part = columns @ (rows @ some)
        if texts is not None:
            part += texts @ (texts.T @ some)
        made[:, start : start + _COLUMNS] = part
    return made


def _inner(one: FloatMatrix, other: FloatMatrix) -> _Doubles:
    """Return oneᵀ other [k, k], symmetric but for rounding, in float64."""
    found = np.zeros((one.shape[1], other.shape[1]))
    for start in range(0, len(one), CHUNK_ROWS):
        some = slice(start, start + CHUNK_ROWS)
        found += one[some].T.astype(np.float64) @ other[some].astype(np.float64)
    return (found + found.T) / 2


def _orthonormalise(found: FloatMatrix) -> None:
    """Make the columns of `found` orthonormal, in place; zeros where there are too few of them."""
    squares, turn = np.linalg.eigh(_inner(found, found))
    real = squares > _TINY * max(squares[-1], np.finfo(np.float64).tiny)
    scale = np.divide(1.0, np.sqrt(np.maximum(squares, 0)), out=np.zeros_like(squares), where=real)
    _turn(found, turn * scale)


def _turn(found: FloatMatrix, turn: _Doubles) -> None:
    """Put `found` @ `turn` into the first columns of `found`, without a second matrix."""
    narrow = turn.astype(np.float32)
    for start in range(0, len(found), CHUNK_ROWS):
        some = found[start : start + CHUNK_ROWS]
        some[:, : turn.shape[1]] = some @ narrow
