"""Ranking metrics over the full catalogue, one value per shopper, vectorised.

docs/ref-metrics.md defines each metric in words and says why it is defined so. A score matrix of
all cases would not fit in memory, so `rank_scores` and `rank_with_auc` ask for scores in chunks of
shoppers. Two matrices say what is judged, and each stored entry of them counts:

    seen       CSR [cases, items]: what the shopper had bought before; never ranked
    relevant   CSR [cases, items]: what it went on to buy for the first time; never seen
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.errors import InputError

CHUNK_SCORES = 4_000_000  # scores held at a time: 16 MB, and 64 MB with their sort keys
NOT_AN_ITEM = -1
_EXCLUDED = np.uint32(0xFFFFFFFF)  # larger than the sort key of any finite score

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
    return Ranking(_top_items(_descending_keys(scores, seen), k), scores.shape[1])


def rank_scores(score_chunk: ScoreChunk, seen: csr_matrix, k: int) -> Ranking:
    """Return `rank_top_k` of all cases, asking `score_chunk(rows)` for few rows at a time.

    Raises:
        InputError: as `rank_top_k`.
    """
    lists = [rank_top_k(score_chunk(rows), seen[rows], k).items for rows in _chunks(seen)]
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
    for rows in _chunks(seen):
        keys = _descending_keys(score_chunk(rows), seen[rows])
        lists.append(_top_items(keys, k))
        areas.append(_auc(keys, seen[rows], relevant[rows]))
        if bucket is not None:
            kept = np.flatnonzero(bucket)
            parts = (keys[:, kept], seen[rows][:, kept], relevant[rows][:, kept])
            in_bucket.append(_auc(*parts))
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
    return _auc(_descending_keys(scores, seen), seen, relevant)


def _descending_keys(scores: NDArray[np.floating], seen: csr_matrix) -> NDArray[np.uint32]:
    """Return numbers that order as the scores do, highest score first and seen items last."""
    if scores.shape != seen.shape:
        raise InputError(
            f"The scores have shape {scores.shape}; the cases need {seen.shape}.", field="scores"
        )
    with np.errstate(over="ignore"):  # a float64 too large for float32 is caught as infinite
        numbers = scores.astype(np.float32) + np.float32(0)  # + 0 makes -0.0 equal to 0.0
    if not np.isfinite(numbers).all():
        raise InputError("A score is not a finite float32 number.", field="scores")
    bits = numbers.view(np.uint32)
    negative = bits >> 31 == 1
    # IEEE 754: the bits of positive floats rise with their value, those of negative ones fall.
    keys = np.where(negative, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys[_rows_of(seen), seen.indices] = _EXCLUDED
    return keys


def _top_items(keys: NDArray[np.uint32], k: int) -> NDArray[np.int32]:
    """Return the items of the k smallest keys of each row, equal keys by item index: [rows, k]."""
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1.", field="k")
    rows, item_count = keys.shape
    places = np.arange(item_count, dtype=np.uint64)
    # Key and index in one number: no two are equal, so partition has no choice at place k.
    unique = (keys.astype(np.uint64) << np.uint64(32)) | places
    depth = min(k, item_count)
    best = np.sort(np.partition(unique, depth - 1, axis=1)[:, :depth], axis=1)
    items = np.full((rows, k), NOT_AN_ITEM, dtype=np.int32)
    ranked = (best & np.uint64(0xFFFFFFFF)).astype(np.int32)
    items[:, :depth] = np.where(best >> np.uint64(32) == _EXCLUDED, NOT_AN_ITEM, ranked)
    return items


def _no_lists(k: int) -> NDArray[np.int32]:
    """Return the lists of no case, so that concatenating the lists of no chunk works."""
    return np.empty((0, max(k, 0)), dtype=np.int32)


def _auc(keys: NDArray[np.uint32], seen: csr_matrix, relevant: csr_matrix) -> NDArray[np.float64]:
    """Return the AUC of each case from its sort keys (`_descending_keys`)."""
    cases, item_count = keys.shape
    rows = _rows_of(relevant)
    own = keys[rows, relevant.indices]
    # With the row in front, all sorted rows are one sorted array and one search serves all.
    row_key = np.arange(cases, dtype=np.uint64) << np.uint64(32)
    everything = (row_key[:, None] | np.sort(keys, axis=1)).ravel()
    wanted = row_key[rows] | own
    at_or_above = np.searchsorted(everything, wanted, side="right") - rows * item_count
    above = np.searchsorted(everything, wanted, side="left") - rows * item_count
    positives = np.diff(relevant.indptr).astype(np.int64)
    unseen = item_count - np.diff(seen.indptr).astype(np.int64)
    negatives = unseen - positives
    beaten = unseen[rows] - at_or_above + (at_or_above - above - 1) / 2
    wins = np.bincount(rows, weights=beaten, minlength=cases)
    among_positives = positives * (positives - 1) / 2  # each of these pairs was counted once
    return _ratio(wins - among_positives, positives * negatives)


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
def _chunks(seen: csr_matrix) -> Iterator[slice]:
    """Yield slices of cases that hold about CHUNK_SCORES scores each."""
    cases, items = seen.shape
    step = max(CHUNK_SCORES // max(items, 1), 1)
    for start in range(0, cases, step):
        yield slice(start, min(start + step, cases))


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
