import math

import pytest

from simulations.report.board import best_alone, board_report
from tests.support.results_example import example_results, intervals, metrics


def with_differences(change):
    """Results whose differences of `fused` went through `change`."""
    held = intervals()
    held["differences"] = [
        one if one["model"] != "fused" else one | change(one) for one in held["differences"]
    ]
    return example_results(intervals=held)


def test_the_gain_is_over_the_best_alone_on_the_same_test():
    report = board_report(example_results())
    assert best_alone(example_results()) == "fused_frozen"
    assert report.verdict.startswith("Training together ranks better than the best")
    assert "+0.0076 of NDCG@10 (+0.0035 to +0.0117), +7.4%" in report.verdict
    assert "0.1108 instead of 0.0888" in report.gains[0]  # over own purchases, too
    assert "35% needs the others" in report.gains[-1]  # .0076 of .0220


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "better"), (-0.0076, "cannot be told apart"), (-0.03, "worse")]
)
def test_the_verdict_is_what_the_interval_says(shift, verdict):
    def moved(one):
        return {name: one[name] + shift for name in ("mean", "low", "high")}

    report = board_report(with_differences(moved))
    assert verdict in report.verdict
    unclear = [one for one in report.bad if "No clear gain overall" in one]
    assert len(unclear) == (verdict != "better")


def test_what_is_not_good_is_looked_for():
    told = " ".join(board_report(example_results()).bad)
    assert "made up" in told
    assert "Titles" in told or "titles alone" in told  # finds more of the tail than together
    assert "No clear gain in the tail" in told
    assert "ε = 3.98 is no small number" in told
    assert "It is one run." in told


def test_real_shoppers_averages_are_not_for_everybody():
    dataset = example_results().dataset.model_copy(update={"synthetic": False})
    told = " ".join(board_report(example_results().model_copy(update={"dataset": dataset})).bad)
    assert "are exact, and ε does not cover them" in told
    assert "show them to nobody outside" in told


def test_a_run_without_noise_is_no_guarantee():
    privacy = example_results().privacy
    bare = {
        name: one.model_copy(update={"epsilon": None, "delta": None})
        for name, one in privacy.merchants.items()
    }
    none = privacy.model_copy(update={"dp_model": "none", "merchants": bare})
    report = board_report(example_results().model_copy(update={"privacy": none}))
    assert report.privacy == ("No guarantee: this run protects no shopper.",)


def test_odds_are_those_of_the_largest_epsilon():
    told = board_report(example_results()).privacy[0]
    assert f"at most {math.exp(3.98):.0f}" in told
    assert "1 in 1,660" in told


def test_merchants_stand_by_what_they_gain():
    gains = [one.overall for one in board_report(example_results()).merchants]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) == 8


def test_nothing_compared_is_said():
    few = {model: metrics()[model] for model in ("popularity", "fused")}
    held = intervals() | {"differences": []}
    report = board_report(example_results(metrics=few, intervals=held))
    assert "was not compared" in report.verdict
