"""Ids as numbers: each distinct text is kept once, and read once by a rule on text.

A shop's events name the same shoppers and items again and again. In a coded column (Polars'
Categorical, with spellings of its own) a row holds the number of its text, so that equal rows,
orders and baskets are found among whole numbers. Every function here takes text as well.

A text costs some 130 bytes there. Orders are nearly as many as rows, so theirs are packed where
they can be: up to eight bytes behind a common beginning are one number, ordered as the texts are.
No rule changes a text that is packed.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

# No rule on ids changes such a text: no space, mark, fraction, exponent or address, and no word
# for nothing, of which none has a digit.
_BYTES: Final = 8  # of one number
PLAIN: Final = r"^[0-9A-Za-z_\-]*[0-9][0-9A-Za-z_\-]*$"


def new_spellings(columns: Sequence[str]) -> dict[str, pl.Categorical]:
    """Return the type of each coded column: its texts are forgotten with its last frame."""
    return {name: pl.Categorical(pl.Categories.random()) for name in columns}


class NotPackedError(Exception):
    """An id that does not fit what its column is packed by."""


def packed(ids: pl.Series, beginning: str) -> pl.Series:
    """Return plain ids as numbers that are ordered as their texts: UInt64 [n].

    Args:
        ids: Text.
        beginning: What all begin with, such as `packing` returns for some of them.

    Raises:
        NotPackedError: if one is not plain, begins otherwise, or is too long.
    """
    fits = ids.str.contains(PLAIN) & ids.str.starts_with(beginning)
    if not fits.all() or (ids.str.len_bytes() > len(beginning) + _BYTES).any():
        raise NotPackedError
    rest = ids.str.strip_prefix(beginning) if beginning else ids
    return (
        rest.str.pad_end(_BYTES, "\x00")
        .cast(pl.Binary)
        .bin.reinterpret(dtype=pl.UInt64, endianness="big")
    )


def packing(ids: pl.Series) -> str:
    """Return as short a beginning as `packed` needs for these ids.

    Raises:
        NotPackedError: if they have none in common.
    """
    length = int(ids.str.len_bytes().max() or 0)  # type: ignore[arg-type]  # of whole numbers
    first = str(ids.drop_nulls().first() or "")[: max(length - _BYTES, 0)]
    packed(ids, first)
    return first


def texts(ids: pl.Series) -> pl.Series:
    """Return the distinct texts of a column, in no order; null is none of them."""
    return ids.drop_nulls().unique().cast(pl.String)


class OddIds:
    """The ids of one table that a rule on their text may change, by column.

    Most are plain, and are looked at once. A rule that changes some tells so, and what they
    become is looked at by the next.
    """

    def __init__(self) -> None:
        self._odd: dict[str, pl.Series] = {}

    def of(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Return the distinct odd ids of a coded column, as it has them."""
        if name not in self._odd:
            distinct = frame[name].drop_nulls().unique()
            self._odd[name] = distinct.filter(~distinct.cast(pl.String).str.contains(PLAIN))
        return self._odd[name]

    def texts(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Return a column's odd ids as text; of a column of text all of it."""
        column = frame[name]
        if column.dtype == pl.UInt64:
            return pl.Series(dtype=pl.String)
        return self.of(frame, name).cast(pl.String) if is_coded(column) else column

    def respelt(
        self, frame: pl.DataFrame, name: str, change: Callable[[pl.Expr], pl.Expr]
    ) -> pl.Series:
        """Return a column with each id as `change` writes it."""
        column = frame[name]
        if column.dtype == pl.UInt64:
            return column
        if not is_coded(column):
            return _changed(column, change)
        odd = self.of(frame, name)
        before = odd.cast(pl.String)
        after = _changed(before, change)
        differs = after.ne_missing(before)
        if not differs.any():
            return column
        now = after.cast(column.dtype)
        self._odd[name] = now.drop_nulls().unique()
        numbers = column.to_physical().replace(
            odd.filter(differs).to_physical(), now.filter(differs).to_physical()
        )
        return numbers.cat.to(column.dtype).alias(name)


def is_coded(ids: pl.Series) -> bool:
    """Tell whether a column holds numbers of texts."""
    return isinstance(ids.dtype, pl.Categorical)


def matching(ids: pl.Series, pattern: str) -> pl.Series:
    """Return which rows' texts match: null where there is no id."""
    if not is_coded(ids):
        return ids.str.contains(pattern)
    distinct = ids.drop_nulls().unique()
    fit = distinct.filter(distinct.cast(pl.String).str.contains(pattern))
    return _among(ids, fit)


def among(ids: pl.Series, wanted: pl.Series) -> pl.Series:
    """Return which rows' ids are among the texts of `wanted`: null where there is no id."""
    if not is_coded(ids):
        return ids.is_in(wanted.implode())
    return _among(ids, wanted.cast(ids.dtype))


def places(ids: pl.Series, values: pl.Series) -> NDArray[np.int32]:
    """Return for each row the place of its id among the distinct texts `values`: int32 [n].

    Args:
        ids: Without null.
        values: In which each of them is.
    """
    if not is_coded(ids):
        known = pl.DataFrame({"id": values}).with_row_index("place")
        joined = pl.DataFrame({"id": ids}).join(known, on="id", how="left", maintain_order="left")
        return joined["place"].cast(pl.Int32).to_numpy()
    numbers = values.cast(ids.dtype).to_physical().to_numpy()
    rows = ids.to_physical().to_numpy()
    table = np.zeros(max(numbers.max(initial=0), rows.max(initial=0)) + 1, np.int32)
    table[numbers] = np.arange(len(numbers), dtype=np.int32)
    found: NDArray[np.int32] = table[rows]
    return found


def _among(ids: pl.Series, wanted: pl.Series) -> pl.Series:
    return ids.to_physical().is_in(wanted.to_physical().implode())


def _changed(texts: pl.Series, change: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    named = texts.alias("id")
    return named.to_frame().select(change(pl.col("id")).alias("id")).to_series().alias(texts.name)
