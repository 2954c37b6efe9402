"""The journal: append-only, chained, signed, and whole after a crash."""

import pytest
from fake_node import LOCAL, federation, make_setup, shops

from client.app import app
from client.node import close_nodes
from common.errors import FedtailError, InputError, JournalError
from common.privacy.journal import last_receipts, read_journal
from server.journal import Journal
from server.strategy import FedtailStrategy
from simulations.grid import InProcessGrid

__all__ = ["federation", "shops"]  # fixtures


def run(federation, path, rounds):
    strategy = FedtailStrategy(make_setup(journal=path, folder=path.parent))
    strategy.start(InProcessGrid(app, 3, {"federation": str(federation)}, 9), num_rounds=rounds)
    return strategy


def test_a_run_is_on_the_journal_with_every_head_signed_twice(shops, federation, tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    strategy = run(federation, path, 2)
    entries = read_journal(path.read_bytes())
    assert [entry.kind for entry in entries] == ["run", "popularity", "train", "train"]
    assert [entry.round_number for entry in entries] == [0, 0, 1, 2]
    assert entries[0].plan == LOCAL.to_json()
    assert {entry.run_id for entry in entries} == {"9"}
    for entry in entries[1:]:
        assert entry.participants == ("ash", "birch", "cedar")
        heads = [receipt.head for receipt in entry.read_receipts()]
        assert [head.merchant for head in heads] == ["ash", "birch", "cedar"]
    assert entries[-1].adapter == strategy.state.adapter.digest
    assert {one.head.number for one in last_receipts(entries).values()} == {3}


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
