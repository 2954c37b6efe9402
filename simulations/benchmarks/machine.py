"""The machine that a benchmark runs on, without a name or a path of it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from simulations.benchmarks.rows import Machine

LIBRARIES: Final = ("numpy", "polars", "torch")


def this_machine() -> Machine:
    """Return what is told beside the figures."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        system=platform.system(),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    )


def _processor() -> str:
    """Return the processor's model as Linux has it; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
