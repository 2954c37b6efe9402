"""The best few of many scores, and how many lie below a score: without sorting them all.

Scores here are float32 [rows, items], finite but for -inf where an item is not to be ranked.
Equal ones go to the lower item index; 0.0 and -0.0 are equal. Rows are looked at in blocks that
stay in a processor's cache.
"""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

NOT_AN_ITEM: Final = -1
_BLOCK: Final = 1 << 18  # scores, 1 MB
_LOWEST: Final = np.finfo(np.float32).min
_GROUP: Final = 32  # scores of which only the best is looked at first
_MANY: Final = 8  # times as many candidates as places: then the exact bound is looked for
_FEW: Final = 24  # scores to be placed, up to which counting costs less than sorting the row

Scores = NDArray[np.float32]


def blocks(rows: int, items: int) -> list[slice]:
    """Return the slices of rows that are looked at together."""
    step = max(_BLOCK // max(items, 1), 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def best_items(scores: Scores, k: int) -> NDArray[np.int32]:
    """Return the k best items of each row, best first, -1 where items ran out: int32 [rows, k]."""
    rows, count = scores.shape
    items = np.full((rows, k), NOT_AN_ITEM, dtype=np.int32)
    for block in blocks(rows, count):
        _fill(items[block], scores[block], min(k, count))
    return items


def _fill(items: NDArray[np.int32], scores: Scores, depth: int) -> None:
    if not depth:
        return
    rows, count = scores.shape
    at = np.flatnonzero(scores >= _floors(scores, depth))
    if len(at) > _MANY * depth * rows:
        at = _exactly(scores, depth)
    row, item = np.divmod(at, count)
    keys = row.astype(np.uint64) << np.uint64(32) | descending_keys(scores.ravel()[at])
    order = np.argsort(keys, kind="stable")  # equal ones stay in the items' order
    row = row[order]
    starts = np.searchsorted(row, np.arange(rows))
    place = np.arange(len(row)) - starts[row]
    kept = place < depth
    items[row[kept], place[kept]] = item[order][kept]


def _floors(scores: Scores, depth: int) -> Scores:
    """Return a score for each row that at least `depth` items reach, or all there are: [rows, 1].

    Of a group of items only the best one counts: what `depth` groups reach, `depth` items do.
    """
    rows, count = scores.shape
    size = max(min(_GROUP, count // (8 * depth)), 1)
    width = count // size
    best = scores[:, : width * size].reshape(rows, size, width).max(axis=1)
    if width * size < count:
        best = np.concatenate([best, scores[:, width * size :]], axis=1)
    at = best.shape[1] - depth
    return np.maximum(np.partition(best, at, axis=1)[:, at : at + 1], _LOWEST)


def _exactly(scores: Scores, depth: int) -> NDArray[np.int64]:
    """Return where the `depth` best of each row are, in a flat array: of equal ones the first."""
    rows, count = scores.shape
    at = count - depth
    last = np.partition(scores, at, axis=1)[:, at : at + 1]
    above = scores > last
    equal = np.flatnonzero((scores == last) & (last >= _LOWEST))
    row = equal // count
    nth = np.arange(len(equal)) - np.searchsorted(row, np.arange(rows))[row]
    wanted = depth - np.count_nonzero(above, axis=1)
    return np.sort(np.concatenate([np.flatnonzero(above), equal[nth < wanted[row]]]))


def descending_keys(scores: Scores) -> NDArray[np.uint32]:
    """Return numbers that order as finite scores do, the highest score first."""
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    # IEEE 754: the bits of positive floats rise with their value, those of negative ones fall.
    return np.where(bits >> 31 == 1, bits, ~bits & np.uint32(0x7FFFFFFF))


def standing(
    scores: Scores,
    row: NDArray[np.int64],
    item: NDArray[np.int64],
    bucket: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many items lie above some items of a row, twice, and how many equal them, once.

    An item equals itself. Half of the number, and a half, is the item's place from the top, with
    those that are equal counted half.

    Args:
        scores: Of all.
        row: Of each item asked for, sorted.
        item: Which one; its score is finite.
        bucket: bool [items], items that are counted by themselves as well.

    Returns:
        int64 [asked], and the same among the bucket's items, 0 for an item that is none of them.
    """
    found = np.zeros((2, len(row)), np.int64)
    starts = np.searchsorted(row, np.arange(len(scores) + 1)).tolist()
    for place, (start, stop) in enumerate(pairwise(starts)):
        if stop - start > _FEW:
            found[:, start:stop] = _by_sorting(scores[place], item[start:stop], bucket)
        elif stop > start:
            _count(found[:, start:stop], scores[place], item[start:stop], bucket)
    return found[0], found[1]


def _count(
    found: NDArray[np.int64],
    row: Scores,
    items: NDArray[np.int64],
    bucket: NDArray[np.bool_] | None,
) -> None:
    for place, one in enumerate(items.tolist()):
        own = row[one]
        not_below, above = row >= own, row > own
        found[0, place] = np.count_nonzero(not_below) + np.count_nonzero(above)
        if bucket is not None and bucket[one]:
            not_below &= bucket
            above &= bucket
            found[1, place] = np.count_nonzero(not_below) + np.count_nonzero(above)


def _by_sorting(
    row: Scores, items: NDArray[np.int64], bucket: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    own = row[items]
    found = np.zeros((2, len(items)), np.int64)
    found[0] = _above_in(np.sort(row), own)
    if bucket is not None:
        found[1] = np.where(bucket[items], _above_in(np.sort(row[bucket]), own), 0)
    return found


def _above_in(rising: Scores, own: Scores) -> NDArray[np.int64]:
    below = np.searchsorted(rising, own, side="left").astype(np.int64)
    return 2 * len(rising) - below - np.searchsorted(rising, own, side="right")
