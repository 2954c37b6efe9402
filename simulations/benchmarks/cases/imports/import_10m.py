"""Import of 10,000,000 events, against Polars by hand: some minutes and 600 MB of disk."""

from collections.abc import Iterator

from simulations.benchmarks.cases.imports.import_1m import import_rows
from simulations.benchmarks.rows import Row

LONG = True
EVENTS, REPEATS = 10_000_000, 1
MEGABYTES_LIMIT = 1500.0


def rows() -> Iterator[Row]:
    """Yield the ratio of whole processes, start included, and what memory each takes."""
    yield from import_rows(EVENTS, REPEATS, MEGABYTES_LIMIT)
