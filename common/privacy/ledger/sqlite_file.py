"""The ledger's SQLite file: how it is opened, and how an older one is brought to today's schema."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from common.errors import LedgerError

_BUSY_SECONDS = 30.0
APPLICATION_ID = 0x66746C31  # "ftl1" in the file's header: what SQLite and file(1) know it by

# Each brings a file from the schema of its place to the next, in one transaction. One that was
# released is never changed: files it was applied to are in use.
MIGRATIONS = (
    """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    hash TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;
CREATE TRIGGER in_order BEFORE INSERT ON entries
WHEN NEW.number != (SELECT COALESCE(MAX(number), 0) + 1 FROM entries)
BEGIN SELECT RAISE(ABORT, 'entries are numbered without a gap'); END;
""",
    f"PRAGMA application_id = {APPLICATION_ID};",
)
SCHEMA = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a new or older file to this version's schema; a stop half-way leaves it as it was.

    Raises:
        LedgerError: if the schema is a later one, or the file is somebody else's database.
    """
    connection.execute("BEGIN IMMEDIATE")  # two processes must not both migrate
    found = _number(connection, "PRAGMA user_version")
    if found > len(MIGRATIONS):
        raise LedgerError(
            f"The ledger has schema {found}; this version reads up to {len(MIGRATIONS)}.",
            field="schema",
        )
    if found == 0 and _number(connection, "SELECT COUNT(*) FROM sqlite_master"):
        raise LedgerError("The file is a database, but not a ledger.", field="ledger")
    for place, migration in enumerate(MIGRATIONS[found:], found + 1):
        for statement in split_statements(migration):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {place}")
    connection.execute("COMMIT")


def split_statements(script: str) -> list[str]:
    """Return a script's statements; `executescript` would commit between them."""
    statements, rest = [], ""
    for part in script.split(";"):
        rest += part + ";"
        if sqlite3.complete_statement(rest):
            statements.append(rest.strip())
            rest = ""
    return statements


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


@contextlib.contextmanager
def ledger_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one piece of work; what is not committed at the end is undone.

    Raises:
        LedgerError: for whatever SQLite or the disk refuses; `disk` if it is full.
    """
    try:
        if path.exists() and not path.stat().st_mode & 0o200:  # root could write: it may not
            raise LedgerError(f"The ledger {path} is read-only.", field="ledger")
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise LedgerError("The ledger's disk does not support WAL.", field="ledger")
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
        field = "disk" if full else "ledger"
        raise LedgerError(f"The ledger {path} failed: {error}.", field=field) from error
