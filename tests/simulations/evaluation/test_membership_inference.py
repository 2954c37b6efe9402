"""The attack's numbers against brute force and known distributions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from simulations.evaluation import membership_inference
from simulations.evaluation.membership_inference import (
    advantage,
    advantage_bound,
    auc,
    membership_scores,
    membership_test,
)
from tests.support.shops import DAY, interactions_of, make_interactions, make_settings

SCORES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 2.0]), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_auc_and_advantage_are_their_definitions(members, others):
    wins = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    assert auc(np.array(members), np.array(others)) == pytest.approx(np.mean(wins))
    cuts = [*members, *others, math.inf]
    best = max(np.mean(np.array(members) >= c) - np.mean(np.array(others) >= c) for c in cuts)
    assert advantage(np.array(members), np.array(others)) == pytest.approx(best)


def test_gaussian_scores_give_what_theory_says(monkeypatch):
    for name in ("SHUFFLES", "RESAMPLES"):  # of 40,000 scores a hundred tell as much
        monkeypatch.setattr(membership_inference, name, 100)
    random, shift = np.random.default_rng(0), 1.0
    members, others = random.normal(shift, 1, 20_000), random.normal(0, 1, 20_000)
    found = membership_test([members], [others], epsilon=4, delta=1e-5, seed=0)
    assert found.auc == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=0.01)
    assert found.advantage == pytest.approx(2 * norm.cdf(shift / 2) - 1, abs=0.015)
    assert found.low < found.auc < found.high
    assert found.chance < 0.03 < found.advantage


def test_the_same_scores_on_both_sides_are_within_chance():
    random = np.random.default_rng(1)
    sides = ([random.normal(size=n) for n in (300, 40)] for _ in range(2))
    found = membership_test(*sides, epsilon=math.inf, delta=1e-5, seed=0)
    assert found.advantage <= found.chance
    assert found.low < 0.5 < found.high
    assert (found.members, found.others, found.bound) == (340, 340, 1.0)


@given(st.floats(0, 50), st.floats(0, 0.01))
def test_the_bound_is_that_of_randomised_response_and_grows(epsilon, delta):
    """Randomised response that tells outright with probability delta is exactly as private."""
    reached = delta + (1 - delta) * math.tanh(epsilon / 2)
    assert advantage_bound(epsilon, delta) == pytest.approx(reached, abs=1e-12)
    assert advantage_bound(epsilon, delta) <= advantage_bound(epsilon + 1, delta)


def test_unknown_scores_are_left_out_and_one_empty_side_is_an_error():
    found = membership_test(
        [np.array([1.0, np.nan])], [np.array([0.0])], epsilon=1, delta=0, seed=0
    )
    assert (found.members, found.others) == (1, 1)
    with pytest.raises(ValueError, match="both sides"):
        membership_test([np.array([1.0])], [np.array([np.nan])], epsilon=1, delta=0, seed=0)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_scores_are_zero_without_training_and_above_it_where_the_fit_is_better():
    settings, past = make_settings(), make_interactions(30, 25)
    frozen = unit(np.random.default_rng(2).normal(size=(30, 8)))
    everybody = np.arange(25)
    same = membership_scores(past, everybody, settings, adapted=frozen, frozen=frozen)
    assert np.nanmax(np.abs(same)) == 0
    # Shopper 0 alone buys items 0, 1, 2; reading 0 as the other two fits that shopper alone.
    rows = [(0, 0, 0, 0), (0, 1, DAY, 1), (0, 2, DAY, 1), (1, 5, 0, 0), (1, 6, DAY, 1)]
    rows += [(2, 7, 0, 0)]
    adapted = frozen.copy()
    adapted[0] = unit((frozen[1] + frozen[2])[None])[0]
    some = interactions_of(rows, 30, 3)
    found = membership_scores(some, np.arange(3), settings, adapted=adapted, frozen=frozen)
    assert found[0] > 0.1
    assert found[1] == 0
    assert np.isnan(found[2])  # one item: nothing to cut
