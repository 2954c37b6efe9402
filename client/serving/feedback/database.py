"""Open the store's database: SQLite that is durable when it says so, or any address of SQLAlchemy.

A commit has reached the disk when it returns (WAL with synchronous=FULL), and deleted rows are
overwritten (secure_delete). The file is for its owner alone.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common.errors import InputError, StorageError
from common.files import PRIVATE_MODE

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
    "busy_timeout=5000",
)

_MIGRATING = threading.Lock()
_ADVISORY = 0x666564_7461696C  # "fedtail": PostgreSQL's lock of a migration, held to the commit


class RowExistsError(StorageError):
    """Another process wrote a row of that key meanwhile."""


def open_database(address: str) -> Engine:
    """Return an engine on a database with today's tables.

    Raises:
        InputError: if the address or its driver is not there; the message does not repeat it.
        StorageError: if the database cannot be opened, read or written.
    """
    try:
        url = make_url(address)
        if url.get_backend_name() == "sqlite":
            engine = _sqlite(url.database or "")
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ModuleNotFoundError, ArgumentError, ValueError):
        raise InputError(
            "The store's address is not of the form dialect://user:password@host/database, such as "
            "sqlite:////srv/shop/events.db, or its driver is not installed.",
            field="store",
        ) from None
    with told_plainly(), writing(engine) as connection:
        migrate(connection)
    return engine


def migrate(connection: Connection) -> None:
    """Bring the tables to today's, in the transaction of `connection`.

    One at a time: Alembic's context belongs to the process, and PostgreSQL would let two services
    that start at once make the same table. SQLite has one writer anyway.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    with _MIGRATING:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY})")
        command.upgrade(config, "head")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a transaction that may write, and has the disk's word for it when it ends well.

    SQLite has one writer: it is one from its first statement on, so that it never waits in vain.
    """
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn what a database refuses into an error without a row in it.

    Raises:
        RowExistsError: if a row of that key is there.
        StorageError: with the database's own reason, such as a full disk.
    """
    try:
        yield
    except PoolTimeoutError:
        raise StorageError("The store is busy; try again.", field="store") from None
    except IntegrityError:
        raise RowExistsError("The store has that row already.", field="store") from None
    except DBAPIError as error:
        # Of the driver's words only SQLite's are known to hold no value of a row.
        known = isinstance(error.orig, sqlite3.OperationalError)
        reason = str(error.orig) if known else type(error.orig).__name__
        raise StorageError(f"The store cannot be used just now: {reason}.", field="store") from None


def _sqlite(name: str) -> Engine:
    if name in {"", ":memory:"}:
        raise ValueError(name)
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE))
    except OSError as error:
        raise StorageError(
            f"{path.name}: the store cannot be opened: {error.strerror}.", field="store"
        ) from None
    engine = create_engine(f"sqlite:///{path}", connect_args={"isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
