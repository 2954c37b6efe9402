"""The ledger's file: older schemas, and files that are none."""

import contextlib
import resource
import sqlite3

import pytest

from common.errors import LedgerError
from common.privacy.ledger import sqlite_file
from common.privacy.ledger.ledger import Ledger
from common.privacy.ledger.sqlite_file import APPLICATION_ID, SCHEMA
from tests.support.ledgers import pay, reopen


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    return Ledger.open(path, "shop", "data")


def version_1(path):
    """A file as the first schema's code left it, with one entry in it."""
    pay(Ledger.open(path, "shop", "data"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 0")
        connection.execute("PRAGMA user_version = 1")


def test_an_older_schema_is_brought_to_today_and_keeps_its_entries(path):
    version_1(path)
    ledger = reopen(path)
    assert len(ledger.entries()) == 1
    pay(ledger, 2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


@pytest.mark.parametrize("failing", ["CREATE TABLE entries (x);", "SELECT nothing FROM nowhere;"])
def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch, failing):
    version_1(path)
    broken = (*sqlite_file.MIGRATIONS, "CREATE TABLE more (x);" + failing)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "MIGRATIONS", broken)
        with pytest.raises(LedgerError):
            reopen(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "more" not in names
    assert len(reopen(path).entries()) == 1


def test_somebody_elses_database_is_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (shopper TEXT)")
        connection.commit()
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "ledger"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("orders",)]


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 99]
)
def test_a_file_that_is_no_ledger_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        reopen(path)
    assert path.read_bytes() == content


def test_a_later_schema_is_refused(path, ledger):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    with pytest.raises(LedgerError) as caught:
        reopen(path)
    assert caught.value.field == "schema"


def test_a_read_only_ledger_charges_nothing(path, ledger):
    pay(ledger)
    path.chmod(0o400)
    with pytest.raises(LedgerError):
        pay(ledger, 2)
    path.chmod(0o600)
    assert len(reopen(path).entries()) == 1


def test_a_full_disk_charges_nothing_and_loses_nothing(path, ledger):
    pay(ledger)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # the kernel refuses longer files
    try:
        with pytest.raises(LedgerError):
            pay(ledger, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(reopen(path).entries()) == 1
    pay(ledger, 2)
    assert len(reopen(path).entries()) == 2
