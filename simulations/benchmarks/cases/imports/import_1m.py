"""Import of 1,000,000 events, against Polars by hand in a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from simulations.benchmarks.children import python_spent
from simulations.benchmarks.clocks import by_turns
from simulations.benchmarks.rows import Row, of_repeats, ratio_row

EVENTS, REPEATS = 1_000_000, 3
TIMES_LIMIT = 2.0
PEER = "Polars by hand: parse, unique, join, sort, write"


def rows() -> Iterator[Row]:
    """Yield the ratio of whole processes, start included, and what memory each takes."""
    yield from import_rows(EVENTS, REPEATS, None)


def import_rows(events: int, repeats: int, megabytes: float | None) -> Iterator[Row]:
    """Yield the rows of a made-up shop of so many events.

    Args:
        events: Rows of its table.
        repeats: Of each side.
        megabytes: The target for our memory, if there is one.
    """
    ours: list[float] = []
    peers: list[float] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        python_spent("simulations.benchmarks.made_shop", f"{events}", f"{folder / 'shop'}")

        def way(module: str, memory: list[float]) -> float:
            out = folder / module
            spent = python_spent(f"simulations.benchmarks.{module}", f"{folder / 'shop'}", f"{out}")
            memory.append(spent.megabytes)
            return spent.seconds

        ways = [lambda: way("import_whole", ours), lambda: way("import_by_hand", peers)]
        seconds = by_turns(ways, repeats, warm_up=0)
    what = f"import of {events:,} events, the whole process"
    yield ratio_row(what, PEER, seconds, target=TIMES_LIMIT)
    yield of_repeats(f"{what}: its memory", ours, "MB", target=megabytes)
    yield of_repeats("memory of the same by hand", peers, "MB")
