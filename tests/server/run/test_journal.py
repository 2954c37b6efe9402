"""The journal: append-only, chained, signed, and whole after a crash."""

import errno
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.app import app
from client.node.session import close_nodes
from common.errors import FederationError, FedtailError, InputError, JournalError
from common.privacy.accounting.accountants import MechanismEvent
from common.privacy.ledger.heads import Head
from common.privacy.ledger.journal import last_receipts, read_journal
from common.release.app_bundle import app_digest
from server.run.journal import Journal
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import LOCAL, FakeWork, federation, make_setup, seeded, shops

__all__ = ["federation", "shops"]  # fixtures


def run(federation, path, rounds):
    strategy = FedtailStrategy(make_setup(journal=path, folder=path.parent))
    strategy.start(InProcessGrid(app, 3, {"federation": str(federation)}, 9), num_rounds=rounds)
    return strategy


def test_a_run_is_on_the_journal_with_every_head_signed_twice(shops, federation, tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    strategy = run(federation, path, 2)
    entries = read_journal(path.read_bytes())
    assert [entry.kind for entry in entries] == [
        "run", *["joined"] * 3, "popularity", "train", "train",
    ]  # fmt: skip
    assert entries[0].app_digest == app_digest()
    assert [entry.round_number for entry in entries] == [0, 0, 0, 0, 0, 1, 2]
    assert entries[0].plan == LOCAL.to_json()
    assert {entry.run_id for entry in entries} == {"9"}
    for entry in entries[4:]:
        assert entry.participants == ("ash", "birch", "cedar")
        heads = [receipt.head for receipt in entry.read_receipts()]
        assert [head.merchant for head in heads] == ["ash", "birch", "cedar"]
    assert entries[-1].adapter == strategy.state.adapter.digest
    assert {one.head.number for one in last_receipts(entries).values()} == {3}


def test_a_commitment_to_canaries_is_on_the_journal_before_training_and_once(
    shops, federation, tmp_path, monkeypatch
):
    def commitment(work, plan, run_id):
        return seeded(work.merchant, run_id).bytes(32).hex()

    monkeypatch.setattr(FakeWork, "commitment", commitment)
    path = tmp_path / "run" / "journal.jsonl"
    run(federation, path, 1)
    run(federation, path, 2)  # goes on: the nodes prepare again
    entries = read_journal(path.read_bytes())
    kinds = ["run", *["joined", "canaries"] * 3, "popularity", "train", "run", "train"]
    assert [entry.kind for entry in entries] == kinds
    told = {entry.participants: entry.commitment for entry in entries if entry.kind == "canaries"}
    assert told == {(name,): seeded(name, 9).bytes(32).hex() for name in ("ash", "birch", "cedar")}
    for later in ("commitment", "app_digest"):  # as journals of before these fields were signed
        assert later not in entries[-1].body()


def test_a_node_that_forgot_its_ledger_is_not_asked_to_train(shops, federation, tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    run(federation, path, 1)
    close_nodes()  # a fake node counts its uses in memory: a restart puts it back to none
    with pytest.raises(FedtailError):
        run(federation, path, 2)
    assert all(len(work.calls) == 1 for work in shops.works.values())  # prepared, nothing else
    refusals = [one for one in read_journal(path.read_bytes()) if one.kind == "refusal"]
    assert {one.reason for one in refusals} == {"federation:rollback"}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, LOCAL, "1") as journal:
        journal.append("train", round_number=1, participants=("b", "a"))
    return path


def test_every_flipped_bit_is_found(written):
    whole = written.read_bytes()
    signer = read_journal(whole)[0].signer
    for bit in range(0, len(whole) * 8, 11):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises((JournalError, InputError)):
            read_journal(bytes(broken), signer)


def test_a_line_cut_short_by_a_crash_is_dropped_and_the_rest_kept(written):
    whole = written.read_bytes()
    written.write_bytes(whole + b'{"body":"{')
    with Journal(written, LOCAL, "2"):
        pass
    assert [entry.run_id for entry in read_journal(written.read_bytes())] == ["1", "1", "2"]


def test_a_confirmed_entry_without_its_newline_is_not_dropped(written):
    damaged = written.read_bytes()[:-1]
    written.write_bytes(damaged)
    with pytest.raises(InputError):
        Journal(written, LOCAL, "2")
    assert written.read_bytes() == damaged


def test_a_journal_has_one_writer(written):
    with Journal(written, LOCAL, "2"), pytest.raises(JournalError):
        Journal(written, LOCAL, "3")


def test_a_journal_without_its_key_is_refused(written):
    written.with_name("journal.key").unlink()
    with pytest.raises(JournalError) as caught:
        Journal(written, LOCAL, "2")
    assert caught.value.field == "key"


def test_an_entry_is_forced_to_disk_before_it_counts(written, monkeypatch):
    synced, real = [], os.fsync

    def fsync(file):
        real(file)
        synced.append(os.fstat(file).st_size)

    with Journal(written, LOCAL, "2") as journal:
        monkeypatch.setattr("server.run.journal.os.fsync", fsync)
        journal.append("train", round_number=2)
    assert synced == [written.stat().st_size]


def test_a_full_disk_leaves_the_journal_as_it_was_and_it_goes_on(written, monkeypatch):
    real = os.write

    def half(file, line):
        if len(line) < 100:  # the rest of the line
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, line[:-50])

    with Journal(written, LOCAL, "2") as journal:
        before = written.read_bytes()
        with monkeypatch.context() as full:
            full.setattr("server.run.journal.os.write", half)
            with pytest.raises(JournalError, match="No space left"):
                journal.append("train", round_number=2)
        assert written.read_bytes() == before
        journal.append("train", round_number=2)
    assert read_journal(written.read_bytes())[-1].round_number == 2


# ---------------------------------------------------------------- which heads build
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


def head(number, steps, covers="", *, key=KEY, merchant="ash"):
    """A head as a node of that key signs it."""
    spent = (MechanismEvent(0.25, 2.0, steps),)
    signer = key.public_key().public_bytes_raw().hex()
    bare = Head(merchant, number, f"{number:02x}" * 32, signer, spent, covers)
    return bare.signed(key.sign(bare.message()))


LAST = head(3, 30)


@pytest.mark.parametrize(
    ("new", "charged", "right"),
    [
        (head(4, 40, LAST.hash), True, True),
        (head(4, 30, LAST.hash), True, True),
        (head(4, 29, LAST.hash), True, False),  # builds on it, and says it spent less
        (head(4, 40), True, False),  # does not say that it builds on it
        (head(4, 40, "ab" * 32), True, False),
        (LAST, True, False),  # charged for nothing
        (LAST, False, True),
        (head(4, 40), False, True),  # charged elsewhere since
        (head(4, 29), False, False),
        (head(2, 40), False, False),
        (head(2, 40, LAST.hash), False, True),  # recovered
        (head(4, 40, key=OTHER_KEY), False, False),
        (head(4, 40, LAST.hash, key=OTHER_KEY), False, False),  # anybody may have seen the hash
        (head(4, 40, LAST.hash, key=OTHER_KEY), True, False),
        (head(4, 40, LAST.hash, merchant="birch"), True, False),
    ],
)
def test_a_head_must_build_on_the_one_countersigned_last(written, new, charged, right):
    with Journal(written, LOCAL, "2") as journal:
        journal.check("ash", LAST, charged=True)  # the first is taken as it is
        journal.append("train", round_number=2, heads={"ash": LAST})
        if right:
            journal.check("ash", new, charged=charged)
        else:
            with pytest.raises(FederationError) as caught:
                journal.check("ash", new, charged=charged)
            assert caught.value.field in {"rollback", "merchant", "signer"}


@pytest.mark.parametrize(("covers", "field"), [(LAST.hash, ""), ("", "rollback")])
def test_another_key_is_taken_from_a_known_merchant_that_recovered(written, covers, field):
    new = head(4, 40, covers, key=OTHER_KEY)
    with Journal(written, LOCAL, "2") as journal:
        journal.append("train", round_number=2, heads={"ash": LAST})
        if field:
            with pytest.raises(FederationError) as caught:
                journal.check("ash", new, charged=False, may_renew=True)
            assert caught.value.field == field
        else:
            journal.check("ash", new, charged=False, may_renew=True)
