"""A drill: the disk is lost, and what a copy would forget is found before it is put back."""

import json
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from common.errors import EnrolmentError, InputError, JournalError, SettingsError
from common.identity.node_key import NodeKey
from common.privacy.ledger.ledger import Ledger
from server.cli import app
from server.operations.backup import (
    LIST,
    back_up,
    read_backup,
    read_receipt,
    restore,
    unheard,
)
from server.operations.folder import ServerFolder
from server.operations.registry import EnrolledNode, Registry, write_registry
from server.run.journal import Journal
from tests.support.doors import now, operator
from tests.support.flower_engine import free_port
from tests.support.ledgers import PLAN, pay

pytestmark = pytest.mark.attack


class Town:
    """A server with a journal, and the ledger of one merchant."""

    def __init__(self, root):
        self.server = operator(root / "server", free_port())
        self.ledger = Ledger.open(root / "ledger.sqlite", "ash", "data")
        self.covers = ""
        self.receipts = root / "ledger.sqlite.receipts"
        self.server.database.parent.mkdir()
        with closing(sqlite3.connect(self.server.database)) as link:
            link.execute("create table node (name text)")
            link.execute("insert into node values ('ash')")
            link.commit()
        for made_again in (self.server.cache, self.server.logs, self.server.proxy):
            made_again.mkdir()
            (made_again / "a").write_text("x")

    def round(self, number):
        pay(self.ledger, number)
        head = self.ledger.signed_head(self.covers)
        with Journal(self.server.journal, PLAN, "run") as journal:
            journal.append("train", round_number=number, heads={"ash": head}, participants=("ash",))
            receipt, signer = journal.last["ash"], journal.signer
        self.covers = head.hash
        self.receipts.write_text(json.dumps({signer: receipt.to_json()}))

    def restored(self, copy, root, **options):
        given = options.pop("receipts", False)
        receipts = [read_receipt(copy, self.receipts)] if given else []
        return restore(copy, root, receipts=receipts, **options)


@pytest.fixture
def town(tmp_path):
    return Town(tmp_path)


@pytest.fixture
def copy(town, tmp_path):
    town.round(1)
    back_up(town.server, tmp_path / "copy", now())
    return tmp_path / "copy"


def test_a_copy_that_nothing_came_after_is_put_back_by_a_nodes_word(town, copy, tmp_path):
    shutil.rmtree(town.server.root)
    assert town.restored(copy, tmp_path / "again", receipts=True) == 0
    again = ServerFolder(tmp_path / "again")
    assert again.settings()
    for secret in (*again.online.glob("*.key"), again.registry, again.journal.with_suffix(".key")):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(again.root.stat().st_mode) == 0o700
    with closing(sqlite3.connect(again.database)) as link:
        assert link.execute("select name from node").fetchall() == [("ash",)]
    assert not (again.root / LIST).exists()
    assert not again.cache.exists()
    with Journal(again.journal, PLAN, "run") as journal:  # it goes on
        journal.append("refusal", reason="a test")


def test_a_copy_that_would_forget_a_round_is_not_put_back(town, copy, tmp_path):
    town.round(2)
    with pytest.raises(JournalError, match="older than a receipt that ash holds"):
        town.restored(copy, tmp_path / "again", receipts=True)
    assert not (tmp_path / "again").exists()


def test_with_the_journal_as_it_was_last_nothing_is_forgotten(town, copy, tmp_path):
    town.round(2)
    last = town.server.journal.read_bytes()
    cut = tmp_path / "journal.jsonl"
    cut.write_bytes(last + b'{"half a line')
    assert town.restored(copy, tmp_path / "again", journal=cut) == 2  # the run's, and the round's
    assert ServerFolder(tmp_path / "again").journal.read_bytes() == last


def test_without_anybodys_word_a_copy_is_not_put_back(town, copy, tmp_path):
    with pytest.raises(JournalError, match="Nothing says what came after"):
        town.restored(copy, tmp_path / "again")


def test_a_copy_from_before_the_first_round_is_not_put_back_over_rounds(town, tmp_path):
    key = NodeKey.generate().public
    node = EnrolledNode(key.line, "2026-11-30T00:00:00+00:00")
    write_registry(town.server.registry, Registry(nodes={"ash": node}))
    copy = tmp_path / "copy"
    back_up(town.server, copy, now())
    town.round(1)
    with pytest.raises(JournalError, match="older than the first round"):
        town.restored(copy, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert town.restored(copy, tmp_path / "again", journal=town.server.journal) == 2
    never = tmp_path / "never.jsonl"
    never.touch()
    assert town.restored(copy, tmp_path / "unused", journal=never) == 0


def test_who_was_enrolled_and_had_no_round_is_named(town, tmp_path):
    """Only such a merchant's own receipt could say that it took part after the copy."""
    keys = {name: NodeKey.generate().public.line for name in ("ash", "birch", "cedar")}
    nodes = {name: EnrolledNode(key, "2026-11-30T00:00:00+00:00") for name, key in keys.items()}
    nodes["cedar"] = replace(nodes["cedar"], revoked="2026-11-30T01:00:00+00:00")
    write_registry(town.server.registry, Registry(nodes=nodes))
    town.round(1)
    copy = tmp_path / "copy"
    back_up(town.server, copy, now())
    assert unheard(copy, ()) == ["birch"]
    words = ("restore", copy, "--folder", tmp_path / "again", "--receipt", town.receipts)
    shown = CliRunner().invoke(app, [str(one) for one in words], catch_exceptions=False)
    assert "who had in none before: birch." in shown.output


def test_a_copy_and_what_is_put_back_have_the_modes_of_the_files(town, copy, tmp_path):
    private = (town.server.database, town.server.journal)
    for path in private:
        path.chmod(0o600)
    back_up(town.server, tmp_path / "copy 2", now())
    town.restored(tmp_path / "copy 2", tmp_path / "again", receipts=True)
    for root in (tmp_path / "copy 2", tmp_path / "again"):
        for path in private:
            inner = root / path.relative_to(town.server.root)
            assert stat.S_IMODE(inner.stat().st_mode) == 0o600


def test_another_journal_does_not_go_on_from_the_copys(town, copy, tmp_path):
    other = Town(tmp_path / "other")
    other.round(1)
    other.round(2)
    with pytest.raises(JournalError, match="does not go on"):
        town.restored(copy, tmp_path / "again", journal=other.server.journal)
    with pytest.raises(InputError, match="no receipt of this server's journal"):
        read_receipt(copy, other.receipts)


def test_a_receipt_that_was_altered_is_none(town, copy):
    told = json.loads(town.receipts.read_text())
    ((signer, text),) = told.items()
    town.receipts.write_text(json.dumps({signer: text.replace('"number":1', '"number":0')}))
    with pytest.raises(InputError):
        read_receipt(copy, town.receipts)


@pytest.mark.parametrize("harm", ["alter", "remove", "add", "list"])
def test_a_copy_that_is_not_as_it_was_made_is_refused(town, copy, tmp_path, harm):
    if harm == "alter":
        (copy / "nodes.json").write_text("{}")
    elif harm == "remove":
        (copy / "operator.pub").unlink()
    elif harm == "add":
        (copy / "runs").mkdir()
        (copy / "runs" / "x").write_text("x")
    else:
        (copy / LIST).write_text("[]")
    with pytest.raises(InputError):
        town.restored(copy, tmp_path / "again", receipts=True)


def test_nothing_is_written_over(town, copy, tmp_path):
    with pytest.raises(EnrolmentError):
        back_up(town.server, copy, now())
    with pytest.raises(EnrolmentError):
        town.restored(copy, town.server.root, receipts=True)
    with pytest.raises(SettingsError):
        back_up(ServerFolder(tmp_path / "no server"), tmp_path / "copy 2", now())


def test_a_line_that_was_being_written_is_not_in_the_copy(town, tmp_path):
    town.round(1)
    with town.server.journal.open("ab") as file:
        file.write(b'{"half')
    made = back_up(town.server, tmp_path / "copy", now())
    assert read_backup(tmp_path / "copy") == made
    assert made.entries == 2
