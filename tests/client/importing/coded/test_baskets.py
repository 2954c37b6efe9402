"""Sorting whole numbers finds what grouping texts finds: the same rows, in the same order."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing.coded import baskets
from client.importing.coded.ids import new_spellings, packed

IDS = ("shopper_id", "item_id", "order_id")
EVENT = st.tuples(
    st.sampled_from(["ann", "bob", "Zoë", "a", "ann "]),
    st.sampled_from(["x", "y", "10", "9"]),
    st.one_of(st.integers(0, 4), st.integers(-(10**15), 10**15)),
    st.sampled_from(["o1", "o2", "o10", "", None]),
    st.sampled_from([1.0, 2.5, 0.0, -0.0, None]),
)
SCHEMA = {
    "shopper_id": pl.String, "item_id": pl.String, "time": pl.Int64, "order_id": pl.String,
    "value": pl.Float64,
}  # fmt: skip
ROWS = st.lists(EVENT, max_size=25).map(lambda rows: pl.DataFrame(rows, SCHEMA, orient="row"))
COLUMNS = st.sampled_from([IDS, IDS[:2]])


def coded(frame):
    """The same rows with numbers for ids."""
    types = new_spellings(IDS)
    return frame.with_columns(frame[name].cast(types[name]) for name in IDS if name in frame)


def plain(frame):
    """The same rows with text for ids."""
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def numbered_by_grouping(frame):
    """The definition, as Polars groups: a key for each basket, and their ranks by time and key."""
    order = pl.col("order_id") if "order_id" in frame.columns else pl.lit(None, dtype=pl.String)
    key = pl.coalesce("o" + order, "t" + pl.col("time").cast(pl.String))
    frame = frame.with_columns(key.alias("key"))
    frame = frame.with_columns(pl.col("time").min().over("shopper_id", "key"))
    found = frame.select("shopper_id", "time", "key").unique().sort("shopper_id", "time", "key")
    found = found.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).over("shopper_id").alias("basket")
    )
    keys = ["shopper_id", "key"]
    return frame.join(found.drop("time"), on=keys, how="left", maintain_order="left").drop("key")


@settings(deadline=None, max_examples=40)
@given(ROWS, COLUMNS)
def test_baskets_are_those_of_grouping(frame, ids):
    frame = frame.select(*ids, "time", "value")
    expected = numbered_by_grouping(frame)
    assert baskets.number_baskets(frame).equals(expected)
    assert plain(baskets.number_baskets(coded(frame))).equals(expected)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_merged_rows_are_those_of_grouping(frame):
    frame = numbered_by_grouping(frame)
    one = frame.unique(["shopper_id", "basket", "item_id"], keep="last", maintain_order=True)
    expected = one.sort("shopper_id", "time", "item_id", "basket")
    assert baskets.merge_basket_rows(frame).equals(expected)
    assert plain(baskets.merge_basket_rows(coded(frame))).equals(expected)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_of_equal_rows_the_first_stays(frame):
    expected = frame.unique(keep="first", maintain_order=True)
    for way in (frame, coded(frame)):
        found = plain(baskets.drop_exact_duplicates(way))
        assert found.equals(expected)
        assert str(found["value"].to_list()) == str(expected["value"].to_list())  # which zero


def test_packed_orders_are_baskets_as_their_texts_are():
    rows = [("ann", "x", 5, f"o{number}", None) for number in (10, 9, 1, 10, 2)]
    frame = pl.DataFrame(rows, SCHEMA, orient="row")
    by_number = frame.with_columns(packed(frame["order_id"], "o").alias("order_id"))
    expected = numbered_by_grouping(frame)["basket"].to_list()
    assert baskets.number_baskets(by_number)["basket"].to_list() == expected == [1, 3, 0, 1, 2]


def test_ranks_too_large_for_one_number_are_sorted_one_by_one(monkeypatch):
    frame = pl.DataFrame(
        [("b", "x", 2, "o"), ("a", "y", 1, None), ("a", "x", 1, "p"), ("a", "x", 0, "p")],
        {name: SCHEMA[name] for name in ("shopper_id", "item_id", "time", "order_id")},
        orient="row",
    )
    expected = baskets.merge_basket_rows(baskets.number_baskets(frame))
    monkeypatch.setattr(baskets, "_MOST", 1)
    assert baskets.merge_basket_rows(baskets.number_baskets(frame)).equals(expected)


@pytest.mark.parametrize("way", [lambda frame: frame, coded], ids=["text", "coded"])
def test_no_rows_have_no_baskets(way):
    empty = way(pl.DataFrame(schema=SCHEMA))
    assert baskets.merge_basket_rows(baskets.number_baskets(empty)).is_empty()
    assert baskets.drop_exact_duplicates(empty).is_empty()
