"""A signature binds a vector to merchant, run, round, plan, settings and adapter."""

from dataclasses import fields, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LedgerError
from common.privacy.ledger.contributions import (
    Contribution,
    Purpose,
    read_contributions_file,
    rounds_behind,
    vector_digest,
)
from common.privacy.ledger.journal import JournalEntry

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
SIGNER = KEY.public_key().public_bytes_raw().hex()
PURPOSE = Purpose("train", "7", 2, "ab" * 32, "cd" * 32, "ef" * 32)
PLAIN = Contribution("ash", PURPOSE, "01" * 32, SIGNER)
SIGNED = PLAIN.signed(KEY.sign(PLAIN.message()))
OTHER = {"kind": "popularity", "round_number": 3}


def test_what_was_signed_has_no_fault_and_reads_back():
    assert SIGNED.fault(PLAIN) == ""
    assert Contribution.from_json(SIGNED.to_json()) == SIGNED
    assert read_contributions_file(f"{SIGNED.to_json()}\n".encode()) == (SIGNED,)


@pytest.mark.parametrize("field", [one.name for one in fields(Purpose)])
def test_each_part_of_the_purpose_is_signed_and_compared(field):
    changed = replace(PURPOSE, **{field: OTHER.get(field, "9" * 64)})
    assert SIGNED.fault(replace(PLAIN, purpose=changed)) == field
    assert not replace(SIGNED, purpose=changed).authentic


@pytest.mark.parametrize("field", ["merchant", "digest", "signer"])
def test_each_other_part_is_signed_and_compared(field):
    assert SIGNED.fault(replace(PLAIN, **{field: "9" * 64})) == field
    assert not replace(SIGNED, **{field: "9" * 64}).authentic


def test_an_unsigned_one_is_named_last():
    assert PLAIN.fault(PLAIN) == "signature"


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=8), st.integers(0, 255))
def test_the_digest_is_of_every_bit(numbers, bit):
    vector = np.array(numbers, dtype=np.float32)
    bits = np.unpackbits(vector.view(np.uint8))
    bits[bit % bits.size] ^= 1
    assert vector_digest(vector) != vector_digest(np.packbits(bits).view(np.float32))
    assert vector_digest(vector) == vector_digest(np.array([numbers, numbers], np.float32)[1])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"x\n", 1),
        (f"{SIGNED.to_json()}\n{PLAIN.to_json()}\n".encode(), 2),
        (f"{SIGNED.to_json()}\n{SIGNED.to_json()}".encode(), 2),
        (b"\xff\n", 1),
    ],
)
def test_a_list_that_is_not_one_names_the_line(content, line):
    with pytest.raises(LedgerError, match=f"Line {line} "):
        read_contributions_file(content)


def entry(number, kind, round_number, adapter="", *, run_id="1", plan="p"):
    """An entry with what is looked at; the rest does not matter here."""
    return JournalEntry(
        number, kind, run_id, round_number, "", plan, (), (), adapter, "", 0.0, "", ""
    )


def test_the_rounds_behind_an_adapter_are_the_latest_before_what_follows_them():
    """Round 2 was done twice, the first time under another number of the run, then in vain."""
    journal = (
        entry(1, "popularity", 0),
        entry(2, "train", 1, "a"),
        entry(3, "train", 2, "x"),
        entry(4, "run", 0, run_id="2"),
        entry(5, "train", 2, "b", run_id="2"),
        entry(6, "train", 2, "z", plan="q"),
        entry(7, "train", 3, "c", run_id="2"),
        entry(8, "train", 3, "y", run_id="3"),
    )
    runs = ("1", "2")
    assert [one.number for one in rounds_behind(journal, "c", "p", runs)] == [7, 5, 2, 1]
    assert list(rounds_behind(journal, "nothing", "p", runs)) == []


def test_behind_an_adapter_that_a_refresh_kept_is_the_season_that_names_it():
    journal = (
        entry(1, "season", 0, "a"),
        entry(2, "popularity", 0, "a"),
    )
    assert [one.number for one in rounds_behind(journal, "a", "p", ("1",))] == [1]


def test_another_run_of_the_same_plan_between_the_rounds_is_passed_over():
    journal = (
        entry(1, "popularity", 0),
        entry(2, "train", 1, "a"),
        entry(3, "popularity", 0, run_id="9"),
        entry(4, "train", 1, "x", run_id="9"),
        entry(5, "train", 2, "b"),
        entry(6, "train", 2, "y", run_id="9"),
    )
    assert [one.number for one in rounds_behind(journal, "b", "p", ("1",))] == [5, 2, 1]
    assert [one.number for one in rounds_behind(journal, "y", "p", ("9",))] == [6, 4, 3]
