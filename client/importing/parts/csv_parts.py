"""Read large CSV files part by part, each a few megabytes of whole records.

A part is cut behind a line end with an even number of quotes before it, as RFC 4180 has records
end, and is read as a file of its own. Whatever is unusual (an escape, a header in quotes, another
encoding) or wrong is left to the reader of whole files, which says where it is: a part that
cannot be read is an error here, and the caller begins anew.
"""

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, cast

import polars as pl

from client.importing.files import FILE, ROW, Style, column_names, require_columns, style_of
from client.importing.formats.csv_structure import (
    first_record,
    with_plain_line_ends,
    without_separator_line,
)
from client.importing.formats.csv_tables import CsvStyle, read_csv
from client.importing.formats.encodings import as_utf8
from client.importing.mapping import TableSource
from common.errors import InputError

PART: Final = 16 << 20  # bytes, unpacked
LONGEST: Final = 8 * PART  # of one record: beyond it a quote was mostly left open
_CUT_BY_LINE_ENDS: Final = ("utf-8", "utf8", "ascii", "cp1252", "latin-1", "iso-8859-1", "gb18030")
_MARK: Final = b"\xef\xbb\xbf"  # a byte order mark

Watch = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""


def read_in_parts(
    paths: Sequence[Path],
    source: TableSource,
    columns: Sequence[str],
    encoding: str,
    watch: Watch | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield `columns` of CSV files in parts, in order, each as `read_files` has them.

    Of `ROW` only the order is kept: it starts anew in each part.

    Raises:
        InputError: if a file is not one to be read in parts, or something in it is wrong.
    """
    names = pl.Enum([path.name for path in paths])
    sizes = [path.stat().st_size for path in paths]
    for place, path in enumerate(paths):
        style = style_of(path, source, encoding)
        _require_plain(path, style)
        require_columns(path.name, columns, column_names(path, style))
        read, rows = sum(sizes[:place]), 0
        with path.open("rb") as file:
            for text, header in _texts(path, file, style):
                plain = CsvStyle(style.csv.separator, style.csv.quote, "", header)
                frame = read_csv(path.name, text, plain, columns, ROW)
                rows += frame.height
                yield frame.with_columns(pl.lit(path.name, dtype=names).alias(FILE))
                if watch is not None:
                    watch(read + file.tell(), sum(sizes))
        if not rows:
            raise InputError(f"{path.name}: has no data rows.", field="row")


def _require_plain(path: Path, style: Style) -> None:
    one_byte = len(style.csv.separator.encode()) == 1
    encoding = style.encoding.lower().replace("_", "-")
    if style.kind != "csv" or style.csv.escape or not one_byte or encoding not in _CUT_BY_LINE_ENDS:
        raise InputError(f"{path.name}: is read as a whole.", field="file")


def _texts(path: Path, file: IO[bytes], style: Style) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Yield the records of each part as UTF-8, without the header line, and the header."""
    header = style.csv.header
    for number, content in enumerate(_whole_records(file, style.csv.quote)):
        if number and content.startswith(_MARK):
            raise InputError(f"{path.name}: holds a byte order mark.", field="encoding")
        text = as_utf8(path.name, content, style.encoding)
        if not number:
            text = without_separator_line(path.name, text, style.csv.separator)
        quote = style.csv.quote.encode()
        if style.csv.escape is None and quote and b"\\" + quote in text:
            raise InputError(f"{path.name}: holds what may be an escape.", field="escape")
        if not header:
            text = with_plain_line_ends(text, style.csv.quote).lstrip(b"\n")
            if not text:
                continue
            line = first_record(text, style.csv.quote)
            if quote and quote in line:
                raise InputError(f"{path.name}: has a quoted header.", field="header")
            header = tuple(line.decode().split(style.csv.separator))
            text = text[len(line) + 1 :]
        if text:
            yield text, header


def _whole_records(file: IO[bytes], quote: str) -> Iterator[bytes]:
    """Yield the file's bytes, cut behind line ends outside quotes."""
    gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if gzipped else file
    mark, left = quote.encode(), b""
    while block := unpacked.read(PART):
        left += block
        if len(left) > LONGEST:
            raise InputError("One record is longer than several parts.", field="row")
        end = _last_end(left, mark)
        if end:
            yield left[:end]
            left = left[end:]
    if left:
        yield left


def _last_end(text: bytes, mark: bytes) -> int:
    """Return how many bytes there are up to the last line end outside quotes; 0 without one."""
    end = text.rfind(b"\n") + 1
    odd = bool(mark) and text.count(mark, 0, end) % 2 == 1
    while end and odd:  # no line end behind the last quote is one of a record
        before = text.rfind(b"\n", 0, text.rfind(mark, 0, end)) + 1
        odd ^= text.count(mark, before, end) % 2 == 1
        end = before
    return end
