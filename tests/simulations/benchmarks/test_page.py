"""docs/ref-performance.md has the table of what is kept, and whatever stands around it stays."""

from datetime import date

import pytest

from common.errors import InputError
from simulations.benchmarks.page import BEGIN, END, KEPT, PAGE, keep, kept, told, with_table
from simulations.benchmarks.rows import Machine, Measured, Row

MACHINE = Machine(
    processor="A processor", cores=2, memory_gb=24, system="Linux", versions={"numpy": "2.4.6"}
)


def case(name="reading", **changes):
    """A case of one row."""
    fields = {"what": "a shop", "against": "by hand", "figure": 1.5, "unit": "times", "target": 2.0}
    row = Row(**{**fields, **changes})
    return Measured(case=name, day=date(2026, 11, 30), machine=MACHINE, rows=(row,))


def test_page_is_what_the_kept_rows_make():
    """`make bench ARGS=--keep` and the commit go together."""
    text = PAGE.read_text("utf-8")
    assert with_table(text, kept(KEPT)) == text


def test_table_is_replaced_and_remarks_stay():
    page = f"# Performance\n\n{BEGIN}\nan old row\n{END}\n\nA remark.\n"
    made = with_table(page, [case(seconds=3.0, peer_seconds=2.0, low=1.25, high=1.75)])
    assert "an old row" not in made
    assert made.startswith("# Performance\n\n")
    assert made.endswith("\n\nA remark.\n")
    row = (
        "| `reading` | a shop | by hand | 1.5 times (1.25 to 1.75) | at most 2 | 3 s against 2 s |"
    )
    assert row in made
    assert "`reading`: A processor, 2 cores, 24 GB, Linux; numpy 2.4.6, 2026-11-30." in made
    assert with_table(made, [case()]) == with_table(page, [case()])


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_page_without_its_markers_is_left_alone(page):
    with pytest.raises(InputError, match="markers once"):
        with_table(page, [])


@pytest.mark.parametrize(
    ("figure", "unit", "target", "met"),
    [
        (2.0, "times", 2.0, True),
        (2.01, "times", 2.0, False),
        (99.0, "times as fast", 100.0, False),
        (100.0, "times as fast", 100.0, True),
        (5.0, "MB", None, None),
    ],
)
def test_missed_target_is_told(figure, unit, target, met):
    [row] = case(figure=figure, unit=unit, target=target).rows
    assert row.met is met
    assert ("**missed**" in told(row)) == (met is False)


def test_kept_rows_are_read_back(tmp_path):
    for name in ("writing", "reading"):
        keep(case(name), tmp_path)
    assert kept(tmp_path) == [case("reading"), case("writing")]


def test_machine_of_the_kept_rows_names_nobody():
    """A model and numbers, no path, no host."""
    for measured in kept(KEPT):
        assert "/" not in measured.machine.model_dump_json()
