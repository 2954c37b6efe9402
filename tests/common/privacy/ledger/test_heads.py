"""Heads and receipts: each field is signed, and reading is strict."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LedgerError
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import MechanismEvent, merge
from common.privacy.ledger.heads import Head, Receipt, missing_events
from common.privacy.ledger.ledger import Ledger
from tests.support.ledgers import PLAN


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return SigningKey.create(tmp_path_factory.mktemp("keys") / "journal.key")


@pytest.fixture(scope="module")
def receipt(tmp_path_factory, key):
    ledger = Ledger.open(tmp_path_factory.mktemp("node") / "ledger.db", "shop", "data")
    ledger.append(PLAN, run_id="1", round_number=1, kind="train", admit=lambda _: None)
    return Receipt.give(ledger.signed_head("ab" * 32), key)


def test_a_receipt_reads_back_and_checks(receipt, key):
    again = Receipt.from_json(receipt.to_json())
    assert again == receipt
    again.check("shop", key.public.raw.hex())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchant", "other"),
        ("number", 2),
        ("hash", "cd" * 32),
        ("signer", "ef" * 32),
        ("spent", ()),
        ("covers", ""),
        ("signature", "00" * 64),
        ("signature", ""),
        ("signature", "zz"),
    ],
)
def test_a_changed_head_is_refused(receipt, key, field, value):
    with pytest.raises(LedgerError):
        dataclasses.replace(receipt.head, **{field: value}).check("shop")
    changed = dataclasses.replace(receipt, head=dataclasses.replace(receipt.head, **{field: value}))
    with pytest.raises(LedgerError):
        changed.check("shop", key.public.raw.hex())


def test_a_receipt_of_another_journal_is_refused(receipt, key, tmp_path):
    other = SigningKey.create(tmp_path / "other.key").public.raw.hex()
    with pytest.raises(LedgerError) as caught:
        receipt.check("shop", other)
    assert caught.value.field == "journal"
    with pytest.raises(LedgerError) as caught:
        dataclasses.replace(receipt, journal=other).check("shop", other)
    assert caught.value.field == "countersignature"


def test_every_flipped_bit_of_a_receipt_is_refused(receipt, key):
    whole = receipt.to_json().encode()
    for bit in range(0, len(whole) * 8, 7):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LedgerError):
            Receipt.from_json(broken.decode("latin-1")).check("shop", key.public.raw.hex())


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"head":1}'])
def test_what_is_no_receipt_is_refused(text):
    for kind in (Head, Receipt):
        with pytest.raises(LedgerError):
            kind.from_json(text)


def test_a_head_with_spaces_is_refused(receipt):
    with pytest.raises(LedgerError):
        Head.from_json(json.dumps(json.loads(receipt.head.to_json())))


EVENTS = st.lists(
    st.builds(
        MechanismEvent, st.sampled_from([0.1, 1.0]), st.sampled_from([1.0, 2.0]), st.integers(0, 9)
    )
).map(merge)


@given(EVENTS, EVENTS)
def test_what_is_known_and_what_is_missing_cover_what_was_spent(spent, known):
    together = {
        (e.sample_rate, e.noise_multiplier): e.count
        for e in merge((*known, *missing_events(spent, known)))
    }
    for event in spent:
        assert together[event.sample_rate, event.noise_multiplier] >= event.count
    assert missing_events(spent, spent) == ()
    assert missing_events(spent, ()) == spent


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", "2"), ("number", True), ("number", -1), ("number", 0), ("covers", None)],
)
def test_a_head_of_another_kind_is_refused_though_its_own_node_signed_it(
    receipt, key, field, value
):
    """A merchant chooses what it signs; the server compares numbers in the middle of a round."""
    head = dataclasses.replace(receipt.head, **{field: value})
    with pytest.raises(LedgerError):
        Head.from_json(head.to_json())
    with pytest.raises(LedgerError):
        Receipt.from_json(Receipt.give(head, key).to_json())
