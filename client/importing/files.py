"""Read one raw table from files: CSV, TSV, JSON Lines or Parquet, each also gzipped.

This is the only door to file formats. A frame that leaves it has the columns asked for, as text
where the format has no types, and beside them `ROW`, the 1-based data row, and `FILE`, so that an
error found later can still say where. Files are read whole, into memory.
"""

import difflib
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl

from client.importing.formats.csv_structure import without_separator_line
from client.importing.formats.csv_tables import CsvStyle, csv_column_names, read_csv
from client.importing.formats.encodings import as_utf8, is_wide
from client.importing.formats.json_lines import first_keys, read_json_lines
from client.importing.formats.xml_feed import read_xml, xml_rows
from client.importing.mapping import TableSource
from common.errors import InputError

ROW = "__row__"
FILE = "__file__"
_CSV_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".dat": ","}
_FORMATS = {
    **dict.fromkeys(_CSV_ENDINGS, "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json_lines"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".xml": "xml",
}
_ENOUGH_FOR_NAMES = 1 << 20  # bytes of a text file in which its column names must stand
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")  # of UTF-16 and UTF-32
_WIDEST_MARKS = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")  # of UTF-32
_OTHER_KINDS = {  # first bytes of files that newcomers give by mistake
    b"PK\x03\x04": "a spreadsheet or zip file; save it as CSV (UTF-8) or unpack it",
    b"PK\x05\x06": "an empty zip file; save the table as CSV (UTF-8)",
    b"\x1f\x8b": "a gzip file that was packed twice; unpack it once",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV (UTF-8)",
    b"%PDF": "a PDF; export the table as CSV",
    b"PAR1": 'a Parquet file; set format = "parquet" in the mapping',
}


@dataclass(frozen=True)
class Style:
    """How one file is written, once all defaults are filled in."""

    kind: str
    csv: CsvStyle
    encoding: str
    unnest: str | None = None


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
    written = CsvStyle(separator, source.quote, source.escape, source.header)
    return Style(kind, written, source.encoding or encoding, source.unnest)


def column_names(path: Path, style: Style) -> list[str]:
    """Return a file's column names (of JSON Lines: the keys of its first lines).

    Raises:
        InputError: as `read_files`.
    """
    whole = style.kind in ("parquet", "xml") or is_wide(style.encoding)
    content = _read_bytes(path, style, -1 if whole else _ENOUGH_FOR_NAMES)
    if style.kind == "parquet":
        return list(_parquet_schema(path, content))
    text = _as_text(path, content, style)
    if style.kind == "json_lines":
        return first_keys(path.name, text)
    if style.kind == "xml":
        return list(dict.fromkeys(key for row in xml_rows(path.name, text) for key in row))
    return csv_column_names(path.name, text, style.csv)


def require_columns(name: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Refuse a table that lacks a mapped column, or has it twice.

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
        if found.count(column) > 1:
            raise InputError(
                f"{name}: two columns are called {column!r}; rename one.", field="header"
            )


def _read_file(path: Path, style: Style, columns: Sequence[str]) -> pl.DataFrame:
    content = _read_bytes(path, style)
    if style.kind == "parquet":
        return _read_parquet(path, content, columns)
    text = _as_text(path, content, style)
    if style.kind == "json_lines":
        frame = read_json_lines(path.name, text, columns, style.unnest)
        return frame.with_row_index(ROW, offset=1)
    if style.kind == "xml":
        rows = read_xml(path.name, text, columns, ROW)
        require_columns(path.name, columns, column_names(path, style))
        return rows
    require_columns(path.name, columns, csv_column_names(path.name, text, style.csv))
    return read_csv(path.name, text, style.csv, columns, ROW)


def _as_text(path: Path, content: bytes, style: Style) -> bytes:
    """Return UTF-8; a byte order mark of UTF-16 says more than the encoding that was assumed."""
    wide = content.startswith(_WIDE_MARKS) and not is_wide(style.encoding)
    said = "utf-32" if content.startswith(_WIDEST_MARKS) else "utf-16"
    text = as_utf8(path.name, content, said if wide else style.encoding)
    return (
        without_separator_line(path.name, text, style.csv.separator)
        if style.kind == "csv"
        else text
    )


def _require_text(path: Path, content: bytes, style: Style, *, gzipped: bool) -> None:
    """Refuse what is no table at the first look."""
    if path.name.lower().endswith(".gz") and content and not gzipped:
        raise InputError(f"{path.name}: ends with .gz but is not gzip; rename it.", field="file")
    if not content.strip():
        raise InputError(f"{path.name}: is empty; a table is expected.", field="file")
    if style.kind != "parquet" and not is_wide(style.encoding):
        for start, what in _OTHER_KINDS.items():
            if content.startswith(start):
                raise InputError(f"{path.name}: looks like {what}.", field="file")


def _read_bytes(path: Path, style: Style, limit: int = -1) -> bytes:
    """Return a file's bytes, unpacked; of a text file at most `limit`, up to a line's end."""
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if gzipped else file).read(limit)
    except IsADirectoryError:
        raise InputError(f"{path.name}: is a folder; a file is expected.", field="file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(
            f"{path.name}: the gzip data is cut short or damaged; copy the file again.",
            field="file",
        ) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read: {error.strerror}.", field="file") from None
    _require_text(path, content, style, gzipped=gzipped)
    if len(content) == limit and content.startswith(_WIDE_MARKS):
        return _read_bytes(path, style)
    if len(content) == limit:
        content = content[: content.rfind(b"\n") + 1] or content
    return content


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
