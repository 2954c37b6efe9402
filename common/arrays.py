"""Arrays in a safetensors file, written whole or not at all, and not held twice meanwhile."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from common.files import write_atomic_by

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors tells what the system refused


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
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

    write_atomic_by(path, write)
