"""A ledger that rolled back is refused on both sides, and comes back by paying."""

import contextlib
import shutil
import sqlite3

import numpy as np
import pytest
from flwr.app import RecordDict
from typer.testing import CliRunner

from client.cli import app
from client.privacy.budget import LEDGER_FILE, charge_round
from client.privacy.policy import Policy
from client.privacy.receipts import accept, check_receipts, covered, receipts_path
from client.privacy.recovery import recover
from client.shop.dataset import save_merchant_data
from common.errors import FederationError, JournalError, LedgerError
from common.privacy.accounting.accountants import merge
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.ledger import Ledger
from common.privacy.ledger.signing_key import key_path
from common.wire.heads import JournalNote, with_head
from common.wire.messages import Prepared
from server.run.countersigning import Countersigning
from server.run.journal import Journal
from tests.support.shops import make_shop

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=50,
    noise_multiplier=4.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-5,
    dp_model="local",
)
POLICY = Policy(max_epsilon=20.0)


class Federation:
    """One server's journal and one merchant's ledger, through as many rounds as asked."""

    def __init__(self, folder):
        self.path = folder / "node" / LEDGER_FILE
        self.journal = folder / "server" / "journal.jsonl"
        self.round, self.dataset = 0, "data"
        self.known = False  # whether the operator knows by other means that this is the merchant

    def ledger(self):
        return Ledger.open(self.path, "shop", self.dataset)

    def rounds(self, count):
        """What node and server do in `count` rounds of a new run."""
        with Journal(self.journal, PLAN, "1") as journal:
            countersigner, ledger = Countersigning(journal, lambda _: self.known), self.ledger()
            first = with_head(RecordDict(), ledger.signed_head(covered(ledger, journal.signer)))
            countersigner.check_head(
                Prepared("shop", "digest", np.arange(1, dtype=np.uint64)), first
            )
            for _ in range(count):
                self.round += 1
                accept(ledger, JournalNote(journal.signer, journal.last.get("shop")))
                charge_round(ledger, PLAN, POLICY, "1", self.round, "train")
                reply = with_head(RecordDict(), ledger.signed_head(covered(ledger, journal.signer)))
                countersigner.take("shop", reply)
                countersigner.close("train", self.round, ("shop",))
            accept(ledger, JournalNote(journal.signer, journal.last.get("shop")))

    def save(self, to):
        """Copy the ledger as a backup would."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            to.write_bytes(connection.serialize())

    def put_back(self, content):
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.path.write_bytes(content)


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path)


def restored_copy(federation, before):
    federation.put_back(before)


def deleted_tail(federation, _before):
    with contextlib.closing(sqlite3.connect(federation.path)) as connection:
        connection.execute("DROP TRIGGER no_delete")
        connection.execute("DELETE FROM entries WHERE number = (SELECT MAX(number) FROM entries)")
        connection.execute(
            "CREATE TRIGGER no_delete BEFORE DELETE ON entries "
            "BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END"
        )
        connection.commit()


def edited_row(federation, _before):
    with contextlib.closing(sqlite3.connect(federation.path)) as connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute(
            "UPDATE entries SET body = replace(body, '\"noise_multiplier\":4.0', "
            "'\"noise_multiplier\":9.0')"
        )
        connection.commit()


def swapped_key(federation, _before):
    """A new ledger under a new key, filled to the same length."""
    for path in (federation.path, key_path(federation.path)):
        path.unlink()
    federation.put_back(b"")
    federation.path.unlink()
    ledger = federation.ledger()
    for number in range(1, federation.round + 1):
        ledger.append(PLAN, run_id="1", round_number=number, kind="train", admit=lambda _: None)


def other_merchants_ledger(federation, _before):
    federation.put_back(b"")
    federation.path.unlink()
    other = Ledger.open(federation.path, "other", "data")
    other.append(PLAN, run_id="1", round_number=1, kind="train", admit=lambda _: None)


WAYS = (restored_copy, deleted_tail, edited_row, swapped_key, other_merchants_ledger)


@pytest.mark.parametrize("receipts_too", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_fifty_ways_back_are_all_refused(federation, tmp_path, way, receipts_too):
    """Five kinds, five lengths, with and without the receipts: the journal finds the latter."""
    random = np.random.default_rng(len(way.__name__))
    for attempt in range(5):
        home = Federation(tmp_path / f"{attempt}")
        home.rounds(int(random.integers(1, 4)))
        home.save(tmp_path / "backup.db")
        held = receipts_path(home.path).read_bytes()
        home.rounds(int(random.integers(1, 4)))
        way(home, (tmp_path / "backup.db").read_bytes())
        if receipts_too:
            receipts_path(home.path).write_bytes(held)
            if way is not restored_copy:
                receipts_path(home.path).unlink()
        size = home.path.stat().st_size
        with pytest.raises((LedgerError, FederationError)) as caught:
            home.rounds(1)
        fields = {"rollback", "hash", "merchant", "signer", "number"}
        assert caught.value.field in fields
        assert home.path.stat().st_size == size  # nothing was charged, so nothing was drawn


@pytest.mark.parametrize("lost", [1, 3])
def test_a_recovered_ledger_has_paid_for_all_and_trains_on(federation, tmp_path, lost):
    federation.rounds(2)
    federation.save(tmp_path / "backup.db")
    federation.rounds(lost)
    spent = spent_events(federation.ledger().entries())
    restored_copy(federation, (tmp_path / "backup.db").read_bytes())
    with pytest.raises(LedgerError):
        federation.rounds(1)
    written = recover(federation.ledger(), read_journal(federation.journal.read_bytes()))
    assert [entry.kind for entry in written] == ["recovery"]
    assert spent_events(federation.ledger().entries()) == spent
    assert recover(federation.ledger(), read_journal(federation.journal.read_bytes())) == ()
    federation.rounds(2)
    assert spent_events(federation.ledger().entries()) == merge(
        (*spent, *[PLAN.event("train")] * 2)
    )


def test_a_lost_ledger_with_its_key_comes_back_by_paying_for_everything(federation):
    federation.rounds(3)
    spent = spent_events(federation.ledger().entries())
    shutil.rmtree(federation.path.parent)
    for federation.known, field in ((False, "signer"), (True, "rollback")):
        with pytest.raises(FederationError) as caught:
            federation.rounds(1)
        assert caught.value.field == field
    recover(federation.ledger(), read_journal(federation.journal.read_bytes()))
    assert spent_events(federation.ledger().entries()) == spent
    federation.rounds(1)


def test_an_older_journal_cannot_make_a_recovery_cheap(federation, tmp_path):
    federation.rounds(1)
    old, backup = federation.journal.read_bytes(), tmp_path / "backup.db"
    federation.save(backup)
    federation.rounds(3)
    restored_copy(federation, backup.read_bytes())
    with pytest.raises(LedgerError) as caught:
        recover(federation.ledger(), read_journal(old))
    assert caught.value.field == "journal"


def test_a_second_server_starts_afresh_and_the_budget_counts_both(federation, tmp_path):
    federation.rounds(2)
    federation.journal = tmp_path / "elsewhere" / "journal.jsonl"
    federation.rounds(2)
    assert len(federation.ledger().entries()) == 4
    check_receipts(federation.path, federation.ledger().entries())


# ------------------------------------------------------------------ the command
@pytest.fixture
def shop(tmp_path):
    """A shop's folder named `shop`, with its node's ledger where `client recover` looks for it."""
    folder = tmp_path / "shop"
    data = make_shop()
    save_merchant_data(data, folder)
    federation = Federation(folder)
    federation.path.parent.mkdir()
    return federation


def run_recover(shop, journal=None, key=None):
    journal = journal or shop.journal
    key = key or read_journal(shop.journal.read_bytes())[0].signer
    folder = shop.path.parent.parent
    arguments = ["recover", "--shop", folder, "--journal", journal, "--key", key]
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_the_command_makes_a_ledger_whole_that_was_put_back(shop, tmp_path):
    shop.rounds(2)
    shop.save(tmp_path / "backup")
    shop.rounds(3)
    spent = spent_events(shop.ledger().entries())
    shop.put_back((tmp_path / "backup").read_bytes())
    done = run_recover(shop)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "entry 3: 3 step(s) at q = 0.25, sigma = 4",
        "The ledger is whole.",
    ]
    assert spent_events(shop.ledger().entries()) == spent
    assert run_recover(shop).output.splitlines() == ["The ledger lacks nothing."]


def test_the_command_refuses_a_journal_that_is_not_there_or_anothers(shop, tmp_path):
    shop.rounds(1)
    before = len(shop.ledger().entries())
    for done, field in (
        (run_recover(shop, journal=tmp_path / "none"), "journal"),
        (run_recover(shop, journal=tmp_path), "journal"),
        (run_recover(shop, key="00" * 32), "signer"),
        (run_recover(shop, key="a key"), "signer"),
    ):
        assert isinstance(done.exception, JournalError), done.output
        assert done.exception.field == field
    assert len(shop.ledger().entries()) == before
