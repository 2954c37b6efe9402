import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.shop.histories import pooled_history
from client.training.examples import ShopperExamples, _stream
from tests.support.shops import interactions_of, make_interactions, make_settings

ITEMS = 30


@st.composite
def purchases(draw, most_shoppers=5):
    """Interactions of a few shoppers: one basket or many, repeats, shoppers without a row."""
    shoppers = draw(st.integers(1, most_shoppers))
    rows = []
    for shopper in range(shoppers):
        baskets = draw(
            st.lists(st.sets(st.integers(0, ITEMS - 1), min_size=1, max_size=6), max_size=6)
        )
        for number, basket in enumerate(baskets):
            rows += [(shopper, item, 10 * number, number) for item in basket]
    return interactions_of(rows, ITEMS, shoppers)


def examples_of(interactions, **changes):
    return ShopperExamples(interactions, make_settings(**changes))


def of_shopper(batch, shopper):
    """One shopper's history, weights, targets and values out of a batch."""
    history = batch.history_shopper == shopper
    target = batch.target_shopper == shopper
    return (
        batch.history_item[history].tolist(),
        batch.history_weight[history],
        batch.target_item[target].tolist(),
        batch.target_value[target].tolist(),
    )


def bought_by(interactions, shopper):
    """A shopper's items by basket number."""
    mine = interactions.where(interactions.shopper == shopper)
    return {
        number: set(mine.item[mine.basket == number].tolist())
        for number in np.unique(mine.basket).tolist()
    }


def cut_by_definition(interactions, settings, shopper, seed):
    """One shopper's example, as the module says it in words: history, weights, targets, values."""
    mine = interactions.where(interactions.shopper == shopper)
    stream = np.random.default_rng((seed, _stream(interactions.shopper_ids[shopper])))
    if len(set(mine.item.tolist())) < 2:
        return [], [], [], []
    baskets = sorted(set(mine.basket.tolist()))
    rank = np.array([baskets.index(one) for one in mine.basket.tolist()])
    cut = 1
    if len(baskets) > 1:
        cut = int(stream.integers(1, len(baskets)))
    else:
        before = stream.permutation(len(rank))[: max(1, len(rank) // 2)]
        rank = np.where(np.isin(np.arange(len(rank)), before), 0, 1)
    past, later = rank < cut, rank == cut
    if settings.target_baskets == "all":
        later = rank >= cut
    history, weight = pooled_history(
        mine.item[past], cut - 1 - rank[past], settings.history_decay, settings.max_history
    )
    known, new = set(mine.item[past].tolist()), []
    for row in np.flatnonzero(later):
        if mine.item[row] not in known:
            known.add(int(mine.item[row]))
            new.append(row)
    if len(new) > settings.max_targets:
        new = np.sort(stream.choice(np.array(new), settings.max_targets, replace=False))
    if not len(new):
        return [], [], [], []
    return history.tolist(), weight, mine.item[new].tolist(), mine.value[new].tolist()


# ---------------------------------------------------------------- properties
@given(purchases(), st.integers(0, 1000), st.sampled_from(["next", "all"]), st.integers(1, 4))
def test_a_batch_is_what_the_definition_says_of_each_shopper(interactions, seed, later, most):
    settings = make_settings(target_baskets=later, max_history=most + 1, max_targets=most)
    examples = ShopperExamples(interactions, settings)
    batch = examples.draw(np.arange(len(examples)), seed)
    for shopper in range(len(examples)):
        history, weight, target, value = cut_by_definition(interactions, settings, shopper, seed)
        found = of_shopper(batch, shopper)
        assert (found[0], *found[2:]) == (history, target, value)
        assert np.array_equal(found[1], np.asarray(weight, dtype=np.float32))


@given(
    purchases(),
    st.integers(0, 1000),
    st.sampled_from(["next", "all"]),
    st.floats(0.1, 1.0),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_an_example_is_a_bounded_past_and_a_first_time_future(  # noqa: PLR0917 - hypothesis gives them
    interactions, seed, target_baskets, decay, max_history, max_targets
):
    examples = examples_of(
        interactions,
        target_baskets=target_baskets,
        history_decay=decay,
        max_history=max_history,
        max_targets=max_targets,
    )
    batch = examples.draw(np.arange(len(examples)), seed)
    assert batch.shoppers == interactions.shopper_count
    assert (np.diff(batch.history_shopper) >= 0).all()
    assert (np.diff(batch.target_shopper) >= 0).all()
    for shopper in range(batch.shoppers):
        history, weight, target, _ = of_shopper(batch, shopper)
        baskets = bought_by(interactions, shopper)
        everything = set().union(*baskets.values()) if baskets else set()
        assert bool(history) == bool(target)
        assert len(history) <= max_history
        assert len(target) <= max_targets
        assert len(set(history)) == len(history)
        assert len(set(target)) == len(target)
        assert not set(history) & set(target)
        assert set(history) | set(target) <= everything
        if history:
            assert weight.sum() == pytest.approx(1, abs=1e-5)
            assert (weight > 0).all()
            assert (np.diff(weight) <= 1e-7).all()  # latest first
        if len(baskets) > 1 and target:
            check_order(baskets, history, target, target_baskets)


def check_order(baskets, history, target, target_baskets):
    """Some cut explains the example: no target was bought before it, no history item after it."""
    numbers = sorted(baskets)

    def explains(cut):
        before = set().union(*(baskets[one] for one in numbers[:cut]))
        later = numbers[cut : cut + 1] if target_baskets == "next" else numbers[cut:]
        after = set().union(*(baskets[one] for one in later))
        return set(history) <= before and set(target) <= after - before

    assert any(explains(cut) for cut in range(1, len(numbers)))


@given(purchases(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_a_shoppers_example_does_not_depend_on_who_else_is_drawn(interactions, seed, random):
    examples = examples_of(interactions)
    everybody = list(range(len(examples)))
    together = examples.draw(np.array(everybody), seed)
    random.shuffle(everybody)
    shuffled = examples.draw(np.array(everybody), seed)
    for place, shopper in enumerate(everybody):
        alone = of_shopper(examples.draw(np.array([shopper]), seed), 0)
        for batch, number in ((together, shopper), (shuffled, place)):
            found = of_shopper(batch, number)
            assert found[0] == alone[0]
            assert np.array_equal(found[1], alone[1])
            assert found[2:] == alone[2:]


@given(purchases(), purchases(), st.integers(0, 1000))
def test_a_shoppers_example_does_not_depend_on_others_purchases(first, second, seed):
    """The last shopper of one shop keeps its example when all others' rows are swapped."""
    last = first.shopper_count - 1
    mine = first.where(first.shopper == last)
    others = second.where(second.shopper < last)
    rows = [
        *zip(others.shopper, others.item, others.time, others.basket, strict=True),
        *zip(mine.shopper, mine.item, mine.time, mine.basket, strict=True),
    ]
    swapped = interactions_of(rows, ITEMS, first.shopper_count)
    before, after = (
        of_shopper(examples_of(one).draw(np.array([last]), seed), 0) for one in (first, swapped)
    )
    assert before[0] == after[0]
    assert before[2] == after[2]


@given(purchases(), st.integers(1, 8), st.integers(0, 20))
def test_no_history_is_longer_than_allowed_and_parts_are_whole(interactions, max_history, seed):
    examples = examples_of(interactions, max_history=max_history)
    everybody = np.arange(len(examples))
    batch = examples.draw(everybody, seed)
    counts = np.bincount(batch.history_shopper, minlength=batch.shoppers)
    assert (counts <= max_history).all()
    whole = batch.part(0, batch.shoppers)
    for name in ("history_item", "history_weight", "target_item", "target_value"):
        halves = [batch.part(0, 1), batch.part(1, batch.shoppers)] if len(examples) else [whole]
        assert np.array_equal(
            np.concatenate([getattr(one, name) for one in halves]), getattr(batch, name)
        )


# ------------------------------------------------------------------ by hand
def test_nobody_drawn_is_an_empty_batch():
    batch = examples_of(make_interactions(ITEMS, 5)).draw(np.empty(0, np.int64), 0)
    assert batch.shoppers == 0
    for array in (batch.history_item, batch.target_item):
        assert array.dtype == np.int64
        assert len(array) == 0
    for array in (batch.history_weight, batch.target_value):
        assert array.dtype == np.float32


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0, 3, 1, 0)],
        [(0, 3, 1, 0), (0, 3, 2, 1), (0, 3, 3, 2)],
    ],
    ids=["no row", "one row", "one item again and again"],
)
def test_a_shopper_with_fewer_than_two_items_has_no_example(rows):
    batch = examples_of(interactions_of(rows, ITEMS, 1)).draw(np.array([0]), 0)
    assert (len(batch.history_item), len(batch.target_item)) == (0, 0)
    assert batch.shoppers == 1


def test_one_basket_is_halved_at_random():
    examples = examples_of(interactions_of([(0, item, 1, 0) for item in range(7)], ITEMS, 1))
    seen = set()
    for seed in range(30):
        history, weight, target, _ = of_shopper(examples.draw(np.array([0]), seed), 0)
        assert (len(history), len(target)) == (3, 4)
        assert sorted(history + target) == list(range(7))
        assert weight == pytest.approx([1 / 3] * 3)
        seen.add(tuple(sorted(history)))
    assert len(seen) > 10


def test_every_cut_comes_up():
    rows = [(0, number, number, number) for number in range(5)]
    examples = examples_of(interactions_of(rows, ITEMS, 1))
    cuts = {len(of_shopper(examples.draw(np.array([0]), seed), 0)[0]) for seed in range(60)}
    assert cuts == {1, 2, 3, 4}


def test_next_takes_one_basket_and_all_takes_the_rest():
    rows = [(0, number, number, number) for number in range(5)]
    for seed in range(20):
        drawn = {
            kind: of_shopper(
                examples_of(interactions_of(rows, ITEMS, 1), target_baskets=kind).draw(
                    np.array([0]), seed
                ),
                0,
            )
            for kind in ("next", "all")
        }
        cut = len(drawn["all"][0])
        assert drawn["all"][2] == list(range(cut, 5))
        assert drawn["next"][2] == [cut]


def test_an_old_weight_decays_by_baskets_not_by_days():
    rows = [(0, 0, 1, 0), (0, 1, 1, 0), (0, 2, 900, 1), (0, 3, 901, 2), (0, 4, 902, 3)]
    examples = examples_of(interactions_of(rows, ITEMS, 1), history_decay=0.5)
    for seed in range(40):
        history, weight, *_ = of_shopper(examples.draw(np.array([0]), seed), 0)
        if len(history) == 4:  # cut before the last basket
            assert history == [3, 2, 1, 0]
            assert weight == pytest.approx(np.array([1, 0.5, 0.25, 0.25]) / 2)
            return
    pytest.fail("the cut before the last basket never came up")


def test_a_repeat_purchase_is_no_target_even_when_the_history_is_cut_short():
    """A target is bought for the first time: an old purchase counts though the history lost it."""
    rows = [(0, 9, 0, 0), *((0, number, number, number) for number in range(1, 5)), (0, 9, 9, 5)]
    examples = examples_of(interactions_of(rows, ITEMS, 1), max_history=1)
    targets = [of_shopper(examples.draw(np.array([0]), seed), 0)[2] for seed in range(40)]
    assert any(targets)
    assert not any(9 in target for target in targets)


def test_too_many_targets_are_drawn_from_at_random_in_order():
    rows = [(0, 0, 0, 0), *((0, item, 1, 1) for item in range(1, 20))]
    examples = examples_of(interactions_of(rows, ITEMS, 1), max_targets=3)
    drawn = [tuple(of_shopper(examples.draw(np.array([0]), seed), 0)[2]) for seed in range(20)]
    assert all(len(one) == 3 and list(one) == sorted(one) for one in drawn)
    assert len(set(drawn)) > 10


def test_a_target_keeps_its_own_rating():
    rows = [(0, 1, 0, 0), (0, 2, 1, 1), (0, 3, 2, 2)]
    examples = examples_of(interactions_of(rows, ITEMS, 1, values=[5.0, 2.0, 4.0]))
    ratings = {2: 2.0, 3: 4.0}
    for seed in range(10):
        _, _, target, value = of_shopper(examples.draw(np.array([0]), seed), 0)
        assert value == [ratings[item] for item in target]


def test_the_seed_decides_the_cut():
    examples = examples_of(make_interactions(ITEMS, 20))
    everybody = np.arange(20)
    first, again, other = (examples.draw(everybody, seed) for seed in (4, 4, 5))
    assert np.array_equal(first.history_item, again.history_item)
    assert not np.array_equal(first.target_item, other.target_item)


# ----------------------------------------------------------- pooled history
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
    st.integers(1, 12),
)
def test_a_pooled_history_is_the_latest_distinct_items(items, decay, max_history):
    age = np.arange(len(items))[::-1].astype(float)
    found, weight = pooled_history(np.array(items), age, decay, max_history)
    latest = list(dict.fromkeys(reversed(items)))[:max_history]
    assert found.tolist() == latest
    ages = [items[::-1].index(item) for item in latest]
    expected = np.power(decay, np.array(ages, float))
    assert weight == pytest.approx(expected / expected.sum())
