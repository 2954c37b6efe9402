from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from common.errors import InputError, SettingsError
from simulations.data.partition import (
    MIN_SHOPPERS,
    _dominant_categories,
    partition_merchants,
    zipf_sizes,
)


def make_data(seed, *, shoppers=60, items=40, sellers=5, brands=6, categories=4):
    """A random data set whose items may carry a brand and whose events may name a seller."""
    random = np.random.default_rng(seed)
    catalogue = Catalogue(
        tuple(
            Item(
                f"i{number:03d}",
                f"title {number}",
                f"text {number}",
                category=f"c{random.integers(categories)}" if categories else "",
                merchant=f"b{random.integers(brands)}" if brands else "",
            )
            for number in range(items)
        )
    )
    rows = [
        (shopper, basket * 100, item, basket)
        for shopper in range(shoppers)
        for basket in range(random.integers(3, 9))
        for item in random.choice(items, random.integers(1, 5), replace=False)
    ]
    shopper, time, item, basket = np.array(sorted(rows)).T
    interactions = Interactions(
        shopper_ids=tuple(f"s{number}" for number in range(shoppers)),
        item_count=items,
        shopper=shopper.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        basket=basket.astype(np.int32),
        value=random.random(len(item)).astype(np.float32),
        timed=True,
    )
    seller = random.integers(sellers, size=len(item)).astype(np.int32) if sellers else None
    names = tuple(f"seller {number}" for number in range(sellers)) if sellers else ()
    return MerchantData("all", catalogue, interactions, SplitRule("time", 300, 500), seller, names)


def rows_of(data):
    """Every row by names, so that parts with their own numbering can be compared."""
    rows = data.interactions
    return Counter(
        (rows.shopper_ids[s], data.catalogue.items[i], int(t), float(v))
        for s, i, t, v in zip(rows.shopper, rows.item, rows.time, rows.value, strict=True)
    )


def same(first, second):
    columns = ("shopper", "item", "time", "basket", "value")
    return (
        first.name == second.name
        and first.catalogue.items == second.catalogue.items
        and first.interactions.shopper_ids == second.interactions.shopper_ids
        and all(
            np.array_equal(getattr(first.interactions, one), getattr(second.interactions, one))
            for one in columns
        )
    )


def assert_well_formed(data):
    """What Interactions promises of its rows: sorted, and baskets numbered from 0 by time."""
    rows = data.interactions
    order = np.lexsort((rows.item, rows.time, rows.shopper))
    assert np.array_equal(order, np.arange(len(rows)))
    for shopper in range(rows.shopper_count):
        mine = rows.shopper == shopper
        times, baskets = np.unique(rows.time[mine], return_inverse=True)
        assert np.array_equal(rows.basket[mine], baskets), "one basket a time in this data"
        assert len(times), "no shopper without a row"
    assert rows.item_count == len(data.catalogue)


HOW = st.sampled_from(["random", "dirichlet", "column"])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    how=HOW,
    merchants=st.integers(1, 3),
    brands=st.sampled_from([0, 6]),
)
def test_a_partition_loses_and_invents_no_row(seed, how, merchants, brands):
    data = make_data(seed, brands=brands)
    parts = partition_merchants(data, how=how, merchants=merchants, seed=seed, alpha=5.0)
    assert len(parts) == merchants
    assert sum((rows_of(part) for part in parts), Counter()) == rows_of(data)
    for part in parts:
        assert_well_formed(part)
        assert part.interactions.shopper_count >= MIN_SHOPPERS
        assert part.split_rule == data.split_rule
        assert part.event_merchant is None


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000), how=st.sampled_from(["random", "dirichlet"]))
def test_shoppers_are_dealt_whole_and_keep_the_full_catalogue(seed, how):
    data = make_data(seed)
    parts = partition_merchants(data, how=how, merchants=3, seed=seed, alpha=5.0)
    names = [name for part in parts for name in part.interactions.shopper_ids]
    assert sorted(names) == sorted(data.interactions.shopper_ids)
    assert all(part.catalogue is data.catalogue for part in parts)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000), how=HOW)
def test_the_same_seed_gives_the_same_parts(seed, how):
    first, second = (
        partition_merchants(make_data(seed), how=how, merchants=3, seed=seed, alpha=5.0)
        for _ in range(2)
    )
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("how", ["random", "dirichlet"])
def test_another_seed_deals_otherwise(how):
    data = make_data(0)
    deals = {
        tuple(
            part.interactions.shopper_ids
            for part in partition_merchants(data, how=how, merchants=3, seed=seed, alpha=5.0)
        )
        for seed in range(5)
    }
    assert len(deals) == 5


def test_random_parts_are_equal_in_size():
    parts = partition_merchants(make_data(0, shoppers=62), how="random", merchants=4, seed=0)
    assert sorted(part.interactions.shopper_count for part in parts) == [15, 15, 16, 16]


def spread(data, alpha):
    """How far merchants' category mixes lie from the whole: mean total variation over 10 seeds."""
    categories = sorted({item.category for item in data.catalogue.items})
    of_item = np.array([categories.index(item.category) for item in data.catalogue.items])

    def mix(one):
        counts = np.bincount(of_item[one.interactions.item], minlength=len(categories))
        return counts / counts.sum()

    distances = [
        np.abs(mix(part) - mix(data)).sum() / 2
        for seed in range(10)
        for part in partition_merchants(data, how="dirichlet", merchants=4, seed=seed, alpha=alpha)
    ]
    return np.mean(distances)


def test_a_small_alpha_gives_merchants_unlike_each_other():
    data = make_data(1, shoppers=400)
    assert spread(data, 0.1) > 1.5 * spread(data, 100.0)


def test_the_dominant_category_has_most_rows_and_the_first_name_wins_a_tie():
    data = make_data(8)
    of_item = [item.category for item in data.catalogue.items]
    names = sorted(set(of_item))
    rows = data.interactions
    for shopper, dominant in enumerate(_dominant_categories(data)):
        counts = Counter(of_item[item] for item in rows.item[rows.shopper == shopper])
        assert names[dominant] == min(counts, key=lambda name: (-counts[name], name))


def test_dirichlet_takes_the_items_merchant_where_there_is_no_category():
    data = make_data(2, categories=0)
    parts = partition_merchants(data, how="dirichlet", merchants=2, seed=0, alpha=5.0)
    assert sum(part.interactions.shopper_count for part in parts) == 60


def test_a_shopper_without_rows_is_dealt_too():
    data = make_data(3)
    kept = data.interactions.shopper != 7
    data = replace(
        data,
        interactions=data.interactions.where(kept),
        event_merchant=data.event_merchant[kept],
    )
    parts = partition_merchants(data, how="dirichlet", merchants=2, seed=0, alpha=5.0)
    assert sum("s7" in part.interactions.shopper_ids for part in parts) == 1


def test_column_by_item_keeps_only_the_groups_items():
    data = make_data(4)
    parts = partition_merchants(data, how="column", merchants=3, seed=0)
    brands = [{item.merchant for item in part.catalogue.items} for part in parts]
    assert set.union(*brands) == {item.merchant for item in data.catalogue.items}
    assert sum(len(one) for one in brands) == len(set.union(*brands)), "no brand at two merchants"
    assert sum(len(part.catalogue) for part in parts) == len(data.catalogue)
    people = Counter(name for part in parts for name in part.interactions.shopper_ids)
    assert max(people.values()) > 1, "somebody who bought at two merchants is a shopper at each"


def test_column_by_event_keeps_the_full_catalogue_and_the_sellers_own_rows():
    data = make_data(5, brands=0)
    parts = partition_merchants(data, how="column", merchants=5, seed=0)
    assert {part.name for part in parts} == set(data.merchant_names)
    for part in parts:
        seller = data.merchant_names.index(part.name)
        mine = replace(
            data,
            interactions=data.interactions.where(data.event_merchant == seller),
            event_merchant=None,
        )
        assert rows_of(part) == rows_of(mine)
        assert part.catalogue is data.catalogue


def with_sellers(counts):
    """Data whose events name sellers with these shares of rows, in this order."""
    data = make_data(6, brands=0, shoppers=200)
    seller = np.repeat(np.arange(len(counts)), counts)
    seller = np.random.default_rng(0).permutation(np.resize(seller, len(data.interactions)))
    names = tuple(f"seller {number}" for number in range(len(counts)))
    return replace(data, event_merchant=seller.astype(np.int32), merchant_names=names)


def test_many_names_are_grouped_by_rows_and_named_readably():
    parts = partition_merchants(
        with_sellers([50, 30, 20, 12, 10, 8, 5]), how="column", merchants=4, seed=0
    )
    assert [part.name for part in parts] == [
        "seller 0",
        "seller 1",
        "seller 2 and seller 5",
        "seller 3 and 2 more",
    ]


def test_items_of_brands_nobody_bought_from_are_spread_and_not_lost():
    data = make_data(7)
    unsold = tuple(Item(f"x{n}", "t", f"t{n}", merchant=f"z{n}") for n in range(6))
    data = replace(
        data,
        catalogue=Catalogue(data.catalogue.items + unsold),
        interactions=replace(data.interactions, item_count=46),
    )
    parts = partition_merchants(data, how="column", merchants=3, seed=0)
    assert sum(len(part.catalogue) for part in parts) == 46
    held = [sum(item.item_id.startswith("x") for item in part.catalogue.items) for part in parts]
    assert max(held) < 6


def test_an_event_without_a_name_is_named_so():
    data = replace(with_sellers([60, 40]), merchant_names=("", "seller 1"))
    parts = partition_merchants(data, how="column", merchants=2, seed=0)
    assert [part.name for part in parts] == ["no name", "seller 1"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"merchants": 0}, "merchants"),
        ({"how": "alphabet"}, "how"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_bounds_are_refused(change, field):
    given_settings = {"how": "random", "merchants": 2, "seed": 0, **change}
    with pytest.raises(SettingsError) as caught:
        partition_merchants(make_data(0), **given_settings)
    assert caught.value.field == field


def test_too_few_shoppers_names_both_numbers():
    with pytest.raises(InputError, match=r"60 shoppers .* 7 merchants"):
        partition_merchants(make_data(0), how="random", merchants=7, seed=0)


def test_too_few_names_in_the_column_names_both_numbers():
    with pytest.raises(InputError, match=r"6 names .* 8 merchants"):
        partition_merchants(make_data(0), how="column", merchants=8, seed=0)


def test_a_merchant_with_too_few_shoppers_is_refused_by_name():
    with pytest.raises(InputError, match=r"'seller 1' would have \d shoppers"):
        partition_merchants(with_sellers([400, 1]), how="column", merchants=2, seed=0)


def test_dirichlet_that_cannot_succeed_says_how_near_it_came():
    data = make_data(0, categories=1)
    with pytest.raises(InputError, match=r"alpha 0\.01 over 1 categories .* at most 0 shoppers"):
        partition_merchants(data, how="dirichlet", merchants=6, seed=0, alpha=0.01)


@pytest.mark.parametrize("how", ["column", "dirichlet"])
def test_nothing_to_divide_by_is_said(how):
    data = make_data(0, brands=0, sellers=0, categories=0)
    with pytest.raises(InputError, match="use random"):
        partition_merchants(data, how=how, merchants=2, seed=0)


# ------------------------------------------------------------------ kinds and sizes
@settings(deadline=None, max_examples=6)
@given(
    seed=st.integers(0, 10_000),
    merchants=st.integers(4, 6),
    sizes=st.sampled_from(["equal", "zipf"]),
)
def test_a_merchant_of_a_kind_has_its_goods_and_a_part_of_its_buyers(seed, merchants, sizes):
    data = make_data(seed, shoppers=150)
    kinds = np.random.default_rng(seed).permutation(np.arange(40) % 4)
    parts = partition_merchants(
        data, how="kinds", merchants=merchants, seed=seed, sizes=sizes, kinds=kinds
    )
    assert len(parts) == merchants
    assert sum((rows_of(part) for part in parts), Counter()) == rows_of(data)
    kind_of = {item.item_id: kind for item, kind in zip(data.catalogue.items, kinds, strict=True)}
    shops_of = {}
    for part in parts:
        assert_well_formed(part)
        [kind] = {kind_of[item.item_id] for item in part.catalogue.items}
        assert len(part.catalogue) == (kinds == kind).sum()
        for name in part.interactions.shopper_ids:
            shops_of.setdefault((name, kind), []).append(part.name)
    assert all(len(shops) == 1 for shops in shops_of.values())
    people = Counter(name for name, _ in shops_of)
    assert max(people.values()) > 1, "who buys of two kinds is a shopper at two merchants"


def test_what_somebody_buys_of_two_kinds_need_not_be_at_shops_of_one_number():
    data = make_data(1, shoppers=200)
    kinds = np.arange(40) % 2
    parts = partition_merchants(data, how="kinds", merchants=8, seed=0, kinds=kinds)
    numbers = {}
    for part in parts:
        for name in part.interactions.shopper_ids:
            numbers.setdefault(name, set()).add(part.name.rpartition(" ")[2])
    assert any(len(one) > 1 for one in numbers.values())


@given(merchants=st.integers(1, 60), more=st.integers(0, 4000))
def test_zipf_sizes_fall_add_up_and_leave_nobody_too_small(merchants, more):
    shoppers = merchants * MIN_SHOPPERS + more
    sizes = zipf_sizes(shoppers, merchants)
    assert sizes.sum() == shoppers
    assert sizes.min() >= MIN_SHOPPERS
    assert np.all(np.diff(sizes) <= 0)
    if more > 100 * merchants > 100:  # rounding is small then
        above = sizes - MIN_SHOPPERS
        assert above[0] / above[1] == pytest.approx(2, rel=0.05)


def test_zipf_shops_are_dealt_whole_shoppers():
    parts = partition_merchants(
        make_data(0, shoppers=300), how="random", merchants=4, seed=0, sizes="zipf"
    )
    held = [part.interactions.shopper_count for part in parts]
    assert held == zipf_sizes(300, 4).tolist()
    assert len({name for part in parts for name in part.interactions.shopper_ids}) == 300


@pytest.mark.parametrize("how", ["column", "dirichlet"])
def test_sizes_are_asked_only_where_they_can_be_chosen(how):
    with pytest.raises(SettingsError) as caught:
        partition_merchants(make_data(0), how=how, merchants=2, seed=0, sizes="zipf")
    assert caught.value.field == "sizes"


@pytest.mark.parametrize(
    ("merchants", "kinds", "told"),
    [
        (2, np.arange(40) % 3, "2 merchants cannot have 3 kinds"),
        (40, np.arange(40) % 2, r"Kind 1 has \d+ shoppers for 20 merchants"),
        (2, None, "needs a kind"),
        (2, np.arange(39) % 2, "needs a kind"),
    ],
)
def test_kinds_that_cannot_be_divided_say_why(merchants, kinds, told):
    with pytest.raises(InputError, match=told):
        partition_merchants(make_data(0), how="kinds", merchants=merchants, seed=0, kinds=kinds)
