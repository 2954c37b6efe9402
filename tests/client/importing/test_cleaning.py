import html
import math
import re
import statistics
import unicodedata
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing import cleaning, labels_and_reviews
from client.importing.coded import baskets
from client.importing.quality_report import Tally
from common.errors import InputError

PIECES = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        ["&amp;", "&amp;amp;", "&lt;b&gt;", "&#8217;", "&#x1;", "&hellip\u037e", "&notin;", "&shy;",
         "<br/>", "<B>", "</p>", "<a <b> c>", "<3", "a<b", "<", ">", "&", "e\u0301", "\u200b",
         "\x00", "\x85", "\t", "\r\n", "\u3000", " ", "绿茶", "ﬁ", "👩\u200d🌾"]
    ),
)  # fmt: skip
MESSY = st.lists(PIECES, max_size=12).map("".join)
TAG = re.compile(r"(?i)</?(b|br|p|a)(\s[^<>]*|/)?>")


def _clean(text, bound=60):
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    tally = Tally("items", 1)
    return labels_and_reviews.clean_text(frame, ["text"], bound, tally)["text"][0], tally


@settings(max_examples=400, deadline=None)
@given(MESSY)
def test_clean_text_holds_what_it_promises(text):
    clean, _ = _clean(text)
    if clean is None:
        return
    assert clean
    assert len(clean) <= 60
    assert clean == unicodedata.normalize("NFC", clean)
    assert clean == " ".join(clean.split())
    assert not any(unicodedata.category(one) == "Cc" for one in clean)
    assert not set(clean) & set("\u00ad\u200b\u200e\u200f\u2060\ufeff")
    assert html.unescape(clean) == clean
    assert not TAG.search(clean)


@settings(max_examples=200, deadline=None)
@given(MESSY)
def test_cleaning_clean_text_changes_nothing_and_counts_nothing(text):
    once, _ = _clean(text)
    twice, tally = _clean(once)
    assert twice == once
    assert not any(tally.changed.values())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Fish &amp; chips", "Fish & chips"),
        ("Fish &amp;amp; chips", "Fish & chips"),
        ("e\u0301clair", "éclair"),
        ("one<br>two", "one two"),
        ("for ages <3 years", "for ages <3 years"),
        ("Card <Digital Code>", "Card <Digital Code>"),
        ("a\x0bb\u200bc", "a bc"),
        ("  绿茶\u3000龙井 ", "绿茶 龙井"),
        ("👩\u200d🌾", "👩\u200d🌾"),
        (" \t ", None),
        (None, None),
    ],
)
def test_text_by_example(text, clean):
    assert _clean(text)[0] == clean


def test_each_text_rule_counts_its_own_rows():
    frame = pl.DataFrame(
        {"text": ["a&amp;b", "x<br>y", " z ", "e\u0301", "a\x01", "k" * 70, "plain"]}
    )
    tally = Tally("items", frame.height)
    labels_and_reviews.clean_text(frame, ["text"], 60, tally)
    assert tally.changed == {
        "unicode": 1,
        "control_characters": 1,
        "html_entities": 1,
        "html_tags": 1,
        "white_space": 2,  # the control character became a space at the end
        "text_length": 1,
    }


# ------------------------------------------------------------------------------ ids and rows


def test_ids_are_stripped_of_what_shows_nothing():
    frame = pl.DataFrame({"a": [" 17.0", "18.0\t", None, ""], "b": ["1.0", "x2", " ", "\x01"]})
    tidy = cleaning.tidy_ids(frame, ["a", "b"])
    assert tidy["a"].to_list() == ["17.0", "18.0", None, None]
    assert tidy["b"].to_list() == ["1.0", "x2", None, None]


def test_blank_rows_missing_ids_and_non_products_go():
    frame = pl.DataFrame({"item_id": [None, "10001", None, "POST"], "x": [None, "1", "2", "3"]})
    frame = cleaning.drop_blank_rows(frame, ["item_id", "x"])
    assert frame["x"].to_list() == ["1", "2", "3"]
    frame = cleaning.drop_missing_ids(frame, ["item_id"])
    assert frame["x"].to_list() == ["1", "3"]
    assert cleaning.drop_non_products(frame, r"^\d{5}")["x"].to_list() == ["1"]


@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from("xyz"), st.sampled_from("pq")), min_size=1
    )
)
def test_of_one_items_rows_the_commonest_title_stays_and_their_order_says_nothing(rows):
    def merged(some):
        frame = pl.DataFrame(
            [(item, title, text, "c", "m") for item, title, text in some],
            schema=["item_id", "title", "text", "category", "merchant"],
            orient="row",
        )
        return cleaning.merge_same_item(cleaning.weigh_repeated_rows(frame))

    result = merged(rows)
    assert result.equals(merged(rows[::-1]))
    assert result["item_id"].to_list() == sorted({item for item, _, _ in rows})
    for item, title, text, *_ in result.iter_rows():
        titles = Counter(t for i, t, _ in rows if i == item)
        assert title == min(titles, key=lambda one: (-titles[one], one))
        texts = Counter(x for i, t, x in rows if (i, t) == (item, title))
        assert text == min(texts, key=lambda one: (-texts[one], one))


def test_an_item_without_a_title_takes_the_start_of_its_text():
    frame = pl.DataFrame({"title": [None, "t"], "text": ["x" * 79 + " yz", "text"]})
    assert cleaning.title_from_text(frame)["title"].to_list() == ["x" * 79, "t"]


# ------------------------------------------------------------------------------------- events


def test_cancelled_not_positive_and_unreadable_events_go():
    frame = pl.DataFrame(
        {"cancelled": [True, False, False, False], "quantity": [1.0, 0.0, None, 0.5]},
    )
    assert cleaning.drop_cancelled(frame).height == 3
    assert cleaning.drop_not_positive(frame, "quantity")["quantity"].to_list() == [1.0, 0.5]
    assert cleaning.drop_unreadable(frame, "quantity").height == 3


def test_times_before_1995_and_after_now_go():
    first = cleaning.EARLIEST_TIME
    frame = pl.DataFrame({"time": [first - 1, first, 10**15, 10**15 + 1]})
    kept = cleaning.drop_impossible_times(frame, 10**15)
    assert kept["time"].to_list() == [first, 10**15]


@given(st.lists(st.floats(0.01, 1e6), min_size=1))
def test_the_quantity_bound_is_the_modified_z_score_on_logarithms(quantities):
    logs = [math.log(one) for one in quantities]
    middle = statistics.median(logs)
    distance = [abs(one - middle) for one in logs]
    spread = 1.4826 * statistics.median(distance) or 1.2533 * statistics.fmean(distance)
    expected = math.exp(middle + max(3.5 * spread, math.log(10)))
    bound = cleaning.quantity_bound(pl.Series(quantities))
    assert bound == pytest.approx(expected, rel=1e-9)
    assert bound >= 10 * (1 - 1e-9) * math.exp(middle)


def test_an_outlying_quantity_is_capped_or_dropped_and_usual_ones_stay():
    frame = pl.DataFrame({"quantity": [1.0, 1.0, 2.0, 3.0, 2.0, 80_995.0]})
    bound = cleaning.quantity_bound(frame["quantity"])
    assert 10 < bound < 80_995
    assert cleaning.cap_outlier_quantities(frame)["quantity"].to_list()[-2:] == [2.0, bound]
    assert cleaning.drop_outlier_quantities(frame)["quantity"].to_list() == [1, 1, 2, 3, 2]
    assert cleaning.cap_outlier_quantities(frame.clear()).is_empty()


EVENT = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.sampled_from("xyz"),
    st.integers(0, 5),
    st.sampled_from(["o1", "o2", None]),
)


def _events(rows):
    schema = {
        "shopper_id": pl.String, "item_id": pl.String, "time": pl.Int64, "order_id": pl.String
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=20))
def test_baskets_are_numbered_from_zero_in_order_of_time(rows):
    numbered = baskets.number_baskets(_events(rows))
    assert numbered.height == len(rows)
    found = {}
    for (shopper, _, time, order), (_, _, first, _, basket) in zip(
        rows, numbered.iter_rows(), strict=True
    ):
        key = (order,) if order is not None else ("at", time)
        found.setdefault(shopper, {}).setdefault((basket, first), set()).add((key, time))
    for mine in found.values():
        assert sorted(number for number, _ in mine) == list(range(len(mine)))
        ordered = [first for _, first in sorted(mine)]
        assert ordered == sorted(ordered)
        for (_, first), members in mine.items():
            assert len({key for key, _ in members}) == 1
            assert first == min(time for _, time in members)


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=20))
def test_merging_leaves_one_sorted_row_per_shopper_basket_and_item(rows):
    numbered = baskets.number_baskets(_events(rows))
    merged = baskets.merge_basket_rows(numbered)
    keys = list(merged.select("shopper_id", "basket", "item_id").iter_rows())
    assert len(keys) == len(set(keys))
    assert set(keys) == set(numbered.select("shopper_id", "basket", "item_id").iter_rows())
    order = list(merged.select("shopper_id", "time", "item_id").iter_rows())
    assert order == sorted(order)


def test_of_one_items_rows_in_a_basket_the_last_ones_value_stays():
    frame = pl.DataFrame(
        {"shopper_id": ["a"] * 3, "basket": [0] * 3, "item_id": ["x", "y", "x"],
         "time": [1] * 3, "value": [5.0, 4.0, 2.0]}
    )  # fmt: skip
    assert baskets.merge_basket_rows(frame)["value"].to_list() == [2.0, 4.0]


def test_events_of_items_outside_the_catalogue_go():
    frame = pl.DataFrame({"item_id": ["a", "b", "c"]})
    assert cleaning.drop_unknown_items(frame, pl.Series(["c", "a"])).height == 2


# --------------------------------------------------------------------------- labels and reviews


def test_the_last_label_of_a_key_wins_over_the_data():
    labels = pl.DataFrame(
        {"item_id": ["a", "a", "z", None, " b "], "category": ["old", "new", "?", "?", None]}
    )
    tally = Tally("labels", labels.height)
    clean = labels_and_reviews.clean_labels(labels, pl.Series(["a", "b"]), tally)
    assert tally.finish(clean.height).dropped == {"missing_ids": 1, "unknown_items": 1}
    items = pl.DataFrame({"item_id": ["a", "b"], "category": ["tea", "cup"]})
    assert labels_and_reviews.label_items(items, clean)["category"].to_list() == ["new", "cup"]


def test_values_are_labelled_per_shopper_and_fall_back_to_the_data():
    labels = pl.DataFrame({"item_id": ["a"], "shopper_id": ["ann"], "value": [0.0]})
    rated = pl.DataFrame({"shopper_id": ["ann", "bob"], "item_id": ["a", "a"], "value": [5.0, 4.0]})
    assert labels_and_reviews.label_events(rated, labels)["value"].to_list() == [0.0, 4.0]


def test_reviews_are_cut_chosen_by_length_and_joined_whatever_their_order():
    from client.importing.mapping import ReviewsTable

    rules = ReviewsTable(
        file=("r",), item_id="i", text="t", reviews_are_public=True, per_item=2, max_length=20
    )
    reviews = pl.DataFrame(
        {
            "item_id": ["a"] * 5 + ["zz"],
            "text": ["long enough", "ok", "ok", "mid one", "y" * 30, "x"],
        }
    )
    tally = Tally("reviews", reviews.height)
    clean = labels_and_reviews.clean_reviews(reviews, pl.Series(["a"]), rules, tally)
    assert clean.rows() == [("a", "y" * 20 + " long enough")]
    quality = tally.finish(clean.height)
    assert quality.dropped["past_per_item"] == 2
    assert quality.merged == {"same_review": 1, "same_item": 1}
    backwards = labels_and_reviews.clean_reviews(
        reviews.reverse(), pl.Series(["a"]), rules, Tally("reviews", reviews.height)
    )
    assert backwards.equals(clean)
    items = pl.DataFrame({"item_id": ["a", "b"], "text": ["Tea", "Cup"]})
    joined = labels_and_reviews.add_reviews(items, clean, 25)
    assert joined["text"].to_list() == ["Tea " + "y" * 20, "Cup"]


# --------------------------------------------------------------------------------- the tally


def test_a_row_that_vanishes_uncounted_is_a_fault():
    tally = Tally("events", 3)
    tally.drop("a_rule", pl.DataFrame({"x": [1, 2, 3]}), pl.DataFrame({"x": [1, 2]}))
    with pytest.raises(RuntimeError, match="do not add up"):
        tally.finish(1)
    assert tally.finish(2).dropped_share == pytest.approx(1 / 3)


@given(st.lists(st.sampled_from(["tea", " tea", "", "a&amp;b"]), min_size=1))
def test_weighed_rows_are_counted_as_the_rows_they_stand_for(texts):
    frame = pl.DataFrame({"text": texts})
    tallies = []
    for start in (frame, cleaning.weigh_repeated_rows(frame)):
        tally = Tally("items", len(texts))
        clean = labels_and_reviews.clean_text(start, ["text"], 60, tally)
        tally.drop("missing_text", clean, cleaning.drop_missing_text(clean))
        tallies.append(tally)
    assert tallies[0] == tallies[1]


def test_too_much_dirt_is_refused_at_the_bound_and_not_below():
    from client.importing.quality_report import TableQuality, require_clean

    quality = TableQuality("events", 10, 6, {"missing_ids": 3, "idle": 0, "times": 1}, {}, {})
    require_clean(quality, 0.4)
    with pytest.raises(InputError, match=r"events: 40.0% of 10 rows .*missing_ids 3, times 1\."):
        require_clean(quality, 0.39)
    with pytest.raises(InputError, match="none of the 2 rows is left"):
        require_clean(TableQuality("events", 2, 0, {"missing_ids": 2}, {}, {}), 1.0)
