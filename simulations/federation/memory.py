"""How much memory a process and all that it started use, as Linux counts it."""

import os
import resource
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_SECONDS = 1.0

_PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Of a tree of processes, in MB.

    Attributes:
        resident: Sum of resident sizes: what several share is counted several times.
        proportional: Sum of proportional sizes: what n processes share counts 1/n in each.
    """

    resident: float
    proportional: float


class PeakMemory:
    """While open, looks now and then at what this process and all that it started use.

    Attributes:
        megabytes: The most so far, proportional; where Linux does not count it, the largest
            resident size of this process alone.
    """

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look each so many seconds."""
        self.megabytes = 0.0
        self._each, self._over = look_seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak memory")

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look once more, and no more."""
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> float:
        """Look now; return the most so far."""
        now = tree_memory(os.getpid()).proportional if _PROC.is_dir() else 0.0
        if not now:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            now = kilobytes / 1000 * 1.024
        self.megabytes = max(self.megabytes, now)
        return self.megabytes

    def _watch(self) -> None:
        while not self._over.wait(self._each):
            self.look()


def tree_memory(root: int) -> Memory:
    """Return what process `root` and its descendants use now; nothing where it has ended."""
    resident = proportional = 0.0
    for process in descendants(root):
        try:
            lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended between the two looks
        sizes = {name: parts for name, _, parts in (line.partition(":") for line in lines)}
        resident += _kilobytes(sizes.get("Rss", "")) / 1000
        proportional += _kilobytes(sizes.get("Pss", "")) / 1000
    return Memory(resident, proportional)


def _kilobytes(text: str) -> float:
    number = text.split()[:1]
    return 1.024 * float(number[0]) if number else 0.0


def descendants(root: int) -> set[int]:
    """Return `root`, where it runs, and all processes that it and they have started."""
    parents = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root} & parents.keys()
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more
