"""Records that are signed have one form, and nothing else is read."""

import json
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.privacy.accounting.accountants import MechanismEvent
from common.privacy.ledger.canonical_json import canonical, read_canonical
from common.privacy.ledger.heads import Head, Receipt


@dataclass(frozen=True, slots=True)
class Note:
    number: int
    rate: float
    name: str
    right: bool
    events: tuple[MechanismEvent, ...]


def write(note):
    return canonical(asdict(note))


notes = st.builds(
    Note,
    number=st.integers(),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(),
    right=st.booleans(),
    events=st.lists(
        st.builds(
            MechanismEvent,
            st.floats(0.001, 1),
            st.floats(0, 100),
            st.integers(0, 10**9),
        )
    ).map(tuple),
)


@given(notes)
def test_a_record_reads_back_as_it_was_written(note):
    assert read_canonical(Note, write(note), write) == note


FIELDS = {"number": 1, "rate": 0.5, "name": "a", "right": True, "events": []}


@pytest.mark.parametrize(
    "change",
    [
        {"number": "1"},
        {"number": True},
        {"number": 1.0},
        {"rate": "0.5"},
        {"rate": 1},
        {"name": 7},
        {"name": None},
        {"right": 1},
        {"events": {}},
        {"events": [{"sample_rate": 2.0, "noise_multiplier": 1.0, "count": 1}]},
        {"events": [{"sample_rate": 0.5, "noise_multiplier": 1.0, "count": "1"}]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_field_of_another_type_or_name_is_refused(change):
    with pytest.raises(ValueError, match=r"^not "):
        read_canonical(Note, canonical(FIELDS | change), write)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{",
        json.dumps(FIELDS),
        canonical(FIELDS) + " ",
        canonical(FIELDS).replace("0.5", "5e-1"),
        canonical(FIELDS).replace("0.5", "NaN"),
        canonical(FIELDS).replace('"number":1', '"number":1,"number":1'),
    ],
)
def test_another_form_of_the_same_is_refused_and_not_quoted(text):
    with pytest.raises(ValueError, match=r"^not (readable|in canonical form)$"):
        read_canonical(Note, text, write)


def test_a_number_that_is_none_is_not_written():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("inf")})


def test_a_dataclass_is_an_object_of_its_fields_however_deep():
    inner = MechanismEvent(0.25, 2.0, 3)
    head = Head("ash", 1, "0" * 64, "11", (inner,), "", "22")
    receipt = Receipt(head, "33", "44")
    assert canonical(receipt) == canonical(asdict(receipt))
    assert receipt.to_json() == canonical(asdict(receipt))
    with pytest.raises(TypeError, match="set"):
        canonical({"fields": {1}})
