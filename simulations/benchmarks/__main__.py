"""Measure: python -m simulations.benchmarks, or make bench.

`make bench` measures all cases but the long ones, `make bench ARGS="CASE ..."` those that are
named. With --keep the rows go to docs/results/performance, and docs/ref-performance.md gets its
table anew.
"""

import argparse
import sys

from rich.console import Console

from common.errors import InputError
from simulations.benchmarks.page import keep, write_page
from simulations.benchmarks.running import about, all_cases, case_name, chosen, is_long, run_case


def main() -> int:
    """Measure what is asked for; return 1 if a case failed, whatever its figures."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("case", nargs="*", help="what to measure; without it all but the long ones")
    parser.add_argument("--long", action="store_true", help="also the long ones: many minutes")
    parser.add_argument("--keep", action="store_true", help="put the figures into the docs")
    parser.add_argument("--list", action="store_true", help="say which cases there are")
    asked = parser.parse_args()
    if asked.list:
        _list()
        return 0
    try:
        modules = chosen(asked.case, long=asked.long)
    except InputError as error:
        parser.error(str(error))
    failed = []
    for module in modules:
        done = run_case(module)
        if done is None:
            failed.append(case_name(module))
        elif asked.keep:
            keep(done)
            write_page()
    if failed:
        Console(stderr=True).print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


def _list() -> None:
    console = Console(soft_wrap=True, highlight=False)
    for name, module in all_cases().items():
        console.print(
            f"{name}{' (long)' if is_long(module) else ''}: {about(module)}", markup=False
        )


if __name__ == "__main__":
    sys.exit(main())
