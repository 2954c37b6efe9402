"""A case of the benchmarks that fails after its first row."""

from common.errors import InputError
from simulations.benchmarks.rows import Row


def rows():
    """Yield one row, then miss something."""
    yield Row(what="nothing", figure=1.0, unit="s")
    raise InputError("wrk is not in PATH; install it first.", field="wrk")
