import numpy as np
import pytest

from client.ranking.purchase_probability import fit_chances, pairs_of
from client.ranking.validation import validation_of
from client.shop.splitting import evaluation_cases
from tests.support.shops import DAY, make_interactions

ITEMS, SHOPPERS = 25, 20


@pytest.fixture(scope="module")
def period():
    interactions = make_interactions(ITEMS, SHOPPERS)
    before = interactions.where(interactions.time < 180 * DAY)
    cases = evaluation_cases(before, interactions.where(interactions.time >= 180 * DAY))
    assert len(cases) > 8
    return before, cases


def score_of(history):
    """A score that names its shopper's first item and the item."""
    first = history.item[history.starts[:-1]]
    return (100 * first[:, None] + np.arange(ITEMS)).astype(np.float32)


TAIL = np.arange(ITEMS) % 3 == 0


def test_pairs_are_every_case_with_every_item_it_has_not_seen(period):
    before, cases = period
    pairs = pairs_of(score_of, before, cases, TAIL)
    scores = score_of(validation_of(before, cases).history)
    expected = [
        (scores[case, item], bool(cases.relevant[case, item]), bool(TAIL[item]))
        for case in range(len(cases))
        for item in range(ITEMS)
        if not cases.seen[case, item]
    ]
    found = list(zip(pairs.score, pairs.clicked.tolist(), pairs.tail.tolist(), strict=True))
    assert found == expected
    assert pairs.clicked.sum() == cases.relevant.nnz


def test_of_many_cases_evenly_spaced_ones_are_taken(period):
    before, cases = period
    few = pairs_of(score_of, before, cases, TAIL, max_pairs=3 * ITEMS)
    firsts = np.unique(few.score // 100)
    assert len(firsts) <= 3
    assert len(few.score) <= 3 * ITEMS
    at_least_one = pairs_of(score_of, before, cases, TAIL, max_pairs=1)
    assert 0 < len(at_least_one.score) <= ITEMS


def test_head_and_tail_have_a_curve_each(period):
    before, cases = period
    pairs = pairs_of(score_of, before, cases, TAIL)
    chances = fit_chances(pairs)
    score = np.linspace(-9, 9999, 8)
    both = chances.of(score, np.array([True, False] * 4))
    assert np.array_equal(both[::2], chances.tail(score[::2]))
    assert np.array_equal(both[1::2], chances.head(score[1::2]))
    assert fit_chances(pairs_of(score_of, before, cases, np.zeros(ITEMS, bool))) is None
