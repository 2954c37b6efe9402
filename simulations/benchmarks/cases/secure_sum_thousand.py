"""What the secure sum costs one of a thousand merchants: a few minutes, of which it is little."""

from collections.abc import Iterator

from simulations.benchmarks.cases.secure_sum import sum_rows
from simulations.benchmarks.rows import Row

LONG = True


def rows() -> Iterator[Row]:
    """Yield the costs among a thousand."""
    yield from sum_rows(1000)
