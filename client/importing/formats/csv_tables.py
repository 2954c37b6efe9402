"""Read a CSV table with Polars, and hold it against what the strict reader says, cell by cell."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from client.importing.formats.csv_structure import (
    CsvStructure,
    WrongQuoteError,
    csv_structure,
    first_record,
    with_plain_line_ends,
)
from common.errors import InputError

_ONE_BYTE = "\x1f"  # Unicode's unit separator stands in for a separator of several characters
_SEPARATORS = (",", ";", "\t", "|")
_NULL = "\x1a"  # an escaped N, a database's word for nothing
_STAND_INS = {"quote": "\x1c", "separator": "\x1d", "newline": "\x1e"}  # of what was escaped


@dataclass(frozen=True)
class CsvStyle:
    """How a CSV file is written.

    Attributes:
        separator: One or more characters.
        quote: One character, or empty if the file has no quoting.
        escape: One character before a quote, separator, newline or itself inside a field; empty
            for none; None if it is not known, and a file that can be read both ways is refused.
        header: The column names of a file without a header line.
    """

    separator: str = ","
    quote: str = '"'
    escape: str | None = None
    header: tuple[str, ...] = ()


def csv_column_names(name: str, text: bytes, style: CsvStyle) -> list[str]:
    """Return the column names of UTF-8 `text`, of which the start is enough.

    Raises:
        InputError: if the header is wrongly quoted, or is one column of several.
    """
    if style.header:
        return list(style.header)
    return _header(name, with_plain_line_ends(text, style.quote), style)


def read_csv(
    name: str, text: bytes, style: CsvStyle, columns: Sequence[str], row: str
) -> pl.DataFrame:
    """Return `columns` of UTF-8 `text` as text, null where a cell is empty, and `row` from 1.

    Raises:
        InputError: if a record is wrongly quoted, or has not as many fields as the header, or if
            two readings of the file differ.
    """
    text = with_plain_line_ends(text, style.quote)
    if not style.header:
        text = text.lstrip(b"\n")
    names = list(style.header) or _header(name, text, style)
    if style.escape:
        text = _without_escapes(name, text, style)
    separator = style.separator
    if len(separator.encode()) > 1:
        _require_absent(name, text, _ONE_BYTE)
        text = text.replace(separator.encode(), _ONE_BYTE.encode())
        separator = _ONE_BYTE
    found = _strict(name, text, separator, style, len(names))
    if not style.header:
        text = _without_header(text, found)
    places = {column: names.index(column) for column in columns}
    plain = CsvStyle(separator, style.quote, header=tuple(names))
    frame = _by_polars(name, text, plain, places, row)
    _require_same(name, frame, found, places, len(names), headed=not style.header)
    return _with_escapes(frame, columns, style, separator)


def _header(name: str, text: bytes, style: CsvStyle) -> list[str]:
    line = first_record(text, style.quote).decode()
    separator = style.separator
    if len(separator.encode()) > 1:
        return line.split(separator)
    stream = io.StringIO(line, newline="")
    if style.quote:
        reader = csv.reader(stream, delimiter=separator, quotechar=style.quote, strict=True)
    else:
        reader = csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    try:
        names = next(reader, [])
    except csv.Error:
        raise InputError(
            f"{name}: the header line is wrongly quoted for the separator {separator!r}. Double a "
            "quote inside a quoted name, or set separator or quote in the mapping.",
            field="header",
        ) from None
    if len(names) == 1 and separator not in line:
        other = next((one for one in _SEPARATORS if one in line), None)
        if other is not None:
            raise InputError(
                f"{name}: the header has no {separator!r} and is one column, {line[:80]!r}; set "
                f"separator = {json.dumps(other)} in the mapping.",
                field="separator",
            )
    return names


def _require_absent(name: str, text: bytes, *marks: str) -> None:
    for mark in marks:
        if mark.encode() in text:
            raise InputError(
                f"{name}: holds the control character {mark!r}, which a file with such a separator "
                "or escape may not; remove it.",
                field="file",
            )


# ------------------------------------------------------------------ the strict reading


def _strict(name: str, text: bytes, separator: str, style: CsvStyle, width: int) -> CsvStructure:
    """Return the file's structure.

    Raises:
        InputError: naming the first record that is wrongly quoted or of another width, or that an
            escape would make another one.
    """
    first = 1 if style.header else 0  # the number of the first record; a header counts as 0
    try:
        found = csv_structure(text, separator, style.quote)
    except WrongQuoteError as error:
        raise InputError(
            f"{name}: row {error.record + first} is wrongly quoted ({error.why}). "
            f"{_remedy(style, escaped=error.escaped)}",
            field="row",
        ) from None
    _require_width(name, found, width, first)
    if style.escape is None and style.quote and b"\\" + style.quote.encode() in text:
        _require_one_reading(name, text, separator, style, found)
    return found


def _remedy(style: CsvStyle, *, escaped: bool) -> str:
    if escaped and not style.escape:
        mark = style.quote.replace('"', '\\"')
        return (
            f'If the file writes \\{style.quote} for a quote, set escape = "\\\\" in the mapping; '
            f'else double a quote inside a quoted field, or set quote = "" if {mark} is text.'
        )
    return (
        "Double a quote inside a quoted field, put quotes around a whole field, or set "
        'quote = "" in the mapping if the file has no quoting.'
    )


def _require_width(name: str, found: CsvStructure, width: int, first: int) -> None:
    widths = found.widths
    wrong = (widths != width) & ~found.blank
    if not wrong.any():
        return
    place = int(np.argmax(wrong))
    raise InputError(
        f"{name}: row {place + first} has {widths[place]} fields; {width} are expected. "
        "A separator inside a field needs quotes around the field.",
        field="row",
    )


def _require_one_reading(
    name: str, text: bytes, separator: str, style: CsvStyle, found: CsvStructure
) -> None:
    """Refuse a file that is also whole when a backslash escapes a quote."""
    other = CsvStyle(separator, style.quote, "\\", style.header)
    try:
        again = csv_structure(_without_escapes(name, text, other), separator, style.quote)
    except WrongQuoteError:
        return
    if not np.isin(again.widths[~again.blank], found.widths[~found.blank]).all():
        return
    place = text.index(b"\\" + style.quote.encode())
    record = int(np.searchsorted(found.ends[found.last], place))
    raise InputError(
        f"{name}: row {record + (1 if style.header else 0)} holds a backslash before a quote, and "
        'the file can be read with and without it as an escape. Set escape = "\\\\" in the mapping '
        'if it is one, escape = "" if it is text.',
        field="escape",
    )


# ------------------------------------------------------------------- the table itself


def _without_header(text: bytes, found: CsvStructure) -> bytes:
    return text[int(found.ends[found.last[0]]) + 1 :]


def _by_polars(
    name: str, text: bytes, style: CsvStyle, places: dict[str, int], row: str
) -> pl.DataFrame:
    # A header of our own: names may be empty or the same twice, and a first line may be blank.
    plain = [f"c{place}" for place in range(len(style.header))]
    body = style.separator.join(plain).encode() + b"\n" + text
    try:
        frame = pl.read_csv(
            io.BytesIO(body),
            separator=style.separator,
            quote_char=style.quote or None,
            infer_schema=False,
            columns=[plain[place] for place in sorted(set(places.values()))],
            row_index_name=row,
            row_index_offset=1,
        )
    except pl.exceptions.PolarsError:
        raise InputError(
            f"{name}: this CSV file cannot be read, though its quoting is right; save it again "
            "with another program.",
            field="row",
        ) from None
    return frame.select(row, *(pl.col(plain[place]).alias(one) for one, place in places.items()))


def _require_same(
    name: str,
    frame: pl.DataFrame,
    found: CsvStructure,
    places: dict[str, int],
    width: int,
    *,
    headed: bool,
) -> None:
    """Hold each cell's length in bytes against the strict reading.

    Raises:
        InputError: naming the first row that differs.
    """
    last, blank = found.last[int(headed) :], found.blank[int(headed) :] & (width > 1)
    if frame.height != len(last):
        raise InputError(
            f"{name}: one reader finds {frame.height} rows and a strict one {len(last)}; save the "
            "file again with another program.",
            field="row",
        )
    for column, place in places.items():
        fields = np.where(blank, 0, last - (width - 1) + place)
        expected = np.where(blank, 0, found.lengths(fields))
        seen = frame[column].str.len_bytes().fill_null(0).to_numpy()
        wrong = expected != seen
        if wrong.any():
            raise InputError(
                f"{name}: row {int(np.argmax(wrong)) + 1}, column {column!r}: two readers differ "
                "on this cell; save the file again with another program.",
                field=column,
            )


# ------------------------------------------------------------------------- escapes


def _without_escapes(name: str, text: bytes, style: CsvStyle) -> bytes:
    """Put stand-ins in the place of what is escaped, so that only true marks are left."""
    _require_absent(name, text, _NULL, *_STAND_INS.values())
    escape = re.escape((style.escape or "\\").encode())
    marks = {
        b"\n": _STAND_INS["newline"].encode(),
        b"N": _NULL.encode(),
        style.separator.encode()[:1]: _STAND_INS["separator"].encode(),
    }
    if style.quote:
        marks[style.quote.encode()] = _STAND_INS["quote"].encode()
    return re.sub(
        escape + rb"(.)", lambda found: marks.get(found[1], found[1]), text, flags=re.DOTALL
    )


def _with_escapes(
    frame: pl.DataFrame, columns: Sequence[str], style: CsvStyle, separator: str
) -> pl.DataFrame:
    cells = pl.col(list(columns))
    if style.escape:
        marks = {"quote": style.quote, "separator": style.separator[:1], "newline": "\n"}
        frame = frame.with_columns(pl.when(cells != _NULL).then(cells))
        for what, stand_in in ((_NULL, "N"), *((_STAND_INS[one], marks[one]) for one in marks)):
            frame = frame.with_columns(cells.str.replace_all(what, stand_in, literal=True))
    if separator != style.separator:
        frame = frame.with_columns(cells.str.replace_all(separator, style.separator, literal=True))
    return frame
