"""Which cases there are, and to run one in a process of its own."""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.errors import InputError
from simulations.benchmarks import cases
from simulations.benchmarks.children import ONE_THREAD
from simulations.benchmarks.machine import this_machine
from simulations.benchmarks.rows import Measured, Row


def case_name(module: str) -> str:
    """Return the name of a case: its module's last word."""
    return module.rpartition(".")[2]


def all_cases() -> dict[str, str]:
    """Return the module of each case, by its name."""
    return {path.stem: _module(path) for path in _files()}


def _files() -> list[Path]:
    found = Path(cases.__path__[0]).rglob("*.py")
    return sorted((path for path in found if path.stem[0] != "_"), key=lambda path: path.stem)


def _module(path: Path) -> str:
    parts = path.relative_to(cases.__path__[0]).with_suffix("").parts
    return ".".join([cases.__name__, *parts])


def chosen(names: Sequence[str], *, long: bool) -> list[str]:
    """Return the modules to run: those that are named, else all but the long ones.

    Args:
        names: Of cases.
        long: Run the long ones as well.

    Raises:
        InputError: if there is no such case.
    """
    known = all_cases()
    for name in names:
        if name not in known:
            raise InputError(
                f"There is no case of this name; there are {', '.join(known)}.", field=name
            )
    if names:
        return [known[name] for name in names]
    return [module for module in known.values() if long or not is_long(module)]


def is_long(module: str) -> bool:
    """Return whether a case is run only by its name."""
    return "LONG = True" in _source(module).splitlines()


def about(module: str) -> str:
    """Return the first line of a case's docstring, without loading what it measures."""
    return (ast.get_docstring(ast.parse(_source(module))) or "").partition("\n")[0]


def _source(module: str) -> str:
    parts = module.removeprefix(f"{cases.__name__}.").split(".")
    return Path(cases.__path__[0], *parts).with_suffix(".py").read_text("utf-8")


def measured(case: str, rows: Sequence[Row]) -> Measured:
    """Return rows with the machine and the day."""
    return Measured(
        case=case, day=datetime.now(UTC).date(), machine=this_machine(), rows=tuple(rows)
    )


def run_case(module: str) -> Measured | None:
    """Measure a case in a process of one thread; None if it failed, and has said why."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        words = [sys.executable, "-m", "simulations.benchmarks.one", module, str(file)]
        done = subprocess.run(words, env={**os.environ, **ONE_THREAD}, check=False)  # noqa: S603 -- our own words
        if done.returncode != 0:
            return None
        return Measured.model_validate_json(file.read_bytes())
