from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.shop.interactions import Interactions
from client.shop.splitting import (
    SplitRule,
    evaluation_cases,
    join,
    require_enough,
    split_interactions,
    usual_rule,
)
from common.errors import InputError

ITEMS = 7


def interactions_of(rows, *, shoppers=4, timed=True):
    """Interactions from (shopper, time, item) rows, sorted as the contract asks."""
    rows = sorted(set(rows))
    shopper, time, item = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(
        shopper_ids=tuple(f"s{number}" for number in range(shoppers)),
        item_count=ITEMS,
        shopper=shopper.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        basket=time.astype(np.int32),
        value=np.arange(len(rows), dtype=np.float32),
        timed=timed,
    )


def rows_of(interactions):
    return list(
        zip(
            interactions.shopper.tolist(),
            interactions.time.tolist(),
            interactions.item.tolist(),
            interactions.value.tolist(),
            strict=True,
        )
    )


any_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, ITEMS - 1)), min_size=1
)
any_rule = st.one_of(
    st.just(SplitRule("leave_last_out")),
    st.tuples(st.integers(-1, 11), st.integers(-1, 11)).map(
        lambda cuts: SplitRule("time", min(cuts), max(cuts))
    ),
)


@given(any_rows, any_rule)
def test_parts_hold_each_row_once_and_join_gives_back_the_whole(rows, rule):
    whole = interactions_of(rows)
    split = split_interactions(whole, rule)
    assert len(split.train) + len(split.valid) + len(split.test) == len(whole)
    again = join(join(split.train, split.test), split.valid)
    assert rows_of(again) == rows_of(whole)
    assert (again.basket == whole.basket).all()


@given(any_rows, st.integers(0, 9), st.integers(0, 9))
def test_time_cuts_every_shopper_at_the_same_moments(rows, one, other):
    low, high = sorted((one, other))
    split = split_interactions(interactions_of(rows), SplitRule("time", low, high))
    assert (split.train.time < low).all()
    assert ((low <= split.valid.time) & (split.valid.time < high)).all()
    assert (split.test.time >= high).all()


def naive_last_two(rows):
    """Each shopper's items by first purchase, the last two apart: an oracle in plain Python."""
    order = {}
    for shopper, _, item in sorted(set(rows)):
        items = order.setdefault(shopper, [])
        if item not in items:
            items.append(item)
    return {shopper: items for shopper, items in order.items() if len(items) >= 3}


@given(any_rows)
def test_leave_last_out_leaves_one_new_item_for_validation_and_one_for_test(rows):
    split = split_interactions(interactions_of(rows, timed=False), SplitRule("leave_last_out"))
    expected = naive_last_two(rows)
    for history, future, place in (
        (split.train, split.valid, -2),
        (join(split.train, split.valid), split.test, -1),
    ):
        cases = evaluation_cases(history, future)
        assert cases.shoppers.tolist() == sorted(expected)
        assert cases.relevant.indices.tolist() == [
            expected[shopper][place] for shopper in sorted(expected)
        ]


def test_leave_last_out_never_trains_on_a_purchase_made_after_the_test_item():
    whole = interactions_of([(0, 1, 4), (0, 2, 5), (0, 3, 6), (0, 4, 4)], timed=False)
    split = split_interactions(whole, SplitRule("leave_last_out"))
    assert split.train.item.tolist() == [4]
    assert split.valid.item.tolist() == [5]
    assert split.test.item.tolist() == [6, 4]  # the repeat of 4 came last


def test_leave_last_out_keeps_a_shopper_of_two_items_in_train():
    whole = interactions_of([(2, 1, 4), (2, 2, 5), (2, 3, 4)], timed=False)
    split = split_interactions(whole, SplitRule("leave_last_out"))
    assert len(split.train) == 3


@given(any_rows, any_rows)
def test_cases_hold_first_purchases_of_shoppers_with_a_history(past, later):
    history = interactions_of(past)
    future = interactions_of(later)
    cases = evaluation_cases(history, future)
    seen = {shopper: {item for who, _, item in past if who == shopper} for shopper, _, _ in past}
    expected = {}
    for shopper, _, item in later:
        if shopper in seen and item not in seen[shopper]:
            expected.setdefault(shopper, set()).add(item)
    assert cases.shoppers.tolist() == sorted(expected)
    assert cases.shoppers.dtype == np.int32
    for row, shopper in enumerate(cases.shoppers.tolist()):
        assert set(cases.seen[row].indices.tolist()) == seen[shopper]
        assert set(cases.relevant[row].indices.tolist()) == expected[shopper]
    assert cases.seen.shape == cases.relevant.shape == (len(cases), ITEMS)
    assert (cases.relevant.data == 1).all()


def test_a_rule_whose_validation_starts_after_test_is_refused():
    with pytest.raises(InputError, match="valid_from") as caught:
        SplitRule("time", 5, 4)
    assert caught.value.field == "valid_from"
    with pytest.raises(InputError, match="leave_last_out"):
        SplitRule("random")


@given(any_rows)
def test_the_usual_rule_starves_no_part_and_comes_near_its_shares(rows):
    whole = interactions_of(rows)
    rule = usual_rule(whole)
    times = np.unique(whole.time)
    if len(times) < 3:
        assert rule.kind == "leave_last_out"
        return
    split = split_interactions(whole, rule)
    assert min(len(split.train), len(split.valid), len(split.test)) > 0
    largest = max(int((whole.time == one).sum()) for one in times)
    ends = int((whole.time == times[0]).sum()), int((whole.time >= times[-2]).sum())
    off = abs(len(split.train) - 0.7 * len(whole))
    assert off <= largest or len(split.train) == ends[0] or len(whole) - len(split.train) == ends[1]


def test_one_old_purchase_does_not_move_the_usual_rule():
    rows = [(shopper, 1_000 + day, day % ITEMS) for shopper in range(4) for day in range(100)]
    expected = usual_rule(interactions_of(rows))
    assert (expected.valid_from, expected.test_from) == (1_070, 1_085)
    assert usual_rule(interactions_of([*rows, (0, 1, 1)])) == expected


def test_too_few_to_train_validate_or_test_is_refused_by_name():
    enough = [(shopper, day, day) for shopper in range(4) for day in range(6)]
    whole = interactions_of(enough)
    require_enough(split_interactions(whole, SplitRule("time", 2, 4)))
    for rule, part in (
        (SplitRule("time", 0, 4), "train"),
        (SplitRule("time", 3, 3), "validate"),
        (SplitRule("time", 3, 9), "test"),
    ):
        split = split_interactions(whole, rule)
        with pytest.raises(InputError, match=f"too few to {part}: 0") as caught:
            require_enough(split)
        assert caught.value.field == "split"
    require_enough(split_interactions(whole, SplitRule("time", 3, 9)), to_test=False)
    one_item = interactions_of([(shopper, day, 0) for shopper in range(4) for day in range(6)])
    with pytest.raises(InputError, match="too few to validate: 0"):
        require_enough(split_interactions(one_item, usual_rule(one_item)))


def test_time_split_needs_a_clock():
    with pytest.raises(InputError, match="no clock time"):
        split_interactions(interactions_of([(0, 1, 1)], timed=False), SplitRule("time", 1, 2))


def test_parts_of_different_data_do_not_mix():
    whole = interactions_of([(0, 1, 1)])
    for other in (
        replace(whole, shopper_ids=("a", "b", "c", "d")),
        replace(whole, item_count=ITEMS + 1),
        replace(whole, timed=False),
    ):
        with pytest.raises(InputError):
            join(whole, other)
    with pytest.raises(InputError):
        evaluation_cases(whole, interactions_of([(0, 1, 1)], shoppers=5))
