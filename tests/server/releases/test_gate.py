import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from common.errors import InputError
from server.releases.gate import DEMANDS, MIN_CASES, decide_release

NAN = np.nan


def decided(release, frozen, release_tail=None, frozen_tail=None, seed=0):
    ours = {"ndcg@10": release, "tail_recall@10": release if release_tail is None else release_tail}
    theirs = {"ndcg@10": frozen, "tail_recall@10": frozen if frozen_tail is None else frozen_tail}
    return decide_release(ours, theirs, seed=seed, resamples=200)


@given(
    seed=st.integers(0, 2**32 - 1),
    shift=st.floats(-0.3, 0.3),
    cases=st.integers(MIN_CASES, 300),
)
def test_a_release_passes_if_a_paired_test_by_another_road_sees_it_ahead(seed, shift, cases):
    """The t-test is another road to the same interval: the two agree wherever it is clear."""
    random = np.random.default_rng(seed)
    frozen = random.normal(size=cases)
    release = frozen + shift + random.normal(0, 0.5, cases)
    decision = decided(release, frozen)
    t, p = ttest_rel(release, frozen)
    if p < 0.005:
        assert decision.passed == (t > 0)
    if p > 0.2:
        assert not decision.passed


def test_the_frozen_model_itself_does_not_pass():
    values = np.random.default_rng(0).random(200)
    decision = decided(values, values)
    assert not decision.passed
    assert [one.met for one in decision.checks] == [False, True]
    assert "ndcg@10 is not higher" in decision.reason


def test_a_release_that_pays_for_accuracy_with_the_tail_does_not_pass():
    random = np.random.default_rng(1)
    frozen = random.random(300)
    less = decided(frozen + 0.1, frozen, frozen - 0.05, frozen)
    assert [one.met for one in less.checks] == [True, False]
    assert "tail_recall@10 is lower" in less.reason
    assert "-0.0500" in less.reason
    unclear = decided(frozen + 0.1, frozen, frozen + random.normal(0, 0.5, 300), frozen)
    assert unclear.passed


def test_the_reason_has_both_numbers_and_the_interval():
    frozen = np.linspace(0, 1, 100)
    decision = decided(frozen + 0.25, frozen)
    assert decision.passed
    check = decision.checks[0]
    assert (check.release, check.frozen) == (pytest.approx(0.75), pytest.approx(0.5))
    assert "release 0.7500, frozen 0.5000, difference +0.2500 (+0.2500 to +0.2500)" in str(check)
    assert str(check) in decision.reason


def test_means_are_over_the_shoppers_that_both_have():
    frozen = np.concatenate([np.full(60, 0.2), [NAN]])
    release = np.concatenate([np.full(60, 0.3), [9.0]])
    check = decided(release, frozen).checks[0]
    assert check.release == pytest.approx(0.3)
    assert check.difference.mean == pytest.approx(0.1)


@pytest.mark.parametrize("cases", [0, 1, MIN_CASES - 1])
def test_few_shoppers_decide_nothing_however_clear_they_are(cases):
    decision = decided(np.ones(cases), np.zeros(cases))
    assert not decision.passed
    assert f"{cases} test shoppers; {MIN_CASES} are needed" in decision.reason


def test_a_tail_that_nobody_bought_demands_nothing_and_an_unknown_accuracy_does_not_pass():
    nobody, frozen = np.full(100, NAN), np.linspace(0, 1, 100)
    assert decided(frozen + 0.1, frozen, nobody, nobody).passed
    assert not decided(nobody, nobody, frozen, frozen).passed


def test_what_is_not_about_the_same_shoppers_or_lacks_a_metric_is_an_error():
    with pytest.raises(InputError):
        decided(np.ones(100), np.ones(99))
    for metric in DEMANDS:
        other = {name: np.ones(60) for name in DEMANDS if name != metric}
        with pytest.raises(InputError) as caught:
            decide_release(other, other, seed=0)
        assert caught.value.field == metric


def test_the_same_seed_decides_the_same():
    random = np.random.default_rng(3)
    release, frozen = random.random(80), random.random(80)
    assert decided(release, frozen, seed=5) == decided(release, frozen, seed=5)
