import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.shop.histories import MAX_HISTORY, histories, latest, typed_history
from tests.support.shops import interactions_of, make_interactions

ITEMS = 15


@st.composite
def shops(draw):
    rows = []
    shoppers = draw(st.integers(1, 5))
    for shopper in range(shoppers):
        baskets = draw(st.lists(st.sets(st.integers(0, ITEMS - 1), min_size=1), max_size=5))
        rows += [(shopper, i, n, n) for n, basket in enumerate(baskets) for i in basket]
    return interactions_of(rows, ITEMS, shoppers)


def expected_ages(interactions, shopper):
    """{item: baskets since its latest purchase}, from the rows one by one."""
    mine = interactions.where(interactions.shopper == shopper)
    numbers = sorted(set(mine.basket.tolist()))
    ages = {}
    for item, basket in zip(mine.item.tolist(), mine.basket.tolist(), strict=True):
        ages[item] = len(numbers) - 1 - numbers.index(basket)
    return ages


@given(shops(), st.data())
def test_a_history_is_each_items_latest_purchase_in_order(interactions, data):
    chosen = data.draw(st.permutations(range(interactions.shopper_count)))
    found = histories(interactions, np.array(chosen))
    assert len(found) == len(chosen)
    for place, shopper in enumerate(chosen):
        part = slice(found.starts[place], found.starts[place + 1])
        ages = dict(zip(found.item[part].tolist(), found.age[part].tolist(), strict=True))
        assert len(ages) == part.stop - part.start
        assert ages == expected_ages(interactions, shopper)
        assert (np.diff(found.age[part]) <= 0).all()


@given(shops(), st.floats(0.2, 1))
def test_weights_decay_by_basket_and_sum_to_one(interactions, decay):
    found = histories(interactions, np.arange(interactions.shopper_count))
    weights = found.weights(decay)
    assert weights.shape == (interactions.shopper_count, ITEMS)
    dense = weights.toarray()
    for shopper in range(interactions.shopper_count):
        ages = expected_ages(interactions, shopper)
        total = sum(decay**age for age in ages.values())
        expected = np.zeros(ITEMS)
        for item, age in ages.items():
            expected[item] = decay**age / total
        assert np.allclose(dense[shopper], expected, atol=1e-6)


@given(shops())
def test_what_was_bought_is_the_matrix(interactions):
    found = histories(interactions, np.arange(interactions.shopper_count))
    assert np.array_equal(found.bought().toarray(), interactions.matrix().toarray())


@given(shops(), st.integers(0, 6), st.integers(0, 6))
def test_a_slice_holds_the_same_histories(interactions, start, stop):
    found = histories(interactions, np.arange(interactions.shopper_count))
    start = min(start, len(found))
    part = found.take(slice(start, max(start, stop)))
    whole = found.weights(0.5).toarray()[start : max(start, stop)]
    assert np.allclose(part.weights(0.5).toarray(), whole)


def test_only_the_latest_items_of_a_long_history_count():
    rows = [(0, item, item, item) for item in range(MAX_HISTORY + 50)]
    found = histories(interactions_of(rows, MAX_HISTORY + 50, 1), np.array([0]))
    assert found.item.tolist() == list(range(50, MAX_HISTORY + 50))
    assert found.age.tolist() == list(range(MAX_HISTORY - 1, -1, -1))


def test_a_very_old_purchase_does_not_turn_weights_into_nothing():
    rows = [(0, 1, 0, 0), *((0, 2, number, number) for number in range(1, 3000))]
    weights = histories(interactions_of(rows, 5, 1), np.array([0])).weights(0.5).toarray()
    assert weights.sum() == pytest.approx(1)
    assert weights[0, 2] == pytest.approx(1)


def test_nobody_and_nothing():
    interactions = make_interactions(ITEMS, 3)
    assert len(histories(interactions, np.empty(0, np.int64))) == 0
    assert histories(interactions, np.empty(0, np.int64)).weights(0.5).shape == (0, ITEMS)
    empty = histories(interactions_of([], ITEMS, 2), np.arange(2))
    assert empty.weights(1.0).nnz == 0
    item, age = latest(np.empty(0, np.int64), np.empty(0, np.int64))
    assert (len(item), len(age)) == (0, 0)


def test_a_typed_history_is_one_item_a_basket_the_latest_last():
    found = typed_history([4, 2, 4, 9], ITEMS)
    assert len(found) == 1
    assert found.item.tolist() == [2, 4, 9]
    assert found.age.tolist() == [2, 1, 0]
