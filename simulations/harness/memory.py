"""How much memory a process and all that it started use, as Linux counts it."""

from dataclasses import dataclass
from pathlib import Path

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
