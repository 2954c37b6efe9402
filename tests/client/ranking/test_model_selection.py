import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, norm
from scipy.stats import t as student

from client.ranking.model_selection import DEFAULT_ODDS, EFFECTS, believe, clearly_better


@given(st.integers(0, 2**32), st.floats(-1, 1))
def test_the_same_gain_for_everybody_is_clear_and_none_is_not(seed, gain):
    default = np.round(np.random.default_rng(seed).random(30), 3)
    assert clearly_better(default + 0.5, default)
    assert not clearly_better(default, default)
    assert not clearly_better(default - abs(gain), default)


def test_luck_seldom_looks_clear():
    random = np.random.default_rng(0)
    lucky = sum(clearly_better(random.normal(size=100), np.zeros(100)) for _ in range(2000))
    assert 0.01 < lucky / 2000 < 0.04  # one side of two standard errors: 2.3%


def test_one_lucky_case_is_not_clear():
    found = np.zeros(100)
    found[0] = 1.0
    assert not clearly_better(found, np.zeros(100))


def test_nobody_is_no_evidence():
    assert not clearly_better(np.empty(0), np.empty(0))


# ------------------------------------------------------------------------ beliefs
def drawn(random, cases, count, alike=0.5):
    """Gains that are luck, some of it shared by all candidates."""
    shared = random.normal(size=(cases, 1))
    return np.sqrt(alike) * shared + np.sqrt(1 - alike) * random.normal(size=(cases, count))


def bayes_factor(t, cases, effect):
    """The chance of t if something is gained, by all gains, against that if nothing is."""

    gains = np.linspace(0, 8 * effect, 801)
    # Where the density is too small to be told it comes out as NaN.
    likely = np.nan_to_num(nct.pdf(t, cases - 1, gains * np.sqrt(cases)))
    above = np.trapezoid(likely * 2 * norm.pdf(gains, scale=effect), gains)
    return above / student.pdf(t, cases - 1)


def test_of_two_that_are_beyond_doubt_the_likelier_is_believed():
    """Both Bayes factors are larger than any double."""
    luck = np.random.default_rng(0).normal(size=(20_000, 2))
    found = believe(luck + np.array([0.5, 1.0]), np.array([0.99, 0.01]))
    assert found.candidates == pytest.approx([0, 1], abs=1e-9)
    assert found.default == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("cases", [20, 200])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0, 3.0])
def test_odds_are_bayes_factors_by_numerical_integration(cases, t):
    gains = np.random.default_rng(0).normal(size=(cases, 1))
    gains -= gains.mean()
    gains /= gains.std(ddof=1)
    gains += t / np.sqrt(cases)
    found = believe(gains, np.ones(1))
    factor = np.mean([bayes_factor(t, cases, effect) for effect in EFFECTS])
    assert found.candidates[0] / found.default == pytest.approx(factor / DEFAULT_ODDS, rel=0.05)


@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 12))
def test_beliefs_are_shares_and_neither_scale_nor_order_counts(seed, cases, count):
    random = np.random.default_rng(seed)
    gains = random.normal(size=(cases, count))
    prior = random.random(count) + 0.01
    found = believe(gains, prior)
    assert found.default + found.candidates.sum() == pytest.approx(1)
    assert (found.candidates >= 0).all()
    rows, columns = random.permutation(cases), random.permutation(count)
    other = believe(1000 * gains[rows][:, columns], 7 * prior[columns])
    assert other.default == pytest.approx(found.default, rel=1e-6)
    assert other.candidates == pytest.approx(found.candidates[columns], rel=1e-6)


@pytest.mark.parametrize("cases", [50, 200, 1000])
@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_luck_leaves_the_default_the_likelier(cases, alike):
    random = np.random.default_rng(cases)
    left = sum(
        believe(drawn(random, cases, 40, alike), np.ones(40)).default < 0.5 for _ in range(200)
    )
    assert left <= 10  # one in twenty


def test_one_true_gain_among_forty_is_found_with_many_cases_and_not_with_few():
    random = np.random.default_rng(0)
    believed = {}
    for cases in (50, 1000):
        found = []
        for _ in range(50):
            gains = drawn(random, cases, 40)
            gains[:, 7] += 0.2
            found.append(believe(gains, np.ones(40)).candidates[7])
        believed[cases] = np.mean(np.array(found) > 0.5)
    assert believed[50] < 0.1
    assert believed[1000] >= 0.95


def test_what_everybody_gains_is_believed_and_what_nobody_gains_is_not():
    sure = believe(np.array([[0.1, 0.0, -0.1]] * 30), np.ones(3))
    assert sure.candidates[0] > 0.99
    none = believe(np.zeros((30, 2)), np.ones(2))
    assert none.default > 0.5


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (5, 0)])
def test_without_cases_or_candidates_the_default_is_sure(shape):
    found = believe(np.ones(shape), np.ones(shape[1]))
    assert found.default == 1
    assert found.candidates.shape == (shape[1],)
    assert not found.candidates.any()
