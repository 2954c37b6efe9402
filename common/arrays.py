"""Arrays in a safetensors file: written whole or not at all, read without being copied."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from common.errors import InputError
from common.files import PUBLIC_MODE, write_atomic_by

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors tells what the system refused
_HEADER_BYTES = 100 * 1024**2  # no longer header is read, as in safetensors itself
_TYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], *, mode: int = PUBLIC_MODE
) -> None:
    """Put `arrays` at `path` so that a crash leaves the old file or the new one.

    They go straight to the file. `safetensors.numpy.save` would hold their bytes twice beside
    them, which for a catalogue is more than all else that a node has in memory by then.

    Raises:
        OSError: if the disk is full, or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        contiguous: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(one) for name, one in arrays.items()
        }
        try:
            save_file(contiguous, temporary)
        except SafetensorError as error:
            refused = _OS_ERROR.search(str(error))
            if refused is None:
                raise
            number = int(refused[1])
            raise OSError(number, os.strerror(number)) from error

    write_atomic_by(path, write, mode=mode)


def load_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file's bytes, as copies.

    Raises:
        SafetensorError: if it is none, or an array is of a type that NumPy has not, such as BF16.
    """
    try:
        return dict(load(content))
    except KeyError as error:  # how safetensors.numpy looks types up
        raise SafetensorError(f"the type {error} is not read") from None


def map_arrays(path: Path, *, writable: bool = False) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file, read-only, as parts of one mapping of the file.

    Nothing is read before it is used, and processes that map the same file share its memory. The
    mapping keeps the file's content even when another takes its name. `safetensors.safe_open` maps
    the file too, but copies each array out of it.

    Args:
        path: The file.
        writable: Give arrays that may be written, for libraries that take no others. What is
            written is this process's own copy and never reaches the file.

    Raises:
        InputError: if the file is not there or not whole, or an array is of an unknown type.
    """
    try:
        content = np.memmap(path, np.uint8, mode="c" if writable else "r")
    except (OSError, ValueError):
        raise InputError(f"{path.name}: there is no such file of arrays.", field="arrays") from None
    try:
        return _parts(content)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{path.name}: this is no whole safetensors file.", field="arrays") from (
            None
        )


def _parts(content: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    length = int.from_bytes(content[:8].tobytes(), "little")
    if not 0 < length <= min(len(content) - 8, _HEADER_BYTES):
        raise ValueError(length)
    entries = json.loads(content[8 : 8 + length].tobytes())
    entries.pop("__metadata__", None)
    return {name: _mapped(content[8 + length :], **one) for name, one in entries.items()}


def _mapped(
    content: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]
) -> NDArray[Any]:
    start, end = data_offsets
    if not 0 <= start <= end <= len(content):
        raise ValueError(end)
    return np.asarray(content[start:end]).view(_TYPES[dtype]).reshape(shape)
