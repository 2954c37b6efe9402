"""Where a run's protected vectors are kept: one safetensors file a round, one tensor a merchant.

    popularity.safetensors       the noised histograms, float32 [items of that merchant]
    season.safetensors           the noised season vectors, float32 [ends * d]
    round-00001.safetensors      the noised updates of round 1, float32 [d]
    round-00001.sum              where noise is distributed: what the nodes signed of that round's
                                 secure sum (`common.privacy.secagg.transcript`); so too
                                 popularity.sum and season.sum

Only vectors that carry their own noise (DP model `local`), or are under masks, may be written here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from common.arrays import load_arrays
from common.errors import InputError
from common.files import write_atomic
from common.privacy.accounting.plan import EventKind

FOLDER: Final = "contributions"
MOST_BYTES: Final = 1 << 30
_PREFIX = "merchant/"  # a merchant may have the name of safetensors' own metadata


def round_file(number: int, kind: EventKind | None = None) -> str:
    """Return the name of a round's file; round 0 is the histogram, or what else `kind` says."""
    return f"round-{number:05d}.safetensors" if number else f"{kind or 'popularity'}.safetensors"


def sum_file(number: int, kind: EventKind) -> str:
    """Return the name of the transcript of a secure sum; round 0 is what comes before the first."""
    return round_file(number, kind).replace(".safetensors", ".sum")


def write_round(
    folder: Path,
    number: int,
    vectors: Mapping[str, NDArray[np.float32]],
    kind: EventKind | None = None,
) -> None:
    """Write what a round's mean was taken of, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomic(folder / round_file(number, kind), _pack(vectors))


def read_round(
    folder: Path, number: int, kind: EventKind | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return a round's vectors by merchant.

    Raises:
        InputError: if there is no such file, or it is not one of finite float32 vectors.
    """
    path = folder / round_file(number, kind)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} has more than {MOST_BYTES} bytes.", field="size")
        content = path.read_bytes()
        tensors = load_arrays(content)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.", field="file") from error
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path.name} is not a safetensors file.", field="file") from error
    found: dict[str, NDArray[np.float32]] = {}
    for name, tensor in tensors.items():
        vector = name.startswith(_PREFIX) and tensor.dtype == np.float32 and tensor.ndim == 1
        if not vector or not np.isfinite(tensor).all():
            raise InputError(f"{path.name} holds more than finite float32 vectors.", field="file")
        found[name.removeprefix(_PREFIX)] = tensor
    if _pack(found) != content:
        raise InputError(f"{path.name} is not in its own form.", field="file")
    return found


def _pack(vectors: Mapping[str, NDArray[np.float32]]) -> bytes:
    return save({_PREFIX + name: np.ascontiguousarray(vectors[name]) for name in sorted(vectors)})
