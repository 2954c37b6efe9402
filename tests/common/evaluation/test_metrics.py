import math
from itertools import pairwise

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, P, Qrel, R, ScoredDoc, nDCG
from scipy.sparse import csr_matrix

from common.errors import InputError
from common.evaluation import metrics
from common.evaluation.metrics import (
    NOT_AN_ITEM,
    Ranking,
    auc_per_shopper,
    coverage,
    exposure,
    gini,
    ndcg,
    precision,
    rank_scores,
    rank_top_k,
    rank_with_auc,
    recall,
    tail_share,
)


def sparse(mask):
    return csr_matrix(np.asarray(mask, dtype=np.float32))


def bucket_of(bits, items):
    return np.array([bits >> item & 1 for item in range(items)], dtype=bool)


@st.composite
def tasks(draw, max_cases=6, max_items=15):
    """Scores with many ties, and disjoint seen and relevant items, some rows empty."""
    cases = draw(st.integers(1, max_cases))
    items = draw(st.integers(1, max_items))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = (rng.integers(-levels, levels + 1, (cases, items)) / 3).astype(np.float32)
    state = rng.choice(3, size=(cases, items), p=[0.5, 0.25, 0.25])
    return scores, sparse(state == 1), sparse(state == 2)


def naive_list(scores, seen, k):
    eligible = [item for item in range(len(scores)) if item not in seen]
    ranked = sorted(eligible, key=lambda item: (-scores[item], item))[:k]
    return ranked + [NOT_AN_ITEM] * (k - len(ranked))


def naive_auc(scores, seen, relevant):
    others = [item for item in range(len(scores)) if item not in seen and item not in relevant]
    if not others or not relevant:
        return math.nan
    wins = [
        1.0 if scores[good] > scores[bad] else 0.5 if scores[good] == scores[bad] else 0.0
        for good in relevant
        for bad in others
    ]
    return sum(wins) / len(wins)


@given(tasks(), st.integers(1, 20))
def test_ranking_is_the_plain_sort_by_score_then_index(task, k):
    scores, seen, _ = task
    got = rank_top_k(scores, seen, k).items
    for row in range(len(scores)):
        assert got[row].tolist() == naive_list(scores[row], set(seen[row].indices.tolist()), k)


def test_ties_at_place_k_go_to_the_lower_index():
    scores = np.zeros((1, 5000), dtype=np.float32)
    scores[0, 4000] = 1
    ranking = rank_top_k(scores, csr_matrix((1, 5000)), 4)
    assert ranking.items.tolist() == [[4000, 0, 1, 2]]


def test_minus_zero_is_zero():
    scores = np.array([[0.0, -0.0, 0.0, -1.0]], dtype=np.float32)
    none = csr_matrix((1, 4))
    assert rank_top_k(scores, none, 4).items.tolist() == [[0, 1, 2, 3]]
    assert auc_per_shopper(scores[:, :3], none[:, :3], sparse([[0, 1, 0]])).tolist() == [0.5]


def test_extreme_scores_keep_their_order_above_seen_items():
    big = np.finfo(np.float32).max
    tiny = np.finfo(np.float32).smallest_subnormal
    scores = np.array([[-big, -tiny, 0, tiny, big, 1]], dtype=np.float32)
    ranking = rank_top_k(scores, sparse([[0, 0, 0, 0, 0, 1]]), 6)
    assert ranking.items.tolist() == [[4, 3, 2, 1, 0, NOT_AN_ITEM]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_score_that_is_not_finite_is_an_error(bad):
    scores = np.zeros((2, 3))
    scores[1, 2] = bad
    with pytest.raises(InputError) as caught:
        rank_top_k(scores, csr_matrix((2, 3)), 2)
    assert caught.value.field == "scores"


def test_arguments_that_do_not_fit_are_named():
    none = csr_matrix((2, 3))
    zeros = np.zeros((2, 3), dtype=np.float32)
    for call, field in (
        (lambda: rank_top_k(zeros, csr_matrix((3, 2)), 1), "scores"),
        (lambda: rank_top_k(zeros, none, 0), "k"),
        (lambda: auc_per_shopper(zeros, none, csr_matrix((2, 4))), "relevant"),
        (lambda: auc_per_shopper(zeros, sparse(np.eye(2, 3)), sparse(np.eye(2, 3))), "relevant"),
        (lambda: ndcg(rank_top_k(zeros, none, 1), csr_matrix((2, 4))), "relevant"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.field == field


@given(tasks())
def test_auc_equals_counting_all_pairs(task):
    scores, seen, relevant = task
    got = auc_per_shopper(scores, seen, relevant)
    expected = [
        naive_auc(scores[row], set(seen[row].indices), relevant[row].indices.tolist())
        for row in range(len(scores))
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@given(tasks(max_cases=12), st.integers(1, 5), st.integers(0, 2**15 - 1))
def test_chunks_change_nothing(task, k, bits):
    scores, seen, relevant = task
    bucket = bucket_of(bits, scores.shape[1])
    asked = []

    def score_chunk(rows):
        asked.append(rows)
        return scores[rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK_SCORES", 2 * scores.shape[1])
        ranking, auc, of_bucket = rank_with_auc(score_chunk, seen, relevant, k, bucket)
        again = rank_scores(score_chunk, seen, k)
    assert max(rows.stop - rows.start for rows in asked) <= 2
    assert (ranking.items == rank_top_k(scores, seen, k).items).all()
    assert (again.items == ranking.items).all()
    np.testing.assert_array_equal(auc, auc_per_shopper(scores, seen, relevant))
    kept = np.flatnonzero(bucket)
    among = auc_per_shopper(scores[:, kept], seen[:, kept], relevant[:, kept])
    np.testing.assert_array_equal(of_bucket, among)


def test_no_case_at_all_gives_empty_lists():
    none = csr_matrix((0, 4))
    ranking, auc, again = rank_with_auc(lambda rows: np.zeros((0, 4)), none, none, 3)
    assert ranking.items.shape == (0, 3)
    assert again is auc
    assert auc.shape == ndcg(ranking, none).shape == (0,)


@pytest.fixture(scope="module")
def random_task():
    """300 cases of 200 items with up to 40 relevant ones and scores rich in ties."""
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 50, (300, 200)).astype(np.float32)
    relevant = rng.random((300, 200)) < rng.random((300, 1)) * 0.2
    relevant[:, 0] |= ~relevant.any(axis=1)
    seen = ~relevant & (rng.random((300, 200)) < 0.1)
    scores += 4 * relevant
    return scores, sparse(seen), sparse(relevant)


def by_ir_measures(ranking, relevant, measures):
    """Per-shopper values of trec_eval through ir-measures, [cases] by measure."""
    qrels = [
        Qrel(str(row), str(item), 1)
        for row in range(relevant.shape[0])
        for item in relevant[row].indices
    ]
    run = [
        ScoredDoc(str(row), str(item), float(ranking.k - place))
        for row in range(len(ranking.items))
        for place, item in enumerate(ranking.items[row])
        if item != NOT_AN_ITEM
    ]
    values = {measure: np.full(len(ranking.items), np.nan) for measure in measures}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        values[metric.measure][int(metric.query_id)] = metric.value
    return values


def test_metrics_equal_ir_measures(random_task):
    scores, seen, relevant = random_task
    ranking = rank_top_k(scores, seen, 10)
    theirs = by_ir_measures(ranking, relevant, [nDCG @ 10, P @ 10, R @ 10])
    count = np.diff(relevant.indptr)
    assert (count > 10).any()
    assert (count < 10).any()
    plain_recall = recall(ranking, relevant) * np.minimum(count, 10) / count
    np.testing.assert_allclose(ndcg(ranking, relevant), theirs[nDCG @ 10], rtol=0, atol=1e-9)
    np.testing.assert_allclose(precision(ranking, relevant), theirs[P @ 10], rtol=0, atol=1e-9)
    np.testing.assert_allclose(plain_recall, theirs[R @ 10], rtol=0, atol=1e-9)


def test_the_whole_ranking_equals_ir_measures(random_task):
    scores, seen, relevant = random_task
    ranking = rank_top_k(scores, seen, 200)
    theirs = by_ir_measures(ranking, relevant, [AP, nDCG])
    hits = metrics._hits(ranking, relevant)
    exact = hits.cumsum(axis=1) / np.arange(1, 201)
    average = (exact * hits).sum(axis=1) / np.diff(relevant.indptr)
    np.testing.assert_allclose(average, theirs[AP], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ndcg(ranking, relevant), theirs[nDCG], rtol=0, atol=1e-9)


@given(tasks(), st.integers(1, 12))
def test_a_perfect_ranking_scores_one(task, k):
    _, seen, relevant = task
    ranking, auc, _ = rank_with_auc(lambda rows: relevant[rows].toarray(), seen, relevant, k)
    defined = np.diff(relevant.indptr) > 0
    np.testing.assert_allclose(ndcg(ranking, relevant)[defined], 1)
    np.testing.assert_allclose(recall(ranking, relevant)[defined], 1)
    assert set(auc[~np.isnan(auc)]) <= {1.0}
    for values in (
        ndcg(ranking, relevant),
        recall(ranking, relevant),
        precision(ranking, relevant),
    ):
        assert np.isnan(values[~defined]).all()


@given(tasks(), st.integers(1, 12))
def test_order_of_shoppers_does_not_matter(task, k):
    scores, seen, relevant = task
    order = np.random.default_rng(0).permutation(len(scores))
    straight = ndcg(rank_top_k(scores, seen, k), relevant)
    shuffled = ndcg(rank_top_k(scores[order], seen[order], k), relevant[order])
    np.testing.assert_array_equal(straight[order], shuffled)


@pytest.mark.parametrize("k", [5, 8, 10, 20])
def test_a_shoppers_ndcg_is_the_same_to_the_last_bit_in_any_company(k):
    random = np.random.default_rng(k)
    scores = random.normal(size=(97, 40)).astype(np.float32)
    seen, relevant = csr_matrix((97, 40)), csr_matrix(random.random((97, 40)) < 0.3)
    together = ndcg(rank_top_k(scores, seen, k), relevant)
    for size in (1, 2, 3, 6, 31):
        parts = [slice(start, start + size) for start in range(0, 97, size)]
        apart = [ndcg(rank_top_k(scores[one], seen[one], k), relevant[one]) for one in parts]
        np.testing.assert_array_equal(np.concatenate(apart), together)


@given(tasks(), st.integers(1, 12))
def test_an_item_nobody_wants_at_the_end_of_the_ranking_changes_no_accuracy(task, k):
    scores, seen, relevant = task
    worst = np.full((len(scores), 1), scores.min() - 1, dtype=np.float32)
    nobody = csr_matrix((len(scores), 1))
    wider = csr_matrix(np.hstack([relevant.toarray(), nobody.toarray()]))
    wider_seen = csr_matrix(np.hstack([seen.toarray(), nobody.toarray()]))
    before = rank_top_k(scores, seen, k)
    after = rank_top_k(np.hstack([scores, worst]), wider_seen, k)
    for metric in (ndcg, recall, precision):
        np.testing.assert_array_equal(metric(before, relevant), metric(after, wider))
    auc = auc_per_shopper(scores, seen, relevant)
    wider_auc = auc_per_shopper(np.hstack([scores, worst]), wider_seen, wider)
    assert (wider_auc[~np.isnan(auc)] >= auc[~np.isnan(auc)]).all()


@given(tasks(), st.integers(1, 12), st.integers(0, 2**15 - 1))
def test_recall_and_precision_of_a_bucket_count_its_items_in_the_full_list(task, k, bits):
    scores, seen, relevant = task
    bucket = bucket_of(bits, scores.shape[1])
    ranking = rank_top_k(scores, seen, k)
    got, exact = recall(ranking, relevant, bucket), precision(ranking, relevant, bucket)
    for row in range(len(scores)):
        wanted = {item for item in relevant[row].indices.tolist() if bucket[item]}
        shown = {item for item in ranking.items[row].tolist() if item >= 0 and bucket[item]}
        if wanted:
            assert got[row] == pytest.approx(len(wanted & shown) / min(k, len(wanted)))
            assert exact[row] == pytest.approx(len(wanted & shown) / max(len(shown), 1))
        else:
            assert math.isnan(got[row])
            assert math.isnan(exact[row])


def test_padding_is_never_a_hit():
    ranking = Ranking(np.array([[0, NOT_AN_ITEM, NOT_AN_ITEM]], dtype=np.int32), 3)
    relevant = sparse([[0, 0, 1]])
    everything = np.ones(3, dtype=bool)
    # The second case's only relevant item is 2: row 1 and item -1 share its number, 1 * 3 - 1 = 2.
    both = Ranking(np.vstack([ranking.items, ranking.items]), 3)
    twice = sparse([[0, 0, 1], [0, 0, 1]])
    assert recall(ranking, relevant, everything).tolist() == [0]
    assert recall(both, twice).tolist() == [0, 0]
    assert tail_share(ranking, np.array([False, False, True])).tolist() == [0]
    assert exposure(ranking).tolist() == [1, 0, 0]


def test_lists_without_a_place_filled_have_no_tail_share():
    ranking = Ranking(np.full((1, 3), NOT_AN_ITEM, dtype=np.int32), 3)
    assert np.isnan(tail_share(ranking, np.ones(3, dtype=bool))).all()
    assert math.isnan(coverage(exposure(ranking)))
    assert math.isnan(gini(exposure(ranking)))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_difference_over_twice_the_mean(counts):
    counts = np.array(counts)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(counts) == pytest.approx(differences / (2 * counts.mean()))
    assert coverage(counts) == (counts > 0).mean()


def test_gini_rises_as_exposure_gathers_on_fewer_items():
    values = [gini(np.array(counts)) for counts in ([5, 5, 5, 5], [2, 4, 6, 8], [0, 0, 0, 20])]
    assert values[0] == 0
    assert values[-1] == pytest.approx(0.75)
    assert all(low < high for low, high in pairwise(values))
