"""Each kind of target, met and missed, on numbers made for it."""

from pathlib import Path

import pytest

from common.errors import InputError
from simulations.results.measures import MODELS
from simulations.results.sections import Fairness
from simulations.results_page.extracts import extract
from simulations.results_page.seeds import grouped
from simulations.results_page.targets import Target, judge, read_targets
from tests.support.results_example import example_results, results_fields

DATASET = "marketplace, seed 0"
COMMITTED = Path(__file__).parents[3] / "docs" / "results" / "targets.toml"


def group_of(**changes):
    [group] = grouped([extract(example_results(**changes))])
    return group


def verdict(group, **asked):
    target = Target(dataset=DATASET, epsilon=4, **asked)
    assert target.fits(group)
    return judge(target, group)


@pytest.mark.parametrize(
    ("asked", "measured", "expected"),
    [
        ({"model": "fused", "at_least": 0.11}, "0.1108", "met"),
        ({"model": "fused", "at_least": 0.111}, "0.1108", "missed"),
        ({"model": "fused", "metric": "head_recall@10", "share_of": "local_ease", "at_least": 0.85},
         "96%", "met"),
        ({"model": "fused", "metric": "head_recall@10", "share_of": "local_ease", "at_least": 0.97},
         "96%", "missed"),
        ({"model": "solo_adapter", "keeps": "adapter_no_noise", "at_least": 0.15}, "18%", "met"),
        ({"model": "solo_adapter", "keeps": "adapter_no_noise", "at_least": 0.45}, "18%", "missed"),
        ({"model": "adapter", "above": "frozen_text"}, "+0.0150 (+0.0109 to +0.0191)", "met"),
        ({"model": "adapter", "above": "fused_frozen"}, "-0.0047 (-0.0088 to -0.0006)", "missed"),
        ({"model": "fused", "above": "best"}, "+0.0076 (+0.0035 to +0.0117)", "met"),
        ({"model": "fused", "metric": "tail_recall@10", "not_below": "fused_frozen"},
         "+0.0027 (-0.0014 to +0.0068)", "met"),
        ({"model": "fused", "metric": "tail_recall@10", "not_below": "frozen_text"},
         "-0.0047 (-0.0088 to -0.0006)", "missed"),
        ({"model": "fused", "above": "solo_adapter"}, "", "not measured"),
        ({"model": "nobody", "at_least": 0.1}, "", "not measured"),
        ({"model": "adapter", "above": "frozen_text", "held_out": True}, "", "not measured"),
        ({"model": "adapter", "median_above": "solo_adapter"}, "", "not measured"),
    ],
)  # fmt: skip
def test_a_target_is_judged(asked, measured, expected):
    _, found, said = verdict(group_of(), **asked)
    assert (found, said) == (measured, expected)


@pytest.mark.parametrize(
    ("low", "high", "above", "not_below"),
    [
        (0.001, 0.02, "met", "met"),
        (-0.001, 0.02, "missed", "met"),
        (-0.02, -0.001, "missed", "missed"),
    ],
)
def test_a_difference_is_judged_by_its_interval_and_not_by_its_mean(low, high, above, not_below):
    fields = results_fields()
    one = {"model": "fused", "baseline": "local_ease", "metric": "ndcg@10"}
    told = {**one, "mean": 0.001, "low": low, "high": high}
    group = group_of(intervals={**fields["intervals"], "differences": [told]})
    assert verdict(group, model="fused", above="local_ease")[2] == above
    assert verdict(group, model="fused", not_below="local_ease")[2] == not_below


@pytest.mark.parametrize(("median", "worst"), [(0.01, 0.0), (-0.01, -0.02), (0.02, -0.001)])
def test_merchants_are_judged_by_the_median_and_the_worst(median, worst):
    gain = {
        "model": "adapter",
        "baseline": "solo_adapter",
        "metric": "ndcg@10",
        "merchants": 8,
        "ahead": 5,
        "median": median,
        "worst": {"mean": worst, "low": worst - 1, "high": worst + 1},
        "worst_merchant": "Little Owl",
    }
    group = group_of(fairness=Fairness(spreads=[], gains=[gain]))
    of_median = verdict(group, model="adapter", median_above="solo_adapter")
    of_worst = verdict(group, model="adapter", worst_not_below="solo_adapter")
    assert of_median[2] == ("met" if median > 0 else "missed")
    assert of_worst[2] == ("met" if worst >= 0 else "missed")


def test_a_target_is_about_its_data_set_budget_and_noise():
    group = group_of()
    fitting = {"dataset": DATASET, "epsilon": 4, "model": "fused", "at_least": 0.1}
    assert Target(**fitting).fits(group)
    for change in ({"dataset": "other"}, {"epsilon": 1}, {"noise": "central"}):
        assert not Target(**(fitting | change)).fits(group)


@pytest.mark.parametrize(
    "text",
    [
        "[[target]]\ndataset = 'a'\nepsilon = 4\nmodel = 'fused'",
        "[[target]]\ndataset = 'a'\nepsilon = 4\nmodel = 'f'\nat_least = 1\nabove = 'b'",
        "[[target]]\ndataset = 'a'\nepsilon = 4\nmodel = 'f'\nat_leats = 1",
        "[[target",
    ],
)
def test_what_is_no_target_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "targets.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"targets\.toml"):
        read_targets(path)


def test_no_file_is_no_target(tmp_path):
    assert read_targets(tmp_path / "targets.toml") == []


def test_committed_targets_name_models_that_are_measured():
    """Else a renamed model is not measured, and nobody sees that a target is missed."""
    targets = read_targets(COMMITTED)
    assert len(targets) > 20
    for one in targets:
        asked = (one.model, one.share_of, one.keeps, one.above, one.not_below)
        named = {*asked, one.median_above, one.worst_not_below} - {None, "best"}
        assert named <= set(MODELS)
