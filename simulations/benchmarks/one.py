"""Measure one case in this process: python -m simulations.benchmarks.one MODULE FILE.

The runner starts a process for each case, so that none finds what another has loaded or warmed.
"""

import importlib
import sys
from pathlib import Path

from rich.console import Console

from common.errors import FedtailError
from common.files import write_atomic
from simulations.benchmarks.page import told
from simulations.benchmarks.rows import Measured, Row
from simulations.benchmarks.running import case_name, measured


def main(module: str, file: str) -> int:
    """Write a case's rows to a file, telling each as it comes; return the process's exit code."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    rows: list[Row] = []
    try:
        for row in importlib.import_module(module).rows():
            console.print(f"{case_name(module)}: {told(row)}", markup=False)
            rows.append(row)
    except FedtailError as error:
        console.print(f"{case_name(module)}: {error}", markup=False)
        return 1
    done: Measured = measured(case_name(module), rows)
    write_atomic(Path(file), done.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
