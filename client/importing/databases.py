"""Read one raw table from a SQL database, through SQLAlchemy and Polars. Nothing is written to it.

The address may hold a password, so no message repeats it: only the kind of database is named.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import URL, Engine, Select, TextClause, column, create_engine, inspect, select
from sqlalchemy import table as sql_table
from sqlalchemy import text as sql_text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from client.importing.files import FILE, ROW, require_columns
from client.importing.mapping import TableSource
from common.errors import InputError


def read_database(address: str, source: TableSource, columns: Sequence[str]) -> pl.DataFrame:
    """Read `columns` of the table or query of `source`, with `ROW` and `FILE` beside them.

    Raises:
        InputError: if the address, the driver, the table or a column is not there, or the
            database refuses; the message does not repeat the address.
    """
    engine = _engine(address)
    kind = engine.dialect.name
    try:
        name, query = _query(engine, source, columns)
        with engine.connect() as connection:
            frame = pl.read_database(query, connection, infer_schema_length=None)
    except (SQLAlchemyError, pl.exceptions.PolarsError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(
            f"The {kind} database cannot be read: {reason}. Check its address, that it runs and "
            "that this account may SELECT.",
            field="database_url",
        ) from None
    finally:
        engine.dispose()
    require_columns(name, columns, frame.columns)
    if frame.is_empty():
        raise InputError(f"{name}: has no rows; at least one is needed.", field="row")
    place = pl.lit(name, dtype=pl.Enum([name])).alias(FILE)
    return frame.select(columns).with_row_index(ROW, offset=1).with_columns(place)


def _engine(address: str) -> Engine:
    try:
        url = make_url(address)
        _require_sqlite_file(url)
        return create_engine(url)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            f"The database address names a kind that is not installed: {error}. Install its "
            "SQLAlchemy driver, or use sqlite, postgresql or mysql.",
            field="database_url",
        ) from None
    except (ArgumentError, ValueError):
        raise InputError(
            "The database address is not of the form dialect://user:password@host/database, such "
            "as sqlite:////srv/shop.db.",
            field="database_url",
        ) from None


def _require_sqlite_file(url: URL) -> None:
    """Refuse a SQLite file that is not there: SQLite itself would make an empty one."""
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        name = Path(url.database or "").name or "(no file)"
        raise InputError(f"{name}: no such SQLite database file.", field="database_url")


def _query(
    engine: Engine, source: TableSource, columns: Sequence[str]
) -> tuple[str, TextClause | Select[Any]]:
    if source.query is not None:
        return "query", sql_text(source.query)
    name = source.table or ""
    schema, _, bare = name.rpartition(".")
    inspector = inspect(engine)
    there = {*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)}
    if bare not in there:
        raise InputError(
            f"The {engine.dialect.name} database has no table {name!r}; it has: "
            f"{', '.join(sorted(there)[:12]) or 'none'}.",
            field="table",
        )
    require_columns(
        name, columns, [one["name"] for one in inspector.get_columns(bare, schema or None)]
    )
    picked = sql_table(bare, *(column(one) for one in columns), schema=schema or None)
    return name, select(picked)
