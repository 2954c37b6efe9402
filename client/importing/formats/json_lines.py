"""Read JSON Lines into text columns, and the Python literals of the oldest Amazon metadata.

All values come out as text: numbers as they are written, lists and objects as JSON. The 2014
metadata files call themselves JSON but hold one Python dictionary a line; `ast.literal_eval` reads
them and runs no code.
"""

import ast
import io
import itertools
import json
import math
from collections.abc import Iterator, Sequence

import polars as pl

from common.errors import InputError

_LINES_LOOKED_AT = 1000
_LOOKS_NESTED = r"^\s*(?:\[\s*)*\{"


def read_json_lines(
    name: str, text: bytes, columns: Sequence[str], unnest: str | None = None
) -> pl.DataFrame:
    """Read `columns` of the objects in `text`, one a line; a key that a line lacks gives null.

    A column `a.b` is the field b of the record a. With `unnest` each record of that list is a row
    of its own, beside what the line says besides.

    Raises:
        InputError: if a line is not an object, no line has a key asked for, or a value asked for
            is itself a record.
    """
    if unnest is not None or any(_is_path(column, text) for column in columns):
        return _read_nested(name, text, columns, unnest)
    if _is_python(text):
        return _read_python_lines(name, text, columns)
    for column in columns:
        if json.dumps(column).encode() not in text and f'"{column}"'.encode() not in text:
            keys = ", ".join(map(repr, first_keys(name, text)))
            raise InputError(
                f"{name}: no line has the key {column!r}, which is needed. Keys of the "
                f"first lines: {keys}.",
                field=column,
            )
    try:
        schema = dict.fromkeys(columns, pl.String)
        frame = pl.read_ndjson(io.BytesIO(text), schema=schema).select(columns)
    except pl.exceptions.PolarsError:  # slow, and only now: it names the line
        return _read_nested(name, text, columns, None)
    nested = pl.any_horizontal(pl.all().str.contains(_LOOKS_NESTED))
    if frame.select(nested.any()).item():
        return _read_nested(name, text, columns, None)  # it tells text in braces from a record
    return frame


def first_keys(name: str, text: bytes) -> list[str]:
    """Return the keys of the first thousand lines, in order of first sight.

    Raises:
        InputError: if one of these lines is not an object.
    """
    parse = _python_objects if _is_python(text) else _objects
    looked_at = itertools.islice(parse(name, text), _LINES_LOOKED_AT)
    return list(dict.fromkeys(key for line in looked_at for key in _keys(line)))


def _keys(line: dict[str, object]) -> Iterator[str]:
    """Yield a line's keys, and of records and lists of records their fields as `key.field`."""
    for key, value in line.items():
        yield key
        for record in value if isinstance(value, list) else [value]:
            if isinstance(record, dict):
                yield from (f"{key}.{field}" for field in record)


def _is_path(column: str, text: bytes) -> bool:
    return "." in column and json.dumps(column).encode() not in text


def _read_nested(
    name: str, text: bytes, columns: Sequence[str], unnest: str | None
) -> pl.DataFrame:
    parse = _python_objects if _is_python(text) else _objects
    rows: list[list[str | None]] = []
    there: set[str] = set()
    for number, line in enumerate(parse(name, text), start=1):
        for record in _records(name, number, line, unnest):
            rows.append([_plain(name, number, column, _at(record, column)) for column in columns])
            there.update(column for column in columns if _at(record, column) is not None)
    missing = next((column for column in columns if column not in there), None)
    if missing is not None:
        keys = first_keys(name, text)
        what = "a value under" if missing in keys else "the key"
        raise InputError(
            f"{name}: no line has {what} {missing!r}, which is needed. Keys of the first lines: "
            f"{', '.join(map(repr, keys))}.",
            field=missing,
        )
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def _records(
    name: str, number: int, line: dict[str, object], unnest: str | None
) -> Iterator[dict[str, object]]:
    """Yield the line once for each record of its list, or once if it has none."""
    listed = line.get(unnest) if unnest is not None else None
    if listed is None or listed == []:
        yield {key: value for key, value in line.items() if key != unnest}
        return
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InputError(
            f"{name}: row {number}, {unnest!r} is no list of records, as unnest says it is.",
            field="unnest",
        )
    for record in listed:
        yield {**line, str(unnest): record}


def _at(record: dict[str, object], path: str) -> object:
    if path in record:
        return record[path]
    value: object = record
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _plain(name: str, number: int, column: str, value: object) -> str | None:
    deep = value if isinstance(value, list) else [value]
    if any(isinstance(one, dict) for one in deep):
        listed = isinstance(value, list)
        first = next(one for one in deep if isinstance(one, dict))
        field = f"{column}.{next(iter(first), 'field')}"
        what = "a list of records" if listed else "a record"
        advice = f'set unnest = "{column}" and name' if listed else "name"
        raise InputError(
            f"{name}: row {number}, {column!r} holds {what}, which is no text; "
            f"{advice} its fields, such as {field!r}.",
            field=column,
        )
    return _as_text(value)


def _is_python(text: bytes) -> bool:
    return text.lstrip()[:3].startswith((b"{'", b"{u'"))


def _lines(text: bytes) -> Iterator[bytes]:
    return (line for line in io.BytesIO(text) if line.strip())


def _objects(name: str, text: bytes) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_lines(text), start=1):
        try:
            value = json.loads(line, parse_constant=lambda _: None)  # pandas writes NaN for null
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{name}: row {number} is not valid JSON ({error}); one object a line is expected.",
                field="row",
            ) from None
        if not isinstance(value, dict):
            raise InputError(
                f"{name}: row {number} is not a JSON object; one object a line is expected, such "
                'as {"item_id": "A1", "title": "Tea"}.',
                field="row",
            )
        yield value


def _python_objects(name: str, text: bytes) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_lines(text), start=1):
        try:
            value = ast.literal_eval(line.decode())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InputError(
                f"{name}: row {number} is not a Python dictionary as the first row is.", field="row"
            )
        yield value


def _read_python_lines(name: str, text: bytes, columns: Sequence[str]) -> pl.DataFrame:
    rows = [[_as_text(line.get(key)) for key in columns] for line in _python_objects(name, text)]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str)
