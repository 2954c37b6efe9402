"""Few of many scores, to the bit as by sorting all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from common.catalogue import popularity_buckets
from common.evaluation import selection
from common.evaluation.metrics import rank_with_auc
from common.evaluation.scorecard import evaluate_scores
from common.evaluation.selection import NOT_AN_ITEM, best_items, standing


@st.composite
def score_rows(draw):
    """Rows of few distinct scores, both zeros among them, some not to be ranked."""
    rows, items = draw(st.integers(1, 5)), draw(st.integers(1, 400))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 7, 10**6]))
    scores = (random.integers(-levels, levels + 1, (rows, items)) / 3).astype(np.float32)
    scores[random.random((rows, items)) < 0.1] = -0.0
    scores[random.random((rows, items)) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -np.inf
    return scores


def by_sorting(scores, k):
    """Each row's finite scores, sorted by score and then item."""
    lists = np.full((len(scores), k), NOT_AN_ITEM, np.int32)
    for row, own in enumerate(scores):
        order = np.lexsort((np.arange(len(own)), -own))
        best = order[np.isfinite(own[order])][:k]
        lists[row, : len(best)] = best
    return lists


@given(score_rows(), st.integers(1, 60), st.sampled_from([1, 100, 1 << 18]))
def test_best_items_are_the_first_of_all_sorted(scores, k, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_BLOCK", block)
        found = best_items(scores, k)
    assert found.dtype == np.int32
    assert (found == by_sorting(scores, k)).all()


@pytest.mark.parametrize("items", [11, 12_000])
def test_all_scores_equal_gives_the_first_items(items):
    scores = np.zeros((3, items), np.float32)
    scores[1, :5] = -np.inf
    assert best_items(scores, 4).tolist() == [[0, 1, 2, 3], [5, 6, 7, 8], [0, 1, 2, 3]]


def test_a_better_item_displaces_the_last_of_many_equal_ones():
    scores = np.zeros((1, 5000), np.float32)
    scores[0, 4999] = 1
    assert best_items(scores, 3).tolist() == [[4999, 0, 1]]


def test_a_row_of_few_items_beside_one_of_many_equal_ones_ends_early():
    scores = np.zeros((2, 5000), np.float32)
    scores[1] = -np.inf
    scores[1, [70, 9]] = 1, 2
    assert best_items(scores, 3).tolist() == [[0, 1, 2], [9, 70, NOT_AN_ITEM]]


@given(score_rows(), st.integers(0, 2**32 - 1), st.sampled_from([0, 2, 100]))
def test_counting_and_sorting_place_an_item_alike(scores, seed, few):
    random = np.random.default_rng(seed)
    row, item = np.nonzero(np.isfinite(scores) & (random.random(scores.shape) < 0.3))
    bucket = random.random(scores.shape[1]) < 0.6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_FEW", few)
        everywhere, within = standing(scores, row, item, bucket)
        alone, _ = standing(scores, row, item)
    for place, (one, own) in enumerate(zip(row, item, strict=True)):
        others, score = scores[one], scores[one, own]
        assert everywhere[place] == alone[place] == (others >= score).sum() + (others > score).sum()
        others = others[bucket]
        expected = (others >= score).sum() + (others > score).sum() if bucket[own] else 0
        assert within[place] == expected


def auc_by_keys(scores, seen, relevant, kept):
    """The AUC as it was before: each case's sorted keys, and one search for all relevant items."""
    scores, seen, relevant = scores[:, kept], seen[:, kept], relevant[:, kept]
    numbers = scores + np.float32(0)
    bits = numbers.view(np.uint32)
    keys = np.where(bits >> 31 == 1, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys[seen.nonzero()] = np.uint32(0xFFFFFFFF)
    cases, items = keys.shape
    rows = np.repeat(np.arange(cases), np.diff(relevant.indptr))
    row_key = np.arange(cases, dtype=np.uint64) << np.uint64(32)
    everything = (row_key[:, None] | np.sort(keys, axis=1)).ravel()
    wanted = row_key[rows] | keys[rows, relevant.indices]
    at_or_above = np.searchsorted(everything, wanted, side="right") - rows * items
    above = np.searchsorted(everything, wanted, side="left") - rows * items
    positives = np.diff(relevant.indptr).astype(np.int64)
    unseen = items - np.diff(seen.indptr).astype(np.int64)
    beaten = unseen[rows] - at_or_above + (at_or_above - above - 1) / 2
    wins = np.bincount(rows, weights=beaten, minlength=cases) - positives * (positives - 1) / 2
    pairs = positives * (unseen - positives)
    return np.divide(wins, pairs, out=np.full(cases, np.nan), where=pairs != 0)


@given(score_rows(), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_lists_and_areas_are_those_of_sorting_to_the_bit(scores, seed, k):
    random = np.random.default_rng(seed)
    scores[np.isinf(scores)] = 0.5
    state = random.choice(3, size=scores.shape, p=[0.6, 0.2, 0.2])
    seen, relevant = csr_matrix(state == 1), csr_matrix(state == 2)
    tail = random.random(scores.shape[1]) < 0.7
    ranking, auc, of_tail = rank_with_auc(scores.__getitem__, seen, relevant, k, tail)
    masked = np.where(state == 1, np.float32(-np.inf), scores)
    assert ranking.items.tobytes() == by_sorting(masked, k).tobytes()
    kept = np.arange(scores.shape[1])
    assert auc.tobytes() == auc_by_keys(scores, seen, relevant, kept).tobytes()
    kept = np.flatnonzero(tail)
    if len(kept):
        assert of_tail.tobytes() == auc_by_keys(scores, seen, relevant, kept).tobytes()


def test_a_scorecard_of_no_case_is_empty():
    none = csr_matrix((0, 5))
    buckets = popularity_buckets(np.array([5, 4, 3, 2, 1]))
    card = evaluate_scores(lambda rows: np.zeros((0, 5), np.float32), none, none, buckets)
    assert all(len(values) == 0 for values in card.per_shopper.values())
