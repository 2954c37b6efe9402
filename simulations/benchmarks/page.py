"""The table of docs/ref-performance.md, made from docs/results/performance; remarks around it stay.

python -m simulations.benchmarks.page writes it anew without measuring.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.files import write_atomic
from simulations.benchmarks.rows import Machine, Measured, Row

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "ref-performance.md"
KEPT: Final = DOCS / "results" / "performance"
BEGIN: Final = (
    "<!-- made by `make bench ARGS=--keep`: what is between these two lines is replaced -->"
)
END: Final = "<!-- end of what is made -->"
_HEADINGS: Final = (
    "case", "what", "against", "measured", "target", "seconds of the processor",
)  # fmt: skip


def keep(measured: Measured, folder: Path = KEPT) -> None:
    """Write a case's rows where the table is made from."""
    content = measured.model_dump_json(indent=1, exclude_none=True)
    write_atomic(folder / f"{measured.case}.json", content.encode() + b"\n")


def kept(folder: Path = KEPT) -> list[Measured]:
    """Return what was kept, by the case's name."""
    files = sorted(folder.glob("*.json"))
    return [Measured.model_validate_json(file.read_bytes()) for file in files]


def with_table(page: str, all_measured: Sequence[Measured]) -> str:
    """Return the page with the table anew between the markers.

    Raises:
        InputError: if the page has not each marker once.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after + before:
        raise InputError("The page must have each of the two markers once.", field="page")
    return (
        "\n".join([before + BEGIN, "", *_table(all_measured), "", *_machines(all_measured), END])
        + after
    )


def write_page(page: Path = PAGE, folder: Path = KEPT) -> None:
    """Put the table of what is kept into the page."""
    write_atomic(page, with_table(page.read_text("utf-8"), kept(folder)).encode())


def told(row: Row) -> str:
    """Return a row as one line for a terminal."""
    against = f", against {row.against}" if row.against else ""
    target = f"; target {_target(row)}" if row.target is not None else ""
    seconds = _seconds(row)
    return f"{row.what}{against}: {_figure(row)}{target}{f' ({seconds})' if seconds else ''}"


def _table(all_measured: Iterable[Measured]) -> list[str]:
    lines = [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    for one in all_measured:
        for row in one.rows:
            cells = (
                f"`{one.case}`",
                row.what,
                row.against,
                _figure(row),
                _target(row),
                _seconds(row),
            )
            lines.append(_line(cells))
    return lines


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(row: Row) -> str:
    several = row.low is not None and row.high is not None and row.low != row.high
    spread = f" ({_number(row.low)} to {_number(row.high)})" if several else ""
    unit = row.unit if row.unit == "%" else f" {row.unit}"
    return f"{_number(row.figure)}{unit}{spread}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    bound = "at least" if row.at_least else "at most"
    return f"{bound} {row.target:g}" + ("" if row.met else ": **missed**")


def _seconds(row: Row) -> str:
    sides = [f"{_number(one)} s" for one in (row.seconds, row.peer_seconds) if one is not None]
    return " against ".join(sides)


def _number(value: float | None) -> str:
    """Return a number of three digits, without an exponent."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".")


def _machines(all_measured: Iterable[Measured]) -> list[str]:
    """Yield which cases were measured on which machine and when."""
    names: dict[str, list[str]] = {}
    for one in all_measured:
        names.setdefault(f"{_machine(one.machine)}, {one.day}", []).append(f"`{one.case}`")
    return [f"- {', '.join(cases)}: {where}." for where, cases in names.items()]


def _machine(one: Machine) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in one.versions.items())
    cores = f"{one.cores} core{'' if one.cores == 1 else 's'}"
    return f"{one.processor}, {cores}, {one.memory_gb} GB, {one.system}; {versions}"


if __name__ == "__main__":
    write_page()
