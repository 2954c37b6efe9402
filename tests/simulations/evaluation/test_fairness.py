import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.evaluation.scorecard import Scorecard
from simulations.evaluation.fairness import fairness

EMPTY = np.empty(0, np.uint64), np.empty(0, np.int64)
NAMES = ("Ash", "Birch", "Cedar", "Elm")


def scorecard(ndcg, tail=None):
    ndcg = np.array(ndcg, float)
    tail = ndcg if tail is None else np.array(tail, float)
    return Scorecard(10, {"ndcg@10": ndcg, "tail_recall@10": tail, "aplt@10": ndcg}, *EMPTY)


def asked(scorecards, names=NAMES):
    return fairness(scorecards, names, seed=0, resamples=50)


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=4, max_size=4))
def test_gains_are_counted_merchant_by_merchant(values):
    solo = [scorecard(np.full(len(one), 0.5)) for one in values]
    scorecards = {"adapter": [scorecard(one) for one in values], "solo_adapter": solo}
    [ndcg, tail] = asked(scorecards).gains
    means = [float(np.mean(np.array(one) - 0.5)) for one in values]
    assert ndcg.median == pytest.approx(sorted(means)[1] / 2 + sorted(means)[2] / 2)
    assert ndcg.worst.mean == pytest.approx(min(means))
    assert means[NAMES.index(ndcg.worst_merchant)] == pytest.approx(min(means))
    assert ndcg.ahead == sum(mean > 0 for mean in means)
    assert (ndcg.merchants, ndcg.model, ndcg.baseline) == (4, "adapter", "solo_adapter")
    assert tail.median == ndcg.median


def test_a_large_merchant_does_not_hide_a_small_one():
    """Pooled, the gain would be near +0.4; the small merchant loses all the same."""
    big, small = np.full(1000, 0.9), np.zeros(3)
    scorecards = {
        "fused": [scorecard(big), scorecard(small)],
        "local_ease": [scorecard(np.full(1000, 0.5)), scorecard(np.full(3, 0.2))],
    }
    found = asked(scorecards, NAMES[:2])
    gain = found.gains[0]
    assert gain.worst_merchant == "Birch"
    assert gain.worst.mean == pytest.approx(-0.2)
    assert (gain.ahead, gain.merchants) == (1, 2)
    spread = next(one for one in found.spreads if (one.model, one.metric) == ("fused", "ndcg@10"))
    assert (spread.mean, spread.worst, spread.worst_merchant) == (pytest.approx(0.45), 0, "Birch")


def test_a_merchant_without_tail_cases_is_left_out_of_the_tail_alone():
    nothing = [np.nan, np.nan]
    scorecards = {
        "adapter": [scorecard([0.3, 0.4]), scorecard([0.3, 0.5], nothing)],
        "frozen_text": [scorecard([0.1, 0.1]), scorecard([0.1, 0.1], nothing)],
    }
    ndcg, tail = asked(scorecards, NAMES[:2]).gains
    assert (ndcg.merchants, tail.merchants) == (2, 1)
    assert tail.worst_merchant == "Ash"


def test_nobody_with_a_value_leaves_no_gain_and_an_unknown_spread():
    empty = {"adapter": [scorecard([])], "frozen_text": [scorecard([])]}
    found = asked(empty, NAMES[:1])
    assert found.gains == ()
    assert {(one.worst, one.worst_merchant) for one in found.spreads} == {(None, "")}


def test_only_models_that_were_judged_are_compared():
    assert asked({"popularity": [scorecard([0.1])]}, NAMES[:1]).gains == ()


def test_each_merchants_own_best_is_what_it_is_held_against():
    many, few = 100, 99
    scorecards = {
        "popularity": [scorecard(np.full(n, 0.2)) for n in (many, many, many, few)],
        "own_alone": [
            scorecard(np.full(n, v))
            for n, v in zip((many, many, many, few), (0.6, 0.1, 0.3, 0.9), strict=True)
        ],
        "fused": [
            scorecard(np.full(n, v))
            for n, v in zip((many, many, many, few), (0.5, 0.3, 0.3, 0.0), strict=True)
        ],
    }
    found = asked(scorecards).own_best
    assert (found.merchants, found.better, found.worse) == (3, 1, 1), "Elm has too few to be told"
    assert (found.worst_merchant, found.worst.mean) == ("Ash", pytest.approx(-0.1))


def test_without_a_merchant_large_enough_nobody_is_held_against_its_best():
    scorecards = {"popularity": [scorecard([0.2])], "fused": [scorecard([0.5])]}
    found = asked(scorecards, NAMES[:1]).own_best
    assert (found.merchants, found.worst, found.worst_merchant) == (0, None, "")
