"""Ranking metrics over the full catalogue, one value per shopper, vectorised.

docs/ref-metrics.md defines each metric in words and says why it is defined so. A score matrix of
all cases would not fit in memory, so `rank_scores` and `rank_with_auc` ask for scores in chunks of
shoppers. Two matrices say what is judged, and each stored entry of them counts:

    seen       CSR [cases, items]: what the shopper had bought before; never ranked
    relevant   CSR [cases, items]: what it went on to buy for the first time; never seen
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.errors import InputError
from common.evaluation.selection import NOT_AN_ITEM, best_items, standing

CHUNK_SCORES = 4_000_000  # scores held at a time: 16 MB, and as much again while they are ranked

ScoreChunk = Callable[[slice], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of each case: int32 [cases, k], best first, -1 where items ran out."""

    items: NDArray[np.int32]
    item_count: int

    @property
    def k(self) -> int:
        """How many places a list has."""
        return int(self.items.shape[1])


# ------------------------------------------------------------------ ranking
def rank_top_k(scores: NDArray[np.floating], seen: csr_matrix, k: int) -> Ranking:
    """Return each case's k best items that it has not seen.

    Scores are compared as float32; equal ones go to the lower item index, also at place k.

    Raises:
        InputError: if a score is not finite, the shapes differ, or k is below 1.
    """
    return Ranking(_lists(_eligible(scores, seen), k), scores.shape[1])


def rank_scores(score_chunk: ScoreChunk, seen: csr_matrix, k: int) -> Ranking:
    """Return `rank_top_k` of all cases, asking `score_chunk(rows)` for few rows at a time.

    Raises:
        InputError: as `rank_top_k`.
    """
    lists = [rank_top_k(score_chunk(rows), seen[rows], k).items for rows in score_chunks(seen)]
    return Ranking(np.concatenate([_no_lists(k), *lists]), seen.shape[1])


def rank_with_auc(
    score_chunk: ScoreChunk,
    seen: csr_matrix,
    relevant: csr_matrix,
    k: int,
    bucket: NDArray[np.bool_] | None = None,
) -> tuple[Ranking, NDArray[np.float64], NDArray[np.float64]]:
    """Return `rank_scores` and `auc_per_shopper` from one pass over the scores.

    The third is the AUC among the items of `bucket` [items] alone; without a bucket all are in it.

    Raises:
        InputError: if a score is not finite, shapes differ, a seen item is relevant, or k is
            below 1.
    """
    _check_cases(seen, relevant)
    lists, areas, in_bucket = [_no_lists(k)], [np.empty(0)], [np.empty(0)]
    for rows in score_chunks(seen):
        eligible = _eligible(score_chunk(rows), seen[rows])
        lists.append(_lists(eligible, k))
        auc, of_bucket = _auc(eligible, seen[rows], relevant[rows], bucket)
        areas.append(auc)
        in_bucket.append(of_bucket)
    ranking, auc = Ranking(np.concatenate(lists), seen.shape[1]), np.concatenate(areas)
    return ranking, auc, auc if bucket is None else np.concatenate(in_bucket)


def auc_per_shopper(
    scores: NDArray[np.floating], seen: csr_matrix, relevant: csr_matrix
) -> NDArray[np.float64]:
    """Return each case's area under the ROC curve [cases] over all items it has not seen.

    It is the chance that a relevant item scores above one that is neither relevant nor seen, with
    ties counted half (Mann-Whitney U). NaN for a case that lacks either kind of item.

    Raises:
        InputError: if a score is not finite, the shapes differ, or a seen item is relevant.
    """
    _check_cases(seen, relevant)
    return _auc(_eligible(scores, seen), seen, relevant, None)[0]


def _eligible(scores: NDArray[np.floating], seen: csr_matrix) -> NDArray[np.float32]:
    """Return the scores as float32, with -inf for what was seen."""
    if scores.shape != seen.shape:
        raise InputError(
            f"The scores have shape {scores.shape}; the cases need {seen.shape}.", field="scores"
        )
    with np.errstate(over="ignore"):  # a float64 too large for float32 is caught as infinite
        numbers = scores.astype(np.float32)
    if not np.isfinite([numbers.min(initial=0), numbers.max(initial=0)]).all():  # NaN is both
        raise InputError("A score is not a finite float32 number.", field="scores")
    numbers[_rows_of(seen), seen.indices] = -np.inf
    return numbers


def _lists(eligible: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1.", field="k")
    return best_items(eligible, k)


def _no_lists(k: int) -> NDArray[np.int32]:
    """Return the lists of no case, so that concatenating the lists of no chunk works."""
    return np.empty((0, max(k, 0)), dtype=np.int32)


def _auc(
    eligible: NDArray[np.float32],
    seen: csr_matrix,
    relevant: csr_matrix,
    bucket: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the AUC of each case over all items and over those of `bucket` [items], if any."""
    rows = _rows_of(relevant)
    own = relevant.indices.astype(np.int64)
    everywhere = np.ones(seen.shape[1], np.bool_)
    standings, within_bucket = standing(eligible, rows, own, bucket)
    auc = _area(standings, rows, _sizes(seen, relevant, everywhere))
    if bucket is None:
        return auc, auc
    within = bucket[own]
    sizes = _sizes(seen, relevant, bucket)
    return auc, _area(within_bucket[within], rows[within], sizes)


def _sizes(
    seen: csr_matrix, relevant: csr_matrix, bucket: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many items of a bucket each case has not seen, and how many are relevant."""
    cases = seen.shape[0]
    past, found = (
        np.bincount(_rows_of(one)[bucket[one.indices]], minlength=cases).astype(np.int64)
        for one in (seen, relevant)
    )
    return np.count_nonzero(bucket) - past, found


def _area(
    standings: NDArray[np.int64],
    rows: NDArray[np.int64],
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Return each case's AUC from where its relevant items stand (`standing`)."""
    unseen, positives = sizes
    beaten = unseen[rows] - (standings + 1) / 2
    wins = np.bincount(rows, weights=beaten, minlength=len(unseen))
    among_positives = positives * (positives - 1) / 2  # each of these pairs was counted once
    return _ratio(wins - among_positives, positives * (unseen - positives))


# ------------------------------------------------------- metrics of a shopper
def ndcg(ranking: Ranking, relevant: csr_matrix) -> NDArray[np.float64]:
    """Return NDCG@k of each case with binary gain and discount 1/log2(place + 1); NaN without any.

    Järvelin and Kekäläinen 2002; the ideal list is cut at k too.

    Raises:
        InputError: if the ranking and `relevant` differ in cases or items.
    """
    discount = 1 / np.log2(np.arange(2, ranking.k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    # Added in the order of `ideal`, not by a matrix product, whose order depends on the other rows.
    gained = np.cumsum(_hits(ranking, relevant) * discount, axis=1)[:, -1]
    return _ratio(gained, ideal[np.minimum(np.diff(relevant.indptr), ranking.k)])


def recall(
    ranking: Ranking, relevant: csr_matrix, bucket: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return found / min(k, relevant) of each case, only items of `bucket` [items] counted.

    The list is the full catalogue's either way. NaN for a case with nothing relevant to find.

    Raises:
        InputError: if the ranking and `relevant` differ in cases or items.
    """
    hits = _hits(ranking, relevant)
    wanted = np.diff(relevant.indptr).astype(np.int64)
    if bucket is not None:
        hits &= bucket[ranking.items]  # place -1 reads the last item, and is no hit
        in_bucket = bucket[relevant.indices].astype(np.float64)
        wanted = np.bincount(_rows_of(relevant), in_bucket, minlength=len(wanted)).astype(np.int64)
    return _ratio(hits.sum(axis=1), np.minimum(wanted, ranking.k))


def precision(
    ranking: Ranking, relevant: csr_matrix, bucket: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return found / k of each case; NaN for a case with nothing relevant.

    With a `bucket` [items], found / shown of its items: 0 if the list shows none of them, NaN for
    a case with nothing relevant in it.

    Raises:
        InputError: if the ranking and `relevant` differ in cases or items.
    """
    hits = _hits(ranking, relevant)
    if bucket is None:
        places = np.where(np.diff(relevant.indptr) > 0, ranking.k, 0)
        return _ratio(hits.sum(axis=1), places)
    shown = (bucket[ranking.items] & (ranking.items != NOT_AN_ITEM)).sum(axis=1)
    wanted = np.diff(relevant[:, np.flatnonzero(bucket)].indptr)
    found = (hits & bucket[ranking.items]).sum(axis=1)
    return _ratio(found, np.where(wanted > 0, np.maximum(shown, 1), 0))


def tail_share(ranking: Ranking, tail: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of `tail` items in each list; NaN for an empty list.

    Its mean is APLT (Abdollahpouri, Burke, Mobasher 2019).
    """
    filled = ranking.items != NOT_AN_ITEM
    return _ratio((tail[ranking.items] & filled).sum(axis=1), filled.sum(axis=1))


# ---------------------------------------------------------- metrics of lists
def exposure(ranking: Ranking) -> NDArray[np.int64]:
    """Return in how many lists each item stands: int64 [items]."""
    shown = ranking.items[ranking.items != NOT_AN_ITEM]
    return np.bincount(shown, minlength=ranking.item_count).astype(np.int64)


def coverage(counts: NDArray[np.int64]) -> float:
    """Return the share of items shown at least once; NaN if there was no list."""
    return float((counts > 0).mean()) if counts.sum() else float("nan")


def gini(counts: NDArray[np.int64]) -> float:
    """Return the Gini coefficient of exposure: 0 all items equally, near 1 one item only.

    NaN if there was no list.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    size = len(counts)
    weight = 2 * np.arange(1, size + 1) - size - 1
    return float(weight @ np.sort(counts) / (size * total))


# -------------------------------------------------------------------- pieces
def score_chunks(seen: csr_matrix) -> list[slice]:
    """Return slices of cases that hold about CHUNK_SCORES scores each."""
    cases, items = seen.shape
    step = max(CHUNK_SCORES // max(items, 1), 1)
    return [slice(start, min(start + step, cases)) for start in range(0, cases, step)]


def _rows_of(matrix: csr_matrix) -> NDArray[np.int64]:
    """Return the row of each stored entry."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _check_cases(seen: csr_matrix, relevant: csr_matrix) -> None:
    if seen.shape != relevant.shape:
        raise InputError(
            f"seen has shape {seen.shape} and relevant {relevant.shape}; they must be equal.",
            field="relevant",
        )
    if seen.multiply(relevant).nnz:
        raise InputError("An item is both seen and relevant.", field="relevant")


def _hits(ranking: Ranking, relevant: csr_matrix) -> NDArray[np.bool_]:
    """Return which places of each list hold a relevant item: bool [cases, k]."""
    cases = len(ranking.items)
    if relevant.shape != (cases, ranking.item_count):
        raise InputError(
            f"relevant has shape {relevant.shape}; the ranking needs "
            f"({cases}, {ranking.item_count}).",
            field="relevant",
        )
    wanted = _rows_of(relevant) * ranking.item_count + relevant.indices
    rows = np.arange(cases, dtype=np.int64)[:, None] * ranking.item_count
    hits: NDArray[np.bool_] = np.isin(rows + ranking.items, wanted)
    hits[ranking.items == NOT_AN_ITEM] = False
    return hits


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return part / whole, NaN where the whole is 0."""
    quotient = np.full(len(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient
