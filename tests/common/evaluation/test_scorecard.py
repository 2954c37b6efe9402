import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from common.catalogue import popularity_buckets
from common.errors import InputError
from common.evaluation.metrics import auc_per_shopper, rank_top_k
from common.evaluation.scorecard import evaluate_ranking, evaluate_scores, pool, spread

METRICS = [
    "ndcg@10",
    "recall@10",
    "precision@10",
    "f1@10",
    "auc",
    "tail_recall@10",
    "tail_precision@10",
    "tail_f1@10",
    "tail_auc",
    "head_recall@10",
    "cold_recall@10",
    "tail_by_volume_recall@10",
    "coverage@10",
    "gini@10",
    "aplt@10",
]


def task_of(seed, cases=40, items=60):
    rng = np.random.default_rng(seed)
    scores = rng.random((cases, items), dtype=np.float32)
    state = rng.choice(3, size=(cases, items), p=[0.8, 0.1, 0.1])
    counts = np.sort(rng.zipf(1.5, items) - 1)[::-1]
    seen, relevant = (csr_matrix((state == one).astype(np.float32)) for one in (1, 2))
    return scores, seen, relevant, popularity_buckets(counts)


def scorecard_of(seed, **settings):
    scores, seen, relevant, buckets = task_of(seed, **settings)
    return evaluate_scores(scores.__getitem__, seen, relevant, buckets)


def test_means_has_exactly_the_documented_metrics():
    assert list(scorecard_of(1).means()) == METRICS


def test_scores_in_chunks_and_finished_lists_give_one_scorecard():
    scores, seen, relevant, buckets = task_of(2)
    scorecard = evaluate_scores(scores.__getitem__, seen, relevant, buckets)
    auc = auc_per_shopper(scores, seen, relevant)
    tail = np.flatnonzero(buckets.tail)
    tail_auc = auc_per_shopper(scores[:, tail], seen[:, tail], relevant[:, tail])
    again = evaluate_ranking(
        rank_top_k(scores, seen, 10), relevant, buckets, auc=auc, tail_auc=tail_auc
    )
    assert scorecard.means() == again.means()


def test_one_case_by_hand():
    # Items 0 and 1 are the head, 8 and 9 never sold, 4 to 9 lie outside 80% of the volume.
    counts = np.array([50, 40, 9, 8, 7, 6, 5, 4, 0, 0])
    scores = np.array([[9, 1, 8, 2, 3, 0, 4, 5, 7, 6]], dtype=np.float32)
    seen = csr_matrix(np.eye(1, 10, 2))  # item 2 is out, so the list is 0, 8, 9, 7, 6
    relevant = csr_matrix(np.array([[0, 1, 0, 1, 0, 1, 0, 0, 1, 0]], dtype=np.float32))
    scorecard = evaluate_scores(scores.__getitem__, seen, relevant, popularity_buckets(counts), k=5)
    found = 1 / math.log2(3)  # item 8, in the second place
    assert scorecard.means() == pytest.approx(
        {
            "ndcg@5": found / (1 + found + 1 / 2 + 1 / math.log2(5)),
            "recall@5": 1 / 4,
            "precision@5": 1 / 5,
            "f1@5": 2 / 9,
            "auc": 4 / 20,  # 8 beats 4 of the 5 others; 1, 3 and 5 beat none
            "tail_recall@5": 1 / 3,
            "tail_precision@5": 1 / 4,  # of 8, 9, 7 and 6
            "tail_f1@5": 2 / 7,
            "tail_auc": 4 / 12,  # 8 beats the other four of the tail; 3 and 5 beat none
            "head_recall@5": 0,
            "cold_recall@5": 1,
            "tail_by_volume_recall@5": 1 / 2,
            "coverage@5": 1 / 2,
            "gini@5": 1 / 2,
            "aplt@5": 4 / 5,
        }
    )


def test_f1_is_zero_when_nothing_is_found_and_undefined_without_anything_to_find():
    scores = np.arange(24, dtype=np.float32).reshape(2, 12)
    relevant = csr_matrix(([1.0], ([0], [0])), shape=(2, 12))
    scorecard = evaluate_scores(
        scores.__getitem__, csr_matrix((2, 12)), relevant, popularity_buckets(np.arange(12))
    )
    assert scorecard.per_shopper["f1@10"][0] == 0
    assert np.isnan(scorecard.per_shopper["f1@10"][1])


@given(st.lists(st.integers(3, 20), min_size=1, max_size=4))
def test_a_pool_is_the_mean_over_all_shoppers(sizes):
    scorecards = [scorecard_of(size, cases=size) for size in sizes]
    pooled = pool(scorecards)
    for name, values in pooled.per_shopper.items():
        np.testing.assert_array_equal(
            values, np.concatenate([scorecard.per_shopper[name] for scorecard in scorecards])
        )
    defined = [(~np.isnan(scorecard.per_shopper["ndcg@10"])).sum() for scorecard in scorecards]
    weighted = sum(
        count * scorecard.means()["ndcg@10"]
        for count, scorecard in zip(defined, scorecards, strict=True)
        if count
    ) / sum(defined)
    assert pooled.means()["ndcg@10"] == pytest.approx(weighted)
    assert pooled.exposure.sum() == sum(scorecard.exposure.sum() for scorecard in scorecards)


def test_a_pool_of_one_is_itself():
    scorecard = scorecard_of(3)
    assert pool([scorecard]).means() == scorecard.means()


def test_pooled_coverage_is_over_the_union_of_catalogues():
    scores, seen, relevant, buckets = task_of(4, items=20)
    keys = np.arange(20, dtype=np.uint64)

    def scorecard(item_keys):
        return evaluate_scores(scores.__getitem__, seen, relevant, buckets, item_keys=item_keys)

    one, half_shared = scorecard(keys), scorecard(keys + np.uint64(10))
    pooled = pool([one, half_shared])
    assert len(pooled.item_keys) == 30
    assert pooled.exposure[10:20].tolist() == (one.exposure[10:] + one.exposure[:10]).tolist()
    assert pooled.means()["coverage@10"] == (pooled.exposure > 0).mean()


def test_items_of_one_text_count_as_one_in_coverage():
    scores, seen, relevant, buckets = task_of(5, items=20)
    keys = np.arange(20, dtype=np.uint64) // np.uint64(2)
    scorecard = evaluate_scores(scores.__getitem__, seen, relevant, buckets, item_keys=keys)
    assert len(scorecard.exposure) == 10


def test_spread_names_the_worst_merchant_and_weighs_merchants_equally():
    scorecards = {"small": scorecard_of(6, cases=3), "large": scorecard_of(7, cases=90)}
    found = spread(scorecards)
    small, large = (scorecards[name].means() for name in scorecards)
    assert found.by_merchant == {"small": small, "large": large}
    for metric in METRICS:
        assert found.mean[metric] == pytest.approx((small[metric] + large[metric]) / 2)
        name, value = found.worst[metric]
        pick = max if metric == "gini@10" else min
        assert value == pick(small[metric], large[metric]) == found.by_merchant[name][metric]


def test_a_merchant_without_cases_has_no_worst_and_weighs_nothing():
    scorecards = {"empty": scorecard_of(8, cases=0), "open": scorecard_of(9)}
    found = spread(scorecards)
    assert all(math.isnan(value) for value in found.by_merchant["empty"].values())
    assert found.worst["ndcg@10"][0] == "open"
    assert found.mean["ndcg@10"] == scorecards["open"].means()["ndcg@10"]
    assert spread({"empty": scorecards["empty"]}).worst == {}


def test_what_does_not_fit_is_refused():
    scores, seen, relevant, buckets = task_of(10)
    with pytest.raises(InputError):
        pool([])
    with pytest.raises(InputError):
        pool([scorecard_of(1), evaluate_scores(scores.__getitem__, seen, relevant, buckets, k=5)])
    with pytest.raises(InputError):
        spread({})
    ranking = rank_top_k(scores, seen, 10)
    with pytest.raises(InputError) as caught:
        evaluate_ranking(
            ranking,
            relevant,
            popularity_buckets(np.arange(3)),
            auc=np.zeros(40),
            tail_auc=np.zeros(40),
        )
    assert caught.value.field == "buckets"
    with pytest.raises(InputError):
        evaluate_ranking(ranking, relevant, buckets, auc=np.zeros(3), tail_auc=np.zeros(40))
    with pytest.raises(InputError):
        evaluate_ranking(ranking, relevant, buckets, auc=np.zeros(40), tail_auc=np.zeros(3))
