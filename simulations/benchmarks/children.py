"""What a process costs, with all that it starts: processor seconds, and its greatest memory.

Memory is the proportional size (PSS) as Linux counts it: what n processes share counts 1/n in
each, so that the sum over the tree is what the machine gives. It is looked at many times a second;
what is held for less than that may be missed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simulations.federation.memory import tree_memory

_THREADS: Final = ("OMP", "OPENBLAS", "MKL", "RAYON")
ONE_THREAD: Final = {
    "POLARS_MAX_THREADS": "1",
    **{f"{library}_NUM_THREADS": "1" for library in _THREADS},
}
_LOOKS_EACH_SECOND: Final = 20


@dataclass(frozen=True, slots=True)
class Spent:
    """Of a process and all that it started and waited for.

    Attributes:
        seconds: Of the processor, by its programs and by the kernel for them.
        megabytes: The greatest proportional size of the tree that was seen, in 10^6 bytes.
    """

    seconds: float
    megabytes: float


def spent(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Spent:
    """Run a command to its end on one thread, and return what it cost.

    Args:
        words: The command; what it prints on its standard output goes to the standard error.
        environment: Added to this process's own.

    Raises:
        RuntimeError: if it fails.
    """
    surroundings = {**os.environ, **ONE_THREAD, **(environment or {})}
    process = subprocess.Popen(  # noqa: S603 -- a benchmark's own words
        list(words), env=surroundings, stdout=sys.stderr.fileno(), stdin=subprocess.DEVNULL
    )
    most = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, tree_memory(process.pid).proportional)
        time.sleep(1 / _LOOKS_EACH_SECOND)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {process.returncode}.")
    return Spent(usage.ru_utime + usage.ru_stime, most)


def python_spent(module: str, *arguments: str) -> Spent:
    """Run a module of ours in a new interpreter, as `spent` does."""
    return spent([sys.executable, "-m", module, *arguments])
