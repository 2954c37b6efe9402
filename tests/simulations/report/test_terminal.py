"""What the terminal and the report tell beside the table of models."""

import pytest
from rich.console import Console

from simulations.report.board import board_report
from simulations.report.html import render_report
from simulations.report.terminal import (
    gains_table,
    gate_line,
    held_out_table,
    label_of,
    own_best_line,
    privacy_table,
    size_table,
)
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


# ------------------------------------------------------------------------- by size
def by_size():
    def gain(model, metric, mean):
        told = {"model": model, "baseline": "own_alone", "metric": metric}
        return {**told, "mean": mean, "low": mean - 0.002, "high": mean + 0.002}

    return [
        {
            "size": size,
            "merchants": merchants,
            "smallest": size // 2,
            "largest": size,
            "cases": 10 * merchants,
            "alone": "own_alone",
            "metrics": {"own_alone": {"ndcg@10": 0.1, "tail_recall@10": 0.05}},
            "gains": [
                gain(model, metric, mean)
                for model in ("adapter", "fused")
                for metric in ("ndcg@10", "tail_recall@10")
            ],
        }
        for size, merchants, mean in ((30, 12, 0.0123), (1000, 1, -0.0045))
    ]


OWN_BEST = {
    "model": "fused",
    "metric": "ndcg@10",
    "min_cases": 100,
    "merchants": 7,
    "better": 4,
    "worse": 1,
    "worst": ENDS,
    "worst_merchant": "Nook & Cranny",
}


def test_what_joining_brings_by_size_fits_a_terminal_of_eighty_columns():
    shown = printed(size_table(example_results(by_size=by_size()).by_size), 80)
    assert max(map(len, shown.splitlines())) <= 80
    for told in (
        " 30 ",
        " 1,000 ",
        "minus EASE with titles:",
        "  Adapter, fused ",
        "+0.0123 +12%",
        "-0.0045 -4%",
        "+.0103 to +.0143",
    ):
        assert told in shown


def test_at_how_many_merchants_joining_does_harm_is_told_in_a_line():
    found = example_results(fairness={**FAIRNESS, "own_best": OWN_BEST}).fairness.own_best
    line = own_best_line(found)
    assert "Of 7 merchants" in line
    assert "4 clearly better, 1 clearly worse" in line
    nobody = found.model_copy(update={"merchants": 0, "worst": None})
    assert own_best_line(nobody).startswith("There are no merchants")


def test_report_and_board_say_it_too():
    results = example_results(by_size=by_size(), fairness={**FAIRNESS, "own_best": OWN_BEST})
    page = render_report(results)
    assert "Small and large merchants" in page
    assert "1 clearly worse" in page
    assert "12 (15 to 30)" in page
    assert "Small and large merchants" not in render_report(example_results())
    told = " ".join(board_report(results).merchant_sentences)
    assert "12 merchants of about 30 shoppers, over own purchases, with titles: +0.0123" in told
    assert "1 clearly worse" in told


def test_a_table_with_a_row_a_merchant_stops_at_twelve():
    fields = results_fields()
    [one] = list(fields["privacy"]["merchants"].values())[:1]
    many = {f"Merchant {number}": one for number in range(64)}
    results = example_results(privacy={**fields["privacy"], "merchants": many})
    shown = printed(privacy_table(results), 100)
    assert "52 more" in shown
    assert shown.count("Merchant ") == 12
