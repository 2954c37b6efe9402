import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.evaluation.scorecard import Scorecard
from simulations.evaluation.by_size import SIZES, gains_by_size, size_of

EMPTY = np.empty(0, np.uint64), np.empty(0, np.int64)


def scorecard(ndcg, tail=None):
    ndcg = np.array(ndcg, float)
    tail = ndcg if tail is None else np.array(tail, float)
    return Scorecard(10, {"ndcg@10": ndcg, "tail_recall@10": tail, "aplt@10": ndcg}, *EMPTY)


@given(st.integers(0, 50_000))
def test_the_nearest_size_by_ratio_is_taken(shoppers):
    found = size_of(shoppers)
    ratio = max(found / max(shoppers, 1), max(shoppers, 1) / found)
    assert all(
        ratio <= max(s / max(shoppers, 1), max(shoppers, 1) / s) * (1 + 1e-12) for s in SIZES
    )


def test_merchants_of_a_size_are_pooled_by_case_and_held_against_their_own_best():
    scorecards = {
        "popularity": [scorecard([0.5, 0.5]), scorecard([0.1]), scorecard([0.2])],
        "own_alone": [scorecard([0.1, 0.1]), scorecard([0.4]), scorecard([0.3])],
        "fused": [scorecard([0.7, 0.5]), scorecard([0.6]), scorecard([0.6])],
        "fused_boosted": [scorecard([0.9, 0.9]), scorecard([0.9]), scorecard([0.9])],
    }
    small, large = gains_by_size(scorecards, [900, 25, 50], seed=0)
    assert (small.size, small.merchants, small.smallest, small.largest) == (30, 2, 25, 50)
    assert (large.size, large.merchants, large.cases) == (1000, 1, 2)
    assert (small.alone, large.alone) == ("own_alone", "popularity")
    gain = {(one.model, one.metric): one.mean for one in (*small.gains, *large.gains)}
    assert {model for model, _ in gain} == {"fused"}
    [ndcg, _] = small.gains
    assert ndcg.mean == pytest.approx((0.6 - 0.4 + 0.6 - 0.3) / 2)
    assert ndcg.baseline == "own_alone"
    assert large.gains[0].mean == pytest.approx(0.1)
    assert small.metrics["own_alone"]["ndcg@10"] == pytest.approx(0.35)


def test_a_size_whose_merchants_sold_nothing_in_the_test_is_undefined_and_no_error():
    scorecards = {"popularity": [scorecard([])], "fused": [scorecard([])]}
    [found] = gains_by_size(scorecards, [12], seed=0)
    assert (found.size, found.cases) == (10, 0)
    assert found.gains[0].mean is None
