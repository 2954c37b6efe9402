"""From scorecards to numbers: who is subtracted from whom, and whose number is whose."""

from types import SimpleNamespace

import numpy as np
import pytest

from common.evaluation.scorecard import Scorecard
from simulations.evaluation.scoring import (
    COMPARED_METRICS,
    intervals,
    merchant_results,
    pooled_metrics,
)

EMPTY = np.empty(0, np.uint64), np.empty(0, np.int64)


def scorecard(*values):
    return Scorecard(10, dict.fromkeys([*COMPARED_METRICS, "aplt@10"], np.array(values)), *EMPTY)


def evaluator(name, cases):
    return SimpleNamespace(
        shop=SimpleNamespace(
            name=name,
            test_cases=SimpleNamespace(shoppers=np.arange(cases)),
            node_data=SimpleNamespace(shopper_count=10 * cases),
        )
    )


SCORECARDS = {
    "local_ease": [scorecard(0.1, 0.2), scorecard(0.4, 0.4, 0.4)],
    "fused": [scorecard(0.2, 0.3), scorecard(0.5, 0.5, 0.8)],
}


def test_a_difference_is_the_model_minus_the_baseline_case_by_case():
    found = intervals(SCORECARDS, seed=0).differences
    assert {(one.model, one.baseline) for one in found} == {("fused", "local_ease")}
    for one in found:
        assert one.mean == pytest.approx((0.1 + 0.1 + 0.1 + 0.1 + 0.4) / 5)
        assert 0.1 - 1e-9 <= one.low <= one.mean <= one.high <= 0.4 + 1e-9  # paired: never below .1


def test_a_merchants_numbers_are_its_own_and_the_pool_is_of_cases():
    first, second = merchant_results(SCORECARDS, [evaluator("Ash", 2), evaluator("Birch", 3)], 500)
    assert (first.name, first.cases, second.name, second.cases) == ("Ash", 2, "Birch", 3)
    assert (first.past_shoppers, second.past_shoppers) == (20, 30)
    assert first.metrics["fused"]["ndcg@10"] == pytest.approx(0.25)
    assert second.metrics["fused"]["ndcg@10"] == pytest.approx(0.6)
    assert second.metrics["local_ease"]["tail_recall@10"] == pytest.approx(0.4)
    assert pooled_metrics(SCORECARDS)["fused"]["ndcg@10"] == pytest.approx(2.3 / 5)
