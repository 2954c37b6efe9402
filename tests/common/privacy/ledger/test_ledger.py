"""The ledger: on disk before anything else, append-only, chained, signed, safe to share."""

import contextlib
import copy
import dataclasses
import json
import os
import pickle
import signal
import sqlite3
import stat
import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import LedgerError, PrivacyError
from common.privacy.accounting.accountants import MechanismEvent
from common.privacy.ledger.entry import GENESIS, Entry, spent_events
from common.privacy.ledger.ledger import Charge, Ledger
from common.privacy.ledger.signing_key import key_path
from tests.support.ledgers import PLAN, pay, reopen


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    return Ledger.open(path, "shop", "data")


def tamper(path, *statements):
    """Change the file as an attacker with full access would: triggers first."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for trigger in ("no_update", "no_delete", "in_order"):
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)
        connection.commit()


def test_an_entry_says_what_was_paid_for(ledger):
    charge = pay(ledger, kind="popularity", round_number=0)
    entry = charge.entry
    assert (entry.number, entry.kind, entry.run_id, entry.round_number) == (
        1,
        "popularity",
        "run",
        0,
    )
    assert (entry.sample_rate, entry.noise_multiplier, entry.steps) == (1.0, 3.0, 1)
    assert (entry.merchant, entry.dataset, entry.prior) == ("shop", "data", GENESIS)
    assert entry.plan_digest == PLAN.digest
    assert 0 <= time.time() - entry.time < 86_400 + 60  # the day, and not the moment
    assert entry.time % 86_400 == 0
    assert entry.event == PLAN.event("popularity")


def test_entries_are_chained_and_survive_reopening(path, ledger):
    charges = [pay(ledger, number) for number in range(1, 6)]
    entries = reopen(path).entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.prior for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    assert entries == tuple(charge.entry for charge in charges)
    assert reopen(path).head == ledger.head == (5, charges[-1].entry.hash)


def test_the_empty_ledgers_head_is_genesis(ledger):
    assert ledger.head == (0, GENESIS)


def test_the_entry_is_on_disk_when_the_charge_exists(path, ledger):
    charge = pay(ledger)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT hash FROM entries").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert rows == [(charge.entry.hash,)]


def test_the_same_round_twice_is_charged_twice(ledger):
    pay(ledger, 3)
    pay(ledger, 3)
    assert len(ledger.entries()) == 2


def test_a_refusal_charges_nothing_and_sees_all_entries(ledger):
    pay(ledger)
    seen = []

    def refuse(entries):
        seen.extend(entries)
        raise PrivacyError("no")

    with pytest.raises(PrivacyError):
        pay(ledger, 2, admit=refuse)
    assert len(seen) == len(ledger.entries()) == 1
    pay(ledger, 2)


def test_the_key_is_for_its_owner_only(path, ledger):
    assert stat.S_IMODE(key_path(path).stat().st_mode) == 0o600
    key_path(path).chmod(0o640)
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "key"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = 'x' WHERE number = 1",
        "DELETE FROM entries WHERE number = 1",
        "INSERT OR REPLACE INTO entries VALUES (1, 'a', 'b', x'00')",
        "INSERT INTO entries VALUES (9, 'a', 'b', x'00')",
    ],
)
def test_triggers_refuse_all_but_the_next_entry(path, ledger, statement):
    pay(ledger)
    with (
        contextlib.closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("DELETE FROM entries WHERE number = 2", "number"),
        ("DELETE FROM entries WHERE number = 1", "number"),
        ("UPDATE entries SET number = 9 WHERE number = 3", "number"),
        ("UPDATE entries SET body = replace(body, '\"steps\":1', '\"steps\":0')", "hash"),
        ("UPDATE entries SET body = replace(body, ',', ', ')", "body"),
        ("UPDATE entries SET body = '{}' WHERE number = 2", "body"),
        ("UPDATE entries SET body = '[' WHERE number = 2", "body"),
        ("UPDATE entries SET hash = upper(hash) WHERE number = 2", "hash"),
        ("UPDATE entries SET signature = zeroblob(64) WHERE number = 3", "signature"),
        ("UPDATE entries SET signature = zeroblob(3) WHERE number = 3", "signature"),
    ],
)
def test_any_tampering_is_refused(path, ledger, statement, field):
    for number in range(1, 4):
        pay(ledger, number)
    tamper(path, statement)
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == field


def test_a_forged_entry_with_a_right_hash_is_refused(path, ledger):
    pay(ledger)
    forged = dataclasses.replace(ledger.entries()[0], noise_multiplier=100.0)
    tamper(path, ("UPDATE entries SET body = ?, hash = ?", (forged.body(), forged.hash)))
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "signature"


def test_an_entry_from_a_fork_of_the_ledger_is_refused(path, ledger):
    """Both entries are signed by the node; only the chain tells that one is out of place."""
    for number in range(1, 3):
        pay(ledger, number)
    elsewhere = path.with_name("fork.db")
    key_path(elsewhere).write_bytes(key_path(path).read_bytes())
    key_path(elsewhere).chmod(0o600)
    fork = Ledger.open(elsewhere, "shop", "data")
    for number in range(5, 8):
        pay(fork, number)
    with contextlib.closing(sqlite3.connect(elsewhere)) as connection:
        row = connection.execute(
            "SELECT body, hash, signature FROM entries WHERE number = 2"
        ).fetchone()
    tamper(path, ("UPDATE entries SET body = ?, hash = ?, signature = ? WHERE number = 2", row))
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "prior"


def test_a_file_replaced_under_an_open_ledger_is_refused(path, ledger):
    pay(ledger, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        old = connection.serialize()
    pay(ledger, 2)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    path.write_bytes(old)
    with pytest.raises(LedgerError):
        pay(ledger, 3)


def test_a_tail_cut_off_under_an_open_ledger_is_refused(path, ledger):
    pay(ledger, 1)
    pay(ledger, 2)
    tamper(path, "DELETE FROM entries WHERE number = 2")
    with pytest.raises(LedgerError):
        pay(ledger, 3)


def test_a_swapped_or_missing_key_is_refused(path, ledger):
    pay(ledger)
    original = key_path(path).read_bytes()
    key_path(path).write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "signer"
    key_path(path).unlink()
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "key"
    assert not key_path(path).exists()
    key_path(path).write_bytes(original[:7])
    key_path(path).chmod(0o600)
    with pytest.raises(LedgerError):
        reopen(path)


def test_another_merchants_ledger_is_refused(path, ledger):
    pay(ledger)
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path, "other shop", "data")
    assert caught.value.field == "merchant"


def test_an_import_is_noted_once_and_keeps_what_was_spent(path, ledger):
    pay(ledger)
    renewed = Ledger.open(path, "shop")
    assert renewed.dataset == "data"
    renewed.note_import("second import")
    entries = renewed.entries()
    assert [entry.kind for entry in entries] == ["train", "data"]
    assert entries[1].event is None
    assert pay(renewed, 2).entry.dataset == "second import"
    for _ in range(2):
        again = Ledger.open(path, "shop")
        again.note_import("second import")
        assert len(again.entries()) == 3


def test_only_the_ledger_makes_a_charge(ledger):
    paid = pay(ledger)
    with pytest.raises(PrivacyError):
        Charge(paid.entry, PLAN)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(PrivacyError):
            duplicate(paid)


def test_an_entrys_body_reads_back_exactly(ledger):
    entry = pay(ledger).entry
    assert Entry.from_body(entry.body()) == entry
    for text in (entry.body() + " ", json.dumps(json.loads(entry.body())), "null"):
        with pytest.raises(LedgerError):
            Entry.from_body(text)


def in_child(work):
    """Run `work` in a forked process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_processes_that_charge_at_once_leave_one_chain(path):
    def work():
        ledger = reopen(path)
        for number in range(1, 11):
            pay(ledger, number)

    for child in [in_child(work) for _ in range(3)]:
        assert os.waitpid(child, 0)[1] == 0
    assert len(reopen(path).entries()) == 30


def test_a_budget_is_kept_by_processes_that_charge_at_once(path, ledger):
    def at_most_five(entries):
        if len(entries) >= 5:
            raise PrivacyError("enough")

    def work():
        mine = reopen(path)
        for number in range(1, 6):
            with contextlib.suppress(PrivacyError):
                pay(mine, number, admit=at_most_five)

    for child in [in_child(work) for _ in range(3)]:
        os.waitpid(child, 0)
    assert len(reopen(path).entries()) == 5


def test_a_kill_at_any_moment_loses_no_charge(path, ledger):
    """What a process says it was charged for is on disk, however it ends."""
    for pause in np.random.default_rng(5).uniform(0.02, 0.15, 8):
        reader, writer = os.pipe()

        def work(writer=writer):
            mine = reopen(path)
            while True:
                os.write(writer, b"%d\n" % pay(mine).entry.number)  # stands for drawing noise

        child = in_child(work)
        os.close(writer)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            said = [int(line) for line in pipe.read().split(b"\n") if line]
        stored = len(reopen(path).entries())
        assert stored >= max(said, default=0)


def test_appending_is_quick(ledger):
    times = []
    for number in range(1, 21):
        start = time.perf_counter()
        pay(ledger, number)
        times.append(time.perf_counter() - start)
    assert sorted(times)[10] < 0.25  # a disk's own fsync is most of it


def test_a_recovery_charges_what_is_missing_and_names_the_head_last(path, ledger):
    pay(ledger)
    missing = (MechanismEvent(0.25, 2.0, 3), MechanismEvent(1.0, 3.0, 1))
    entries = ledger.recover(missing, "ab" * 32)
    assert [entry.recovers for entry in entries] == ["", "ab" * 32]
    assert [entry.event for entry in entries] == list(missing)
    assert spent_events(reopen(path).entries()) == (
        MechanismEvent(0.25, 2.0, 4),
        MechanismEvent(1.0, 3.0, 1),
    )


def test_a_recovery_of_nothing_still_names_the_head(ledger):
    (entry,) = ledger.recover((), "ab" * 32)
    assert (entry.steps, entry.recovers) == (0, "ab" * 32)
    assert spent_events(ledger.entries()) == ()


def test_a_signed_head_tells_where_the_ledger_ends_and_what_it_spent(ledger):
    head = ledger.signed_head("")
    head.check("shop")
    assert (head.number, head.hash, head.spent) == (0, GENESIS, ())
    charge = pay(ledger)
    head = ledger.signed_head("ab" * 32)
    head.check("shop")
    assert (head.number, head.hash, head.covers) == (1, charge.entry.hash, "ab" * 32)
    assert head.spent == (PLAN.event("train"),)


def test_an_entry_names_the_code_that_trains_and_older_ones_stay_as_they_were(ledger):
    named = pay(ledger, app_digest="c0" * 32).entry
    assert Entry.from_body(named.body()) == named
    assert '"app_digest":"c0c0' in named.body()
    plain = pay(ledger, 2).entry
    assert "app_digest" not in plain.body()
    older = dataclasses.replace(
        plain, time=1_700_000_000.123
    )  # an earlier version's, to the millisecond
    assert Entry.from_body(older.body()) == older
