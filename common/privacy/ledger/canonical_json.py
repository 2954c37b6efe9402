"""Records as canonical JSON: the one form that is hashed and signed, and the only one read back."""

import functools
import json
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from common.errors import InputError, SettingsError

Record = TypeVar("Record")


def canonical(fields: object) -> str:
    """Return JSON with sorted keys and no spaces; a dataclass is an object of its fields.

    Raises:
        ValueError: if a number is not finite.
        TypeError: of what JSON has no form for.
    """
    return json.dumps(
        fields, sort_keys=True, separators=(",", ":"), allow_nan=False, default=fields_of
    )


def fields_of(record: object) -> dict[str, Any]:
    """Return a dataclass's fields by name, as they are: `dataclasses.asdict` copies each of them.

    Raises:
        TypeError: if it is no dataclass.
    """
    names = getattr(record, "__dataclass_fields__", None)
    if names is None:
        raise TypeError(f"A {type(record).__name__} has no canonical form.")
    return {name: getattr(record, name) for name in names}


def read_canonical(kind: type[Record], text: str, write: Callable[[Record], str]) -> Record:
    """Read a frozen dataclass that `write` wrote, each field checked against its type.

    Whoever signs a record chooses its fields: without the types a number that is a text would be
    found only where it is first compared, in the middle of a run.

    Raises:
        ValueError: unless `text` is exactly what `write` makes of the record. It quotes nothing.
    """
    try:
        record: Record = _adapter(cast("Hashable", kind)).validate_json(text, strict=True)
        same = write(record) == text
    except (ValueError, SettingsError):
        raise ValueError("not readable") from None
    if not same:
        raise ValueError("not in canonical form")
    return record


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


Line = tuple[str, str, str]  # body, its SHA-256, signature of that hash: the last two in hex


def write_line(line: Line) -> bytes:
    """Return one line, newline included."""
    body, digest, signature = line
    return canonical({"body": body, "hash": digest, "signature": signature}).encode() + b"\n"


def read_lines(content: bytes) -> list[Line]:
    """Read what `write_line` wrote, line after line.

    Raises:
        InputError: naming the first line that is not exactly what `write_line` writes.
    """
    if not content:
        return []
    lines: list[Line] = []
    for number, raw in enumerate(content.split(b"\n")[:-1], 1):
        try:
            fields = json.loads(raw)
            line = (fields["body"], fields["hash"], fields["signature"])
            same = write_line(line) == raw + b"\n"
        except (ValueError, TypeError, KeyError, RecursionError):  # the last of nested brackets
            same = False
        if not same:
            raise InputError(f"Line {number} is altered or not readable.", field=f"line {number}")
        lines.append(line)
    if not content.endswith(b"\n"):
        raise InputError(f"Line {len(lines) + 1} has no end.", field=f"line {len(lines) + 1}")
    return lines
