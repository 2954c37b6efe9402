"""Arrays on the wire: .npy buffers, written by numpy and read by a parser that cannot be misled.

numpy reads an .npy header with Python's own parser, which raises SyntaxError, RecursionError,
MemoryError and more at the sender's choice. Here a header is the one form that numpy writes of the
two dtypes we send, matched by a pattern, so shape and size are known before a number is looked at.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

from common.errors import FederationError

_MAGIC: Final = b"\x93NUMPY\x01\x00"  # version 1.0, what numpy writes where the header is short
_START: Final = len(_MAGIC) + 2  # and the header's length, 16 bits
_HEADER: Final = re.compile(
    rb"\{'descr': '(<f4|<u8)', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,12}, ){0,3}(?:\d{1,12},?)?)\), \} *\n"
)
_DTYPES: Final[Mapping[bytes, np.dtype[Any]]] = {b"<f4": np.dtype("<f4"), b"<u8": np.dtype("<u8")}

Number = TypeVar("Number", np.float32, np.uint64)


def pack_array(values: NDArray[np.generic], dtype: type[np.generic], field: str) -> Array:
    """Return an array as Flower carries it.

    Raises:
        FederationError: if it is of another dtype, or holds a number that is not finite.
    """
    if values.dtype != dtype:
        raise FederationError(f"An array is {values.dtype}, not {np.dtype(dtype)}.", field=field)
    if not np.isfinite(values).all():
        raise FederationError("An array holds a number that is not finite.", field=field)
    return Array(np.ascontiguousarray(values))


def unpack_array(
    array: Array,
    dtype: type[Number],
    field: str,
    *,
    shape: tuple[int, ...] | None = None,
    most: int = 0,
) -> NDArray[Number]:
    """Return the numbers of an .npy buffer, without a copy.

    Args:
        array: As it came.
        dtype: What it must be.
        field: Named in errors.
        shape: What it must be; any where it is None.
        most: One dimension with at most so many numbers; 0 sets no such bound.

    Raises:
        FederationError: if it is anything else than a whole array of that kind, by rows, or holds
            a number that is not finite.
    """
    kind, found, start = _header(array.data, field)
    if kind != dtype:
        raise FederationError(f"Array {field} is not {np.dtype(dtype)}.", field=field)
    if shape is not None and found != shape:
        raise FederationError(f"Array {field} is not of shape {shape}.", field=field)
    if most and (len(found) != 1 or found[0] > most):
        raise FederationError(f"Array {field} is no vector of at most {most}.", field=field)
    if len(array.data) - start != math.prod(found) * kind.itemsize:
        raise FederationError(f"Array {field} is cut short, or too long.", field=field)
    values: NDArray[Number] = np.frombuffer(array.data, dtype=dtype, offset=start).reshape(found)
    if not np.isfinite(values).all():
        raise FederationError("An array holds a number that is not finite.", field=field)
    return values


def _header(content: object, field: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return dtype, shape and where the numbers start."""
    wrong = FederationError(f"Array {field} is not an .npy file of version 1.0.", field=field)
    if not isinstance(content, bytes) or not content.startswith(_MAGIC):
        raise wrong
    end = _START + int.from_bytes(content[len(_MAGIC) : _START], "little")
    header = _HEADER.fullmatch(content[_START:end])
    if header is None:
        raise wrong
    if header[2] == b"True":
        raise FederationError(f"Array {field} is not by rows.", field=field)
    shape = tuple(int(one) for one in re.findall(rb"\d+", header[3]))
    return _DTYPES[header[1]], shape, end
