"""Read JSON Lines into text columns, and the Python literals of the oldest Amazon metadata.

All values come out as text: numbers as they are written, lists and objects as JSON. The 2014
metadata files call themselves JSON but hold one Python dictionary a line; `ast.literal_eval` reads
them and runs no code.
"""

import ast
import io
import itertools
import json
from collections.abc import Iterator, Sequence

import polars as pl

from common.errors import InputError

_LINES_LOOKED_AT = 100


def read_json_lines(name: str, text: bytes, columns: Sequence[str]) -> pl.DataFrame:
    """Read `columns` of the objects in `text`, one a line; a key that a line lacks gives null.

    Raises:
        InputError: if a line is not an object, or no line has a key asked for.
    """
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
        return pl.read_ndjson(io.BytesIO(text), schema=schema).select(columns)
    except pl.exceptions.PolarsError as error:
        for _ in _objects(name, text):  # slow, and only now: it names the line
            pass
        raise InputError(f"{name}: not readable as JSON Lines: {error}.", field="row") from None


def first_keys(name: str, text: bytes) -> list[str]:
    """Return the keys of the first hundred lines, in order of first sight.

    Raises:
        InputError: if one of these lines is not an object.
    """
    parse = _python_objects if _is_python(text) else _objects
    looked_at = itertools.islice(parse(name, text), _LINES_LOOKED_AT)
    return list(dict.fromkeys(key for line in looked_at for key in line))


def _is_python(text: bytes) -> bool:
    return text.lstrip()[:3].startswith((b"{'", b"{u'"))


def _lines(text: bytes) -> Iterator[bytes]:
    return (line for line in io.BytesIO(text) if line.strip())


def _objects(name: str, text: bytes) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_lines(text), start=1):
        try:
            value = json.loads(line)
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
    return json.dumps(value, ensure_ascii=False)
