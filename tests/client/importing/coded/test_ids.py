"""A rule reads each distinct id once, and does to it what it does to text."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing.coded.ids import (
    PLAIN,
    NotPackedError,
    among,
    matching,
    new_spellings,
    packed,
    packing,
    places,
    texts,
)
from client.importing.mapping import CleanRules
from client.importing.quality_report import Tally
from client.importing.rules.ids import NULL_WORDS
from client.importing.rules.table import Bounds, id_rules, run_rules
from common.errors import InputError

WRITTEN = st.one_of(
    st.none(),
    st.sampled_from(["17850", " 17850", "17850.0", "1.5", "1.785E+3", "4.0069E+12", "-1.5E+2", ""]),
    st.sampled_from(["A@B.com", "a@b.com", '="007"', "\ufeff7", "１２", "e\u0301", "AB-1", "2e5"]),
    st.sampled_from(NULL_WORDS).map(str.upper),
    st.text(max_size=5),
)
NAMES = ["shopper_id", "item_id", "order_id"]
COLUMNS = st.lists(st.tuples(WRITTEN, WRITTEN, WRITTEN), max_size=30)


def frames(rows):
    """The rows as text, and with numbers for ids."""
    frame = pl.DataFrame(rows, dict.fromkeys(NAMES, pl.String), orient="row")
    types = new_spellings(NAMES)
    return frame, frame.with_columns(frame[name].cast(types[name]) for name in NAMES)


def ruled(frame, fractions):
    """What the rules make of a frame and count, or what they say against it."""
    tally = Tally("events", frame.height)
    try:
        done = run_rules(
            frame, id_rules(NAMES, Bounds(CleanRules(), fractions=fractions), "events"), tally
        )
    except InputError as error:
        return str(error)
    return done.with_columns(pl.all().cast(pl.String)).rows(), tally


@settings(deadline=None, max_examples=40)
@given(COLUMNS, st.sets(st.sampled_from(NAMES)))
def test_rules_do_to_numbers_what_they_do_to_text(rows, fractions):
    text, coded = frames(rows)
    assert ruled(coded, fractions) == ruled(text, fractions)


@settings(deadline=None, max_examples=40)
@given(COLUMNS, st.lists(st.text(max_size=2)))
def test_matching_and_among_say_the_same_of_numbers(rows, wanted):
    text, coded = frames(rows)
    for name in NAMES:
        assert matching(coded[name], "[0-9]").equals(matching(text[name], "[0-9]"))
        known = pl.Series(wanted, dtype=pl.String)
        assert among(coded[name], known).equals(among(text[name], known))
        assert set(texts(coded[name])) == set(texts(text[name])) == set(text[name].drop_nulls())


@settings(deadline=None, max_examples=40)
@given(COLUMNS)
def test_a_place_is_that_of_the_text(rows):
    text, coded = frames(rows)
    for name in NAMES:
        values = texts(text[name]).sort()
        for frame in (text, coded):
            found = places(frame[name].drop_nulls(), values)
            assert [values[int(one)] for one in found] == text[name].drop_nulls().to_list()


@settings(deadline=None, max_examples=40)
@given(st.text("AB", max_size=3), st.lists(st.from_regex(r"\A[0-9A-Z_-]{0,8}\Z"), min_size=1))
def test_packed_ids_are_ordered_as_their_texts_and_are_as_many(beginning, ends):
    ids = pl.Series([f"{beginning}{end}7"[: len(beginning) + 8] for end in ends])
    if not ids.str.contains(PLAIN).all():
        return
    numbers = packed(ids, beginning)
    assert numbers.dtype == pl.UInt64
    by_text = sorted(zip(ids, numbers, strict=True))
    assert [number for _, number in by_text] == sorted(numbers)
    assert numbers.n_unique() == ids.n_unique()


def test_packing_takes_as_little_of_the_beginning_as_it_must():
    assert packing(pl.Series(["O00000017", "O0000001"])) == "O"
    assert packing(pl.Series(["12345678", "9"])) == ""
    assert packed(pl.Series([None, "O1"]), "O").is_null().to_list() == [True, False]


@pytest.mark.parametrize("odd", ["17.0", " 17", "N/A", "P0000017", "O123456789", ""])
def test_an_id_that_a_rule_may_change_or_that_does_not_fit_is_not_packed(odd):
    with pytest.raises(NotPackedError):
        packed(pl.Series(["O0000017", odd]), "O")


@pytest.mark.parametrize("frame", frames([(None, None, None)]), ids=["text", "coded"])
def test_a_column_of_nothing_stays_nothing(frame):
    assert ruled(frame, set())[0] == [(None, None, None)]
