"""A case of the benchmarks that takes no time."""

from simulations.benchmarks.rows import Row


def rows():
    """Yield one row."""
    yield Row(what="nothing", figure=1.5, unit="times", target=2.0, seconds=3.0, peer_seconds=2.0)
