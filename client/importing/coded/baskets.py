"""Baskets, equal rows and the last row of each item: found by sorting whole numbers.

A row's shopper, order and item become numbers that are ordered as their texts are. Then one sort
puts together what belongs together, and the places where the sorted numbers change part it.
"""

import math
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.importing.coded.ids import places, texts

Numbers = NDArray[np.int64]
_MOST: Final = 1 << 62  # below it a product of ranks is one int64


def drop_exact_duplicates(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the first of rows that are equal in all columns.

    Equal rows have one hash, so only the rows that share theirs are compared.
    """
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    zeros = frame.with_columns(pl.col(floats) + 0.0)  # -0.0 equals 0.0
    hashes = zeros.hash_rows().to_numpy()
    del zeros
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(shared):
        return frame
    at = np.minimum(np.searchsorted(shared, hashes), len(shared) - 1)
    rows = np.flatnonzero(shared[at] == hashes)
    first = frame[rows].with_columns(pl.Series("at", rows)).unique(frame.columns, keep="first")
    keep = np.ones(frame.height, np.bool_)
    keep[rows] = False
    keep[first["at"].to_numpy()] = True
    return frame.filter(pl.Series(keep))


def number_baskets(frame: pl.DataFrame) -> pl.DataFrame:
    """Number each shopper's baskets from 0, by time and then order id, in the column `basket`.

    A basket is an order; where events name no order it is all that a shopper did at one time. All
    rows of a basket get its first time, so that no split can cut through it.
    """
    shopper, key, time = _ranks(frame["shopper_id"]), _basket_keys(frame), frame["time"].to_numpy()
    by = _sorted_by(shopper, key)
    starts = _changes(shopper[by], key[by])
    at = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(by)))  # sorted rows' baskets
    first = np.minimum.reduceat(time[by], starts) if len(starts) else time
    whose = shopper[by[starts]]
    numbers = _numbered(whose, first)
    times, baskets = np.empty(len(by), np.int64), np.empty(len(by), np.int32)
    times[by], baskets[by] = first[at], numbers[at]
    return frame.with_columns(pl.Series("time", times), pl.Series("basket", baskets))


def merge_basket_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep one row per shopper, basket and item: the last, sorted by shopper, time and item."""
    shopper, item = _ranks(frame["shopper_id"]), _ranks(frame["item_id"])
    basket, time = frame["basket"].to_numpy().astype(np.int64), frame["time"].to_numpy()
    by = _sorted_by(shopper, basket, item)
    last = np.zeros(len(by), np.bool_)
    last[_changes(shopper[by], basket[by], item[by])[1:] - 1] = True
    last[-1:] = True
    by = by[last]
    # In order, unless two baskets of one shopper have one time: then by item before basket.
    shopper, item, basket, time = shopper[by], item[by], basket[by], time[by]
    tied = (shopper[1:] == shopper[:-1]) & (basket[1:] != basket[:-1]) & (time[1:] <= time[:-1])
    if tied.any():
        by = by[np.lexsort((basket, item, time, shopper))]
    return frame[by]


def _basket_keys(frame: pl.DataFrame) -> Numbers:
    """Return what a row's basket goes by: its order's rank, and behind all orders its time's."""
    time = frame["time"]
    if "order_id" not in frame.columns:
        return _dense(time.to_numpy())
    orders = frame["order_id"]
    named = orders.is_not_null()
    if named.all():
        return _ranks(orders)
    known = _ranks(orders.filter(named))
    keys = np.empty(frame.height, np.int64)
    keys[named.to_numpy()] = known
    keys[~named.to_numpy()] = known.max(initial=-1) + 1 + _dense(time.filter(~named).to_numpy())
    return keys


def _numbered(shopper: Numbers, time: Numbers) -> NDArray[np.int32]:
    """Return the number of each basket among its shopper's.

    Args:
        shopper: Of each basket, sorted.
        time: Of each; baskets of one time keep their order.
    """
    baskets = np.arange(len(shopper), dtype=np.int32)
    same = shopper[1:] == shopper[:-1]
    if (same & (time[1:] < time[:-1])).any():
        by = np.argsort(time, kind="stable")
        by = by[np.argsort(shopper[by], kind="stable")]
        placed = np.empty_like(baskets)
        placed[by] = baskets
        baskets = placed
    starts = np.flatnonzero(np.concatenate([[True], ~same])[: len(shopper)])
    return baskets - np.repeat(starts, np.diff(starts, append=len(shopper))).astype(np.int32)


def _ranks(ids: pl.Series) -> Numbers:
    """Return numbers that are ordered as the ids' texts, from 0: int64 [n]."""
    if ids.dtype == pl.UInt64:  # packed
        return _dense(ids.to_numpy())
    return places(ids, texts(ids).sort()).astype(np.int64)


def _dense(values: NDArray[Any]) -> Numbers:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _sorted_by(*columns: Numbers) -> Numbers:
    """Return the stable order of rows by columns of ranks, the first before the second."""
    sizes = [int(column.max(initial=0)) + 1 for column in columns]
    if math.prod(sizes) >= _MOST:
        return np.lexsort(columns[::-1])
    key = columns[0]
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        key = key * size + column
    return np.argsort(key, kind="stable")


def _changes(*columns: Numbers) -> Numbers:
    """Return where a run of equal rows starts, in sorted columns."""
    differs = np.ones(len(columns[0]), np.bool_)
    if len(differs):
        differs[1:] = False
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)
