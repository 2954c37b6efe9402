"""A vector on the wire in as few bits a number as it needs, without loss.

    2 bytes   exponent e, signed, -149 to 127, little-endian
    1 byte    bits a number w, 1 to 24
    4 bytes   the least integer, signed, little-endian
    the rest  each integer less the least, w bits, the lowest bit first; zeros up to a whole byte

A number is its integer times 2^e. What was not rounded to such a grid needs more bits than it
saves, and travels as it is (`common.wire.arrays`).
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError

MOST_BITS: Final = 24  # integers of so many bits are float32 numbers
_HEADER: Final = struct.Struct("<hBi")
_LEAST_EXPONENT, _MOST_EXPONENT = -149, 127
_MANTISSA = 24


def pack_vector(vector: NDArray[np.float32]) -> bytes | None:
    """Return a vector's bytes; None where `MOST_BITS` a number do not do."""
    if not vector.size or not np.isfinite(vector).all():
        return None
    if np.signbit(vector[vector == 0]).any():  # no integer is -0.0
        return None
    exponent = _exponent(vector)
    integers = np.ldexp(vector.astype(np.float64), -exponent)
    least = integers.min()
    width = int(integers.max() - least).bit_length() or 1
    if width > MOST_BITS or np.abs(integers).max() >= 2**MOST_BITS:
        return None
    counted = (integers - least).astype(np.uint32)
    bits = (counted[:, None] >> np.arange(width, dtype=np.uint32)) & 1
    packed = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little")
    return _HEADER.pack(exponent, width, int(least)) + packed.tobytes()


def unpack_vector(content: bytes, size: int, field: str) -> NDArray[np.float32]:
    """Return the vector [size] of `pack_vector`.

    Raises:
        FederationError: if it is anything else than the one form of a vector of that size.
    """
    if len(content) < _HEADER.size:
        raise FederationError(f"Vector {field} is cut short.", field=field)
    exponent, width, least = _HEADER.unpack_from(content)
    inside = 1 <= width <= MOST_BITS and _LEAST_EXPONENT <= exponent <= _MOST_EXPONENT
    if not inside or len(content) - _HEADER.size != -(-size * width // 8):
        raise FederationError(f"Vector {field} is not {size} packed numbers.", field=field)
    packed = np.frombuffer(content, np.uint8, offset=_HEADER.size)
    bits = np.unpackbits(packed, count=size * width, bitorder="little").reshape(size, width)
    counted = bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
    integers = counted + least
    if np.abs(integers).max() >= 2**MOST_BITS:
        raise FederationError(f"Vector {field} holds a number that is too large.", field=field)
    with np.errstate(over="ignore"):  # what is no float32 has no form, below
        vector: NDArray[np.float32] = np.ldexp(integers * 1.0, exponent).astype(np.float32)
    if pack_vector(vector) != content:
        raise FederationError(f"Vector {field} is not in its own form.", field=field)
    return vector


def _exponent(vector: NDArray[np.float32]) -> int:
    """Return the largest e such that each number is an integer times 2^e."""
    parts, exponents = np.frexp(vector[vector != 0].astype(np.float64))
    if not len(parts):
        return 0
    whole = np.abs(np.ldexp(parts, _MANTISSA)).astype(np.int64)
    _, trailing = np.frexp((whole & -whole).astype(np.float64))
    return int((exponents - _MANTISSA + trailing - 1).min())
