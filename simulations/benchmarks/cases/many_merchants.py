"""Memory and time of 1,000 merchants of 30 shoppers, five rounds, and of a tenth of them: long."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from simulations.benchmarks.children import Spent, python_spent
from simulations.benchmarks.many_whole import SHOPPERS
from simulations.benchmarks.rows import Row

LONG = True
FEWER, MERCHANTS, ROUNDS = 100, 1000, 5
MEGABYTES_LIMIT = 3000.0
TEN_THOUSAND_LIMIT = 12_000.0


def rows() -> Iterator[Row]:
    """Yield both sizes' memory and time, and what a merchant more adds by their difference."""
    with tempfile.TemporaryDirectory() as folder:
        fewer, many = (_run(Path(folder) / str(count), count) for count in (FEWER, MERCHANTS))
    more = MERCHANTS - FEWER
    of_each = (many.megabytes - fewer.megabytes) / more
    what = f"{MERCHANTS:,} merchants of {SHOPPERS} shoppers x {ROUNDS} rounds"
    yield Row(what=f"{what}: memory", figure=many.megabytes, unit="MB", target=MEGABYTES_LIMIT)
    yield Row(what=f"{what}: processor", figure=many.seconds, unit="s")
    yield Row(what=f"{FEWER} of them: memory", figure=fewer.megabytes, unit="MB")
    yield Row(what=f"{FEWER} of them: processor", figure=fewer.seconds, unit="s")
    yield Row(what="a merchant more: memory", figure=of_each, unit="MB")
    yield Row(
        what="a merchant more: processor", figure=(many.seconds - fewer.seconds) / more, unit="s"
    )
    yield Row(
        what="10,000 merchants by that line, not run: memory",
        figure=many.megabytes + of_each * (10_000 - MERCHANTS),
        unit="MB",
        target=TEN_THOUSAND_LIMIT,
    )


def _run(folder: Path, merchants: int) -> Spent:
    words = (str(merchants), str(ROUNDS), str(folder))
    return python_spent("simulations.benchmarks.many_whole", *words)
