"""Read one raw table from files: CSV, TSV, JSON Lines or Parquet, each also gzipped.

This is the only door to file formats. A frame that leaves it has the columns asked for, as text
where the format has no types, and beside them `ROW`, the 1-based data row, and `FILE`, so that an
error found later can still say where. Files are read whole, into memory.
"""

import codecs
import csv
import difflib
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl

from client.importing.json_lines import first_keys, read_json_lines
from client.importing.mapping import TableSource
from common.errors import InputError

ROW = "__row__"
FILE = "__file__"
_CSV_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".dat": ","}
_FORMATS = {
    **dict.fromkeys(_CSV_ENDINGS, "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json_lines"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
_ENOUGH_FOR_NAMES = 1 << 20  # bytes of a text file in which its column names must stand
_ONE_BYTE = "\x1f"  # Unicode's unit separator stands in for a separator of several characters
_OTHER_KINDS = {  # first bytes of files that newcomers give by mistake
    b"PK\x03\x04": "a spreadsheet or zip file; save it as CSV (UTF-8) or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV (UTF-8)",
    b"\xff\xfe": 'UTF-16 text; save it as UTF-8 or set encoding = "utf-16" in the mapping',
    b"\xfe\xff": 'UTF-16 text; save it as UTF-8 or set encoding = "utf-16" in the mapping',
    b"%PDF": "a PDF; export the table as CSV",
    b"PAR1": 'a Parquet file; set format = "parquet" in the mapping',
}


@dataclass(frozen=True)
class Style:
    """How one file is written, once all defaults are filled in."""

    kind: str
    separator: str
    quote: str
    header: tuple[str, ...]
    encoding: str


def _matches(folder: Path, pattern: str, section: str) -> list[Path]:
    problem = "it is an absolute path" if PurePath(pattern).anchor else ""
    if not problem:
        try:
            return list(folder.glob(pattern))
        except ValueError as error:
            problem = str(error)
    raise InputError(
        f"[{section}] file: {pattern!r} is not a pattern relative to the shop's folder: {problem}.",
        field="file",
    )


def find_files(folder: Path, patterns: Sequence[str], section: str) -> list[Path]:
    """Return the files of `folder` that match a pattern and no pattern with a leading `!`.

    Raises:
        InputError: if there are none, or a match is a folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the shop's folder or file.", field="file")
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    matches = {path for pattern in wanted for path in _matches(folder, pattern, section)}
    found = sorted(p for p in matches if not any(PurePath(p.name).match(no) for no in unwanted))
    files = [path for path in found if path.is_file()]
    if found and not files:
        raise InputError(f"{found[0].name}: is a folder; a file is expected.", field="file")
    if not files:
        seen = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise InputError(
            f"{folder.name}: no file matches {' '.join(wanted)!r}, which [{section}] asks for. "
            f"The folder holds: {seen}.",
            field="file",
        )
    return files


def read_files(
    paths: Sequence[Path], source: TableSource, columns: Sequence[str], encoding: str
) -> pl.DataFrame:
    """Read `columns` of all `paths` as one frame, with `ROW` and `FILE` beside them.

    Raises:
        InputError: if a file cannot be read, is not what its format says, has no rows, or lacks a
            column; the message names the file and, where known, the row.
    """
    names = pl.Enum([path.name for path in paths])
    frames = []
    for path in paths:
        style = style_of(path, source, encoding)
        frame = _read_file(path, style, columns)
        if frame.is_empty():
            raise InputError(f"{path.name}: has no data rows; at least one is needed.", field="row")
        frames.append(frame.with_columns(pl.lit(path.name, dtype=names).alias(FILE)))
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError:
        listed = ", ".join(path.name for path in paths)
        raise InputError(
            f"{listed}: one column has different types in these files; write all alike.",
            field="file",
        ) from None


def style_of(path: Path, source: TableSource, encoding: str) -> Style:
    """Fill in what the mapping leaves to the file's ending.

    Raises:
        InputError: if the ending says nothing and neither does the mapping.
    """
    ending = PurePath(path.name.lower().removesuffix(".gz")).suffix
    kind = source.format or _FORMATS.get(ending)
    if kind is None:
        raise InputError(
            f"{path.name}: the ending {ending!r} says no format; set format to csv, json_lines or "
            "parquet in the mapping.",
            field="format",
        )
    separator = source.separator or _CSV_ENDINGS.get(ending, ",")
    return Style(kind, separator, source.quote, source.header, source.encoding or encoding)


def column_names(path: Path, style: Style) -> list[str]:
    """Return a file's column names (of JSON Lines: the keys of its first lines).

    Raises:
        InputError: as `read_files`.
    """
    whole = style.kind == "parquet" or _is_wide(style.encoding)
    content = _read_bytes(path, style, -1 if whole else _ENOUGH_FOR_NAMES)
    if style.kind == "parquet":
        return list(_parquet_schema(path, content))
    text = _as_utf8(path, content, style.encoding)
    if style.kind == "json_lines":
        return first_keys(path.name, text)
    return list(style.header) or _csv_header(path, text, style)


def require_columns(name: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Refuse a table that lacks a mapped column.

    Raises:
        InputError: naming the first missing column, what there is, and the nearest name.
    """
    for column in wanted:
        if column not in found:
            near = difflib.get_close_matches(column.lower(), [one.lower() for one in found], n=1)
            hint = next((f" Did you mean {one!r}?" for one in found if one.lower() in near), "")
            raise InputError(
                f"{name}: no column {column!r}, which is needed. Columns found: "
                f"{', '.join(map(repr, found))}.{hint}",
                field=column,
            )


def _read_file(path: Path, style: Style, columns: Sequence[str]) -> pl.DataFrame:
    content = _read_bytes(path, style)
    if style.kind == "parquet":
        return _read_parquet(path, content, columns)
    text = _as_utf8(path, content, style.encoding)
    if style.kind == "json_lines":
        return read_json_lines(path.name, text, columns).with_row_index(ROW, offset=1)
    return _read_csv(path, text, style, columns)


def _read_bytes(path: Path, style: Style, limit: int = -1) -> bytes:
    """Return a file's bytes, unpacked; of a text file at most `limit`, up to a line's end."""
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if gzipped else file).read(limit)
    except IsADirectoryError:
        raise InputError(f"{path.name}: is a folder; a file is expected.", field="file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path.name}: the gzip data is cut short or damaged ({error}); copy the file again.",
            field="file",
        ) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read: {error.strerror}.", field="file") from None
    if path.name.lower().endswith(".gz") and content and not gzipped:
        raise InputError(f"{path.name}: ends with .gz but is not gzip; rename it.", field="file")
    if not content.strip():
        raise InputError(f"{path.name}: is empty; a table is expected.", field="file")
    if style.kind != "parquet" and not _is_wide(style.encoding):
        for start, what in _OTHER_KINDS.items():
            if content.startswith(start):
                raise InputError(f"{path.name}: looks like {what}.", field="file")
    if len(content) == limit:
        content = content[: content.rfind(b"\n") + 1] or content
    return content


def _is_wide(encoding: str) -> bool:
    """Tell whether characters take two or four bytes each, so that a newline is not one byte."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _as_utf8(path: Path, content: bytes, encoding: str) -> bytes:
    """Return `content` as UTF-8 without a byte order mark and with Unix line ends."""
    codec = codecs.lookup(encoding).name
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path.name}: line {line} is not valid {codec} (byte {error.start}). Save the file as "
            'UTF-8, or name its encoding in the mapping, such as encoding = "gb18030" or '
            '"latin-1".',
            field="encoding",
        ) from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise InputError(
            f"{path.name}: line {line} holds a NUL byte, so this is not a text file or it is "
            "damaged; export it again.",
            field="file",
        )
    if "\r" in text:
        text = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    return text.encode()


# ------------------------------------------------------------------------ CSV


def _csv_header(path: Path, text: bytes, style: Style) -> list[str]:
    first_line = text.partition(b"\n")[0].decode()
    names = next(_csv_rows(io.StringIO(first_line), style), [])
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{path.name}: two columns are called {twice!r}; rename one.", field="header"
        )
    if len(names) == 1 and style.separator not in first_line:
        other = next((one for one in (",", ";", "\t", "|") if one in first_line), None)
        if other is not None:
            raise InputError(
                f"{path.name}: the header has no {style.separator!r} and is one column, "
                f"{first_line[:80]!r}; set separator = {json.dumps(other)} in the mapping.",
                field="separator",
            )
    return names


def _read_csv(path: Path, text: bytes, style: Style, columns: Sequence[str]) -> pl.DataFrame:
    names = list(style.header) or _csv_header(path, text, style)
    require_columns(path.name, columns, names)
    separator = style.separator
    if len(separator.encode()) > 1:
        text = text.replace(separator.encode(), _ONE_BYTE.encode())
        separator = _ONE_BYTE
    try:
        frame = pl.read_csv(
            io.BytesIO(text),
            separator=separator,
            quote_char=style.quote or None,
            has_header=not style.header,
            new_columns=style.header or None,
            infer_schema=False,
            row_index_name=ROW,
            row_index_offset=1,
        )
    except pl.exceptions.PolarsError as error:
        _explain_rows(path, text, style, separator, len(names))
        raise InputError(f"{path.name}: not a readable CSV file: {error}.", field="row") from None
    # Polars fills a row that is too short with nulls, which then look like empty cells.
    if frame[frame.columns[-1]].has_nulls():
        _explain_rows(path, text, style, separator, len(names))
    return frame.select(ROW, *columns)


def _explain_rows(path: Path, text: bytes, style: Style, separator: str, width: int) -> None:
    """Read a doubtful file once more with Python's own reader, to name the first bad row.

    Raises:
        InputError: if a row is too short, too long or wrongly quoted.
    """
    stream = io.StringIO(text.decode(), newline="")
    rows = _csv_rows(stream, style, separator)
    number = 0 if style.header else -1
    try:
        for row in rows:
            number += 1
            if len(row) not in (0, width):
                raise InputError(
                    f"{path.name}: row {number} has {len(row)} fields; {width} are expected. "
                    "A separator inside a field needs quotes around the field.",
                    field="row",
                )
    except csv.Error as error:
        raise InputError(
            f"{path.name}: row {number + 1} is wrongly quoted ({error}). Double a quote inside a "
            'quoted field, or set quote = "" in the mapping if the file has no quoting.',
            field="row",
        ) from None


def _csv_rows(stream: io.StringIO, style: Style, separator: str = "") -> Iterator[list[str]]:
    one_byte = separator or (style.separator if len(style.separator.encode()) == 1 else "")
    if not one_byte:  # the header of a file whose separator has several characters
        return iter([stream.read().split(style.separator)])
    if not style.quote:
        return csv.reader(stream, delimiter=one_byte, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(stream, delimiter=one_byte, quotechar=style.quote, strict=True)


# -------------------------------------------------------------------- Parquet


def _parquet_schema(path: Path, content: bytes) -> Sequence[str]:
    try:
        return list(pl.read_parquet_schema(io.BytesIO(content)))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path.name}: not a readable Parquet file: {str(error).splitlines()[0]}.", field="file"
        ) from None


def _read_parquet(path: Path, content: bytes, columns: Sequence[str]) -> pl.DataFrame:
    require_columns(path.name, columns, _parquet_schema(path, content))
    try:
        frame = pl.read_parquet(io.BytesIO(content), columns=list(columns))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path.name}: the Parquet file is damaged: {str(error).splitlines()[0]}.", field="file"
        ) from None
    return frame.with_row_index(ROW, offset=1)
