"""What the terminal and the report tell beside the table of models."""

import pytest
from rich.console import Console

from simulations.report.html import render_report
from simulations.report.terminal import gains_table, gate_line, held_out_table, label_of
from tests.support.results_example import example_results, results_fields

ENDS = {"mean": -0.0014, "low": -0.0055, "high": 0.003}
GAIN = {"model": "fused", "baseline": "fused_frozen", "metric": "tail_recall@10", "merchants": 8}
FAIRNESS = {
    "spreads": [],
    "gains": [
        {**GAIN, "ahead": 6, "median": 0.0016, "worst": ENDS, "worst_merchant": "Nook & Cranny"}
    ],
}
GATE = {"holdout": "open shop", "cases": 1812, "passed": True, "reason": "it won", "checks": []}


def held_out():
    fields = results_fields()
    named = {name: fields[name] for name in ("metrics", "intervals")}
    return {**named, "merchants": fields["merchants"][:2]}


def printed(table, width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_gains_fit_a_terminal_of_eighty_columns():
    shown = printed(gains_table(example_results(fairness=FAIRNESS).fairness), 80)
    [row] = [line for line in shown.splitlines() if label_of("fused") in line]
    for text in (label_of("fused_frozen"), "tail", "6 of 8", "+0.0016", "-0.0014"):
        assert text in row
    assert "-.0055 to +.0030" in shown


def test_held_out_merchants_have_a_table_like_the_others():
    results = example_results(held_out=held_out())
    shown = printed(held_out_table(results), 100)
    assert f"2 merchants that never trained ({812 // 4 + 655 // 4} test cases)" in shown
    assert "0.1108" in shown
    with pytest.raises(ValueError, match="no held-out"):
        held_out_table(example_results())


def test_the_gate_is_told_in_a_line():
    assert gate_line(example_results()) == "no public hold-out: not gated"
    passed = gate_line(example_results(gate=GATE))
    assert passed == "passed, on 1,812 shoppers of open shop. it won."
    refused = gate_line(example_results(gate={**GATE, "passed": False}))
    assert refused.startswith("refused, nothing is published")


def test_the_report_tells_all_of_it_and_nothing_that_was_not_measured():
    page = render_report(example_results(fairness=FAIRNESS, held_out=held_out(), gate=GATE))
    for text in ("Nook &amp; Cranny", "What joining brings", "never trained", "it won", "6 of 8"):
        assert text in page
    plain = render_report(example_results())
    for text in ("What joining brings", "never trained", "Against ε"):
        assert text not in plain
    assert "no public hold-out: not gated" in plain
