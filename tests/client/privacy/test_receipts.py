"""Receipts beside the ledger: the node itself refuses a ledger that rolled back."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.privacy.budget import charge_round
from client.privacy.receipts import accept, covered, read_receipts, receipts_path
from common.errors import LedgerError
from common.identity.signing_key import SigningKey
from common.privacy.ledger.heads import Receipt
from common.wire.heads import JournalNote
from tests.client.privacy.test_recovery import PLAN, POLICY, Federation, restored_copy


@pytest.fixture
def federation(tmp_path):
    federation = Federation(tmp_path)
    federation.rounds(2)
    return federation


def test_nothing_is_charged_on_a_ledger_that_lacks_a_receipt_whoever_asks(federation, tmp_path):
    """Without a journal in the request, as another server would ask."""
    federation.save(tmp_path / "backup")
    federation.rounds(1)
    restored_copy(federation, (tmp_path / "backup").read_bytes())
    ledger = federation.ledger()
    with pytest.raises(LedgerError) as caught:
        charge_round(ledger, PLAN, POLICY, "2", 1, "train")
    assert caught.value.field == "rollback"
    assert len(ledger.entries()) == 2


def stranger(folder, ledger):
    """A receipt from a journal of its own, for a head that another key than the node's signed."""
    journal = SigningKey.create(folder / "stranger.key")
    key = Ed25519PrivateKey.generate()
    signer = key.public_key().public_bytes_raw().hex()
    head = replace(ledger.signed_head(""), number=9, hash="ab" * 32, signer=signer)
    return journal.public.raw.hex(), Receipt.give(head.signed(key.sign(head.message())), journal)


def test_a_receipt_that_anybody_could_have_made_is_refused_and_does_not_stop_the_node(
    federation, tmp_path
):
    ledger, before = federation.ledger(), receipts_path(federation.path).read_bytes()
    journal, receipt = stranger(tmp_path, ledger)
    with pytest.raises(LedgerError):
        accept(ledger, JournalNote(journal, receipt))
    assert receipts_path(federation.path).read_bytes() == before
    charge_round(ledger, PLAN, POLICY, "2", 1, "train")


def test_an_earlier_receipt_does_not_replace_a_later_one(federation):
    ((journal, first),) = read_receipts(federation.path).items()
    federation.rounds(1)
    ledger = federation.ledger()
    last = covered(ledger, journal)
    assert last != first.head.hash
    accept(ledger, JournalNote(journal, first))
    assert covered(ledger, journal) == last


def test_a_broken_file_of_receipts_is_refused(federation):
    path = receipts_path(federation.path)
    for content in (b"", b"[]", b"{", path.read_bytes().replace(b"shop", b"shoq")):
        path.write_bytes(content)
        with pytest.raises(LedgerError):
            read_receipts(federation.path)
