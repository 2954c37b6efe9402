"""Messages of the secure sum as bytes, and back: whatever comes, it is a message or one error.

The form is canonical JSON, bytes in hex, then a vector's numbers as they are, little-endian. What
is read must be exactly what would be written of it, so each message has one form.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from common.errors import MaskedReplyError, SecureSumError
from common.privacy.ledger.canonical_json import canonical

_HEAD: Final = 8  # bytes that tell the length of the JSON
_KEY: Final = 2 * 32 + 16  # a key or share in hex or decimal, with what stands around it
_PARTY: Final = 1_024  # a party's name, signature and what stands around them

_AS_IT_IS: Final = frozenset({str, int})

M = TypeVar("M")


def most_bytes(parties: int, rounds: int, length: int) -> int:
    """Return what no message of such a run exceeds: a roster, a vector or sealed shares."""
    return 8 * length + parties * (_PARTY + 2 * rounds * _KEY) + 2**12


def encode(message: object) -> bytes:
    """Return a message, a dataclass of this room, as bytes."""
    arrays: list[NDArray[np.uint64]] = []
    text = canonical(_plain(message, arrays)).encode()
    numbers = b"".join(array.astype("<u8", copy=False).tobytes() for array in arrays)
    return len(text).to_bytes(_HEAD, "big") + text + numbers


def read_reply(kind: type[M], content: bytes, most: int) -> M:
    """Read a party's message at the server.

    Raises:
        MaskedReplyError: `message`, if it is none of this kind, or longer than `most` bytes.
    """
    found = _read(kind, content, most)
    if found is None:
        raise MaskedReplyError("A party's message is not readable.", field="message")
    return found


def read_request(kind: type[M], content: bytes, most: int) -> M:
    """Read the server's message at a party.

    Raises:
        SecureSumError: `message`, if it is none of this kind, or longer than `most` bytes.
    """
    found = _read(kind, content, most)
    if found is None:
        raise SecureSumError("The server's message is not readable.", field="message")
    return found


def _read(kind: type[M], content: bytes, most: int) -> M | None:
    if len(content) > most:
        return None
    middle = _HEAD + int.from_bytes(content[:_HEAD], "big")
    try:
        fields = json.loads(content[_HEAD:middle])
        message = cast("M", _built(kind, fields, content[middle:]))
        same = encode(message) == content
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return message if same else None


def _plain(value: object, arrays: list[NDArray[np.uint64]]) -> object:
    kind: Any = type(value)
    hints = None if kind in _AS_IT_IS else _fields(kind)
    if hints is not None:
        return {name: _plain(getattr(value, name), arrays) for name in hints}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return value.size
    if isinstance(value, tuple):
        return [_plain(one, arrays) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one, arrays) for key, one in value.items()}
    return value


def _built(hint: Any, value: Any, numbers: bytes) -> object:
    """Return a value of the type that a field says, from its plain form."""
    if hint in _AS_IT_IS:
        _expect(type(value) is hint)
        return value
    origin, inside, hints = _shape(hint)
    built: object = value
    if hints is not None:
        _expect(isinstance(value, dict) and value.keys() == hints.keys())
        made = {name: _built(one, value[name], numbers) for name, one in hints.items()}
        built = cast("type", hint)(**made)
    elif hint is bytes:
        _expect(isinstance(value, str))
        built = bytes.fromhex(value)
    elif origin is np.ndarray:
        _expect(type(value) is int and len(numbers) == 8 * value)
        built = np.frombuffer(numbers, dtype="<u8").astype(np.uint64)
    elif origin is tuple:
        _expect(isinstance(value, list))
        built = tuple(_built(inside[0], one, numbers) for one in value)
    elif origin is Mapping:
        _expect(isinstance(value, dict))
        built = {name: _built(inside[1], one, numbers) for name, one in value.items()}
    elif origin is Literal:
        _expect(isinstance(value, str) and value in inside)
    else:
        _expect(False)
    return built


@functools.cache
def _fields(kind: Any) -> Mapping[str, Any] | None:
    """Return the types of a dataclass' fields by name, in order; None of any other type.

    A message has thousands of values of a dozen types, and to ask Python for these is slow.
    """
    if not dataclasses.is_dataclass(kind):
        return None
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


@functools.cache
def _shape(hint: Any) -> tuple[Any, tuple[Any, ...], Mapping[str, Any] | None]:
    """Return what a field's type is made of: its origin, what is inside, a dataclass' fields."""
    return get_origin(hint), get_args(hint), _fields(hint)


def _expect(condition: object) -> None:
    if not condition:
        raise ValueError("not of the kind")
