import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.feedback.online import Rate, Where, measure_online
from client.serving.feedback.store import NewEvent, Store
from tests.support.stores import list_row


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_an_interval_holds_its_rate_and_stays_within_0_and_1(trials, share):
    count = round(share * trials)
    found = Rate.of(count, trials)
    assert 0 <= found.low <= found.rate + 1e-12
    assert found.rate - 1e-12 <= found.high <= 1
    # Wilson's interval solves (rate - p)² = z² p (1 - p) / trials at both ends.
    for end in (found.low, found.high):
        if 0 < end < 1:
            squared = 1.959963984540054**2 * end * (1 - end) / trials
            assert (found.rate - end) ** 2 == pytest.approx(squared, rel=1e-6, abs=1e-12)


def test_no_trial_has_no_rate():
    assert Rate.of(0, 0) == Rate(0, None, None, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two lists of two arms, and what came of them."""
    found = Store(f"sqlite:///{tmp_path_factory.mktemp('online') / 'events.db'}")
    one, other = "a" * 32, "b" * 32
    found.lists.add(list_row(one, variant="own"))
    found.lists.add(list_row(other))
    told = [
        ("impression", 10, "item-0", one),
        ("impression", 10, "item-0", one),  # twice seen is once
        ("impression", 10, "item-1", one),
        ("click", 11, "item-1", one),
        ("click", 12, "item-1", one),
        ("purchase", 13, "item-1", one),
        ("dismiss", 13, "item-2", one),
        ("click", 20, "item-3", other),
        ("purchase", 21, "item-3", other),
        ("refund", 22, "item-3", other),
        ("click", 20, "item-3", None),
    ]
    found.add_events(
        [
            NewEvent(str(number), kind, time, item, None, name, "order")
            for number, (kind, time, item, name) in enumerate(told)
        ]
    )
    yield found
    found.close()


@pytest.mark.parametrize(
    ("where", "counts"),
    [
        ({}, (4, 2, 1)),
        ({"variant": "own"}, (3, 1, 1)),
        ({"variant": "release"}, (1, 1, 0)),
        ({"bucket": "tail"}, (2, 2, 1)),
        ({"surface": "basket"}, (0, 0, 0)),
        ({"since": 20}, (1, 1, 0)),
        ({"until": 11}, (2, 0, 0)),
        ({"since": 11, "until": 12}, (1, 1, 0)),
    ],
)
def test_one_item_of_one_list_is_one_trial_and_a_refund_is_no_purchase(store, where, counts):
    found = measure_online(store.engine, Where(**where))
    assert (found.impressions, found.clicks.count, found.conversions.count) == counts
