"""The coordinates in which a run's updates are summed, as a file beside its sums' transcripts.

An auditor has no language model, from whose last layer and whitening they follow. With the file it
makes the adapter again; whether the file is that of the model, only who has the model can tell. It
is one fixed linear map of sums that carry all noise, so what it is has no part in privacy.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from common.arrays import load_arrays
from common.errors import InputError
from common.federation.bounds import Framing, Part
from common.files import write_atomic

FRAMING_FILE: Final = "framing.safetensors"
MOST_BYTES: Final = 1 << 28


def write_framing(folder: Path, framing: Framing) -> None:
    """Write a run's framing below `folder`, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomic(folder / FRAMING_FILE, framing_bytes(framing))


def framing_bytes(framing: Framing) -> bytes:
    """Return a framing as safetensors: the shapes, and the frames of those that have one."""
    shapes = json.dumps([list(one.shape) for one in framing.parts]).encode()
    tensors = {
        f"frame/{place:04d}": np.ascontiguousarray(one.frame, dtype=np.float64)
        for place, one in enumerate(framing.parts)
        if one.frame is not None
    }
    return save({"shapes": np.frombuffer(shapes, np.uint8), **tensors})


def read_framing(folder: Path) -> Framing:
    """Read what `write_framing` wrote.

    Raises:
        InputError: field `framing`, if there is none, or it is not one in its own form.
    """
    path = folder / FRAMING_FILE
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} is too large.", field="framing")
        content = path.read_bytes()
        tensors = load_arrays(content)
        shapes = json.loads(tensors["shapes"].tobytes())
        parts = [
            Part(tuple(shape), tensors.get(f"frame/{place:04d}"))
            for place, shape in enumerate(shapes)
        ]
        framing = Framing(parts)
        same = bool(parts) and framing_bytes(framing) == content
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read: {error.strerror}.", field="framing"
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"{path.name} is not a run's framing.", field="framing") from error
    if not same:
        raise InputError(f"{path.name} is not in its own form.", field="framing")
    return framing
