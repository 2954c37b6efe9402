"""No two persons become one; the listed spellings of one person do."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing import cleaning
from client.importing.mapping import CleanRules
from client.importing.quality_report import Tally
from client.importing.rules.ids import NULL_WORDS, differing_by_form
from client.importing.rules.table import Bounds, id_rules, run_rules
from common.errors import InputError

PERSONS = st.one_of(
    st.integers(0, 10**12).map(str),
    st.integers(0, 999).map("{:06d}".format),  # leading zeros tell people apart
    st.builds("{}@{}.com".format, st.from_regex(r"\A[a-z]{1,4}(\+[a-z]{1,2})?\Z"),
              st.sampled_from(["a", "b"])),
    st.from_regex(r"\A[A-Za-z]{2}-[A-Za-z0-9]{3}\Z"),
    st.text(alphabet="茶张李é", min_size=1, max_size=3),
).filter(lambda one: one.lower() not in NULL_WORDS)  # fmt: skip


def _spellings(person):
    """The ways in which exports write one and the same id."""
    yield from (person, f" {person}", f"{person}\t", f"\ufeff{person}", f'="{person}"')
    yield person.replace("e\u0301", "é")
    if person.isdecimal() and person.isascii():
        yield "".join(chr(ord(one) + 0xFEE0) for one in person)
        if not person.startswith("0") or person == "0":
            yield f"{person}.0"
    if "@" in person:
        yield from (person.upper(), person.title())


def _canonical(values, column="shopper_id", ids="canonical"):
    frame = pl.DataFrame({column: values}, schema={column: pl.String})
    rules = id_rules([column], Bounds(CleanRules(ids=ids)), "events")
    return run_rules(frame, rules, Tally("events", len(values)))[column].to_list()


@settings(max_examples=60, deadline=None)
@given(st.lists(PERSONS, min_size=1, max_size=8, unique=True))
def test_spellings_of_one_person_become_one_and_persons_stay_apart(persons):
    written = [(person, way) for person in persons for way in _spellings(person)]
    found = dict.fromkeys(persons)
    for (person, _), name in zip(written, _canonical([way for _, way in written]), strict=True):
        assert name is not None
        assert found[person] in (None, name)
        found[person] = name
    assert len(set(found.values())) == len(persons)


def test_words_for_nothing_are_missing():
    words = ["NULL", "nan", "N/A", "None", "#N/A", "\\N", "-", "ann"]
    assert _canonical(words) == [None] * 7 + ["ann"]
    assert _canonical(words, ids="as_written") == words


def test_a_float_ending_stays_where_some_id_has_a_true_fraction():
    frame = pl.DataFrame({"shopper_id": ["1.0", "1", "1.5"]})
    rules = id_rules(["shopper_id"], Bounds(CleanRules(), fractions={"shopper_id"}), "events")
    assert run_rules(frame, rules, Tally("events", 3))["shopper_id"].to_list() == [
        "1.0",
        "1",
        "1.5",
    ]


def test_only_shoppers_addresses_lose_their_case():
    assert _canonical(["A@B.com"], "item_id") == ["A@B.com"]
    assert _canonical(["a+b@x.com", "a@x.com"]) == ["a+b@x.com", "a@x.com"]


def test_digits_that_a_spreadsheet_cut_are_refused_and_whole_ones_are_written_out():
    with pytest.raises(InputError, match=r"2 values of item_id .*'4.0069E\+12'") as caught:
        _canonical(["4.0069E+12", "4.0069E+12", "A1"], "item_id")
    assert caught.value.field == "item_id"
    assert _canonical(["1.785E+3"]) == ["1785"]
    assert _canonical(["4.0069E+12"], ids="as_written") == ["4.0069E+12"]


def test_ids_that_differ_by_form_are_shown_and_kept():
    ids = pl.Series(["007", "7", "ab-1", "AB1", "x"])
    assert differing_by_form(ids) == (4, ["'007' and '7'", "'AB1' and 'ab-1'"])
    tidy = cleaning.tidy_ids(pl.DataFrame({"a": ["007", "7"]}), ["a"])
    assert tidy["a"].to_list() == ["007", "7"]
