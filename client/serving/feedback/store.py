"""Keep lists and events. An event is acknowledged once it is on disk, and counted once."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select, text

from client.serving.feedback.database import RowExistsError, open_database, told_plainly, writing
from client.serving.feedback.list_log import ListLog
from client.serving.feedback.tables import (
    CATALOGUE_CHANGES,
    ERASURES,
    EVENTS,
    RECOMMENDATIONS,
    SETTINGS,
)
from common.errors import StorageError

EventType = Literal["impression", "click", "add_to_cart", "purchase", "refund", "dismiss"]
_HASH_KEY = "erasure_key"
_FEW = 500  # names in one statement
_TRIES = 3


class NewEvent(NamedTuple):
    """An event that was found well formed."""

    event_id: str
    type: EventType
    time: int
    item_id: str
    shopper_id: str | None = None
    recommendation_id: str | None = None
    order_id: str | None = None


@dataclass(frozen=True)
class Change:
    """One change of the catalogue or stock since the model was fitted; see the table."""

    kind: Literal["put", "delete", "in_stock", "out_of_stock"]
    item_id: str
    title: str | None = None
    text: str | None = None
    category: str | None = None
    release_digest: str | None = None
    vectors: bytes | None = None
    version: int = 0


class Store:
    """Lists, events, changes of the catalogue and erasures, in one database.

    Raises:
        StorageError: from any method, if the database cannot be used.
    """

    def __init__(self, address: str) -> None:
        """Open a store, or make one.

        Raises:
            InputError: if the address is not one.
        """
        self.engine: Engine = open_database(address)
        self._hash_key = _secret(self.engine)
        self.lists = ListLog(self.engine)

    def close(self) -> None:
        """Write what is pending and let go of the database."""
        self.lists.close()
        self.engine.dispose()

    def is_writable(self) -> bool:
        """Whether a row can be written just now. None is."""
        try:
            with told_plainly(), writing(self.engine) as connection:
                values = {"name": "probe", "value": b""}
                connection.execute(insert(SETTINGS).values(values))
                connection.execute(delete(SETTINGS).where(SETTINGS.c.name == "probe"))
        except StorageError:
            return False
        return True

    # -------------------------------------------------------------- lists
    def find_list(self, recommendation_id: str) -> Mapping[str, Any] | None:
        """Return a list's row, `inputs` and `items` read from their JSON; None if there is none."""
        return self._find_lists([recommendation_id]).get(recommendation_id)

    def _find_lists(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        found = {name: row for name in names if (row := self.lists.pending(name)) is not None}
        rest = [name for name in names if name not in found]
        with told_plainly(), self.engine.connect() as connection:
            for start in range(0, len(rest), _FEW):
                some = RECOMMENDATIONS.c.recommendation_id.in_(rest[start : start + _FEW])
                rows = connection.execute(select(RECOMMENDATIONS).where(some)).mappings()
                found |= {row["recommendation_id"]: row for row in rows}
        return {
            name: {**row, "inputs": json.loads(row["inputs"]), "items": json.loads(row["items"])}
            for name, row in found.items()
        }

    # -------------------------------------------------------------- events
    def add_events(self, events: Sequence[NewEvent]) -> list[bool]:
        """Keep those that are new; return for each whether it was. When it returns, they are safe.

        An item that was in the list it names is credited to that list; another is kept without.
        """
        named = sorted({one.recommendation_id for one in events if one.recommendation_id})
        lists = self._find_lists(named)
        rows = [_row(one, lists.get(one.recommendation_id or "")) for one in events]
        for _ in range(_TRIES):
            try:
                with told_plainly(), writing(self.engine) as connection:
                    return _insert_new(connection, rows)
            except RowExistsError:
                continue  # another process wrote one of them meanwhile: look again
        raise StorageError("The store is busy; send the events again.", field="store")

    # -------------------------------------------------------------- catalogue
    def add_changes(self, changes: Sequence[Change], time: int) -> int:
        """Append changes; return the version of the last."""
        with told_plainly(), writing(self.engine) as connection:
            columns = (column.name for column in CATALOGUE_CHANGES.c)
            names = [name for name in columns if name not in {"version", "time"}]
            rows = [
                {name: getattr(one, name) for name in names} | {"time": time} for one in changes
            ]
            if rows:
                connection.execute(insert(CATALOGUE_CHANGES), rows)
            newest = select(CATALOGUE_CHANGES.c.version).order_by(
                CATALOGUE_CHANGES.c.version.desc()
            )
            return int(connection.execute(newest.limit(1)).scalar() or 0)

    def changes(self, until: int | None = None) -> list[Change]:
        """Return the changes up to a version, in order; all of them without one."""
        query = select(CATALOGUE_CHANGES).order_by(CATALOGUE_CHANGES.c.version)
        if until is not None:
            query = query.where(CATALOGUE_CHANGES.c.version <= until)
        with told_plainly(), self.engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [Change(**{k: v for k, v in row.items() if k != "time"}) for row in rows]

    # -------------------------------------------------------------- erasure
    def erase_shopper(self, shopper_id: str, time: int) -> int:
        """Delete all rows of a shopper, and keep a keyed hash of the id; return how many rows went.

        The hash keeps the model, which is fitted anew later, from ranking by their purchases.
        """
        self.lists.forget(shopper_id)
        gone = 0
        with told_plainly(), writing(self.engine) as connection:
            for table in (EVENTS, RECOMMENDATIONS):
                result = connection.execute(delete(table).where(table.c.shopper_id == shopper_id))
                gone += result.rowcount
            hashed = self._hashed(shopper_id)
            connection.execute(delete(ERASURES).where(ERASURES.c.shopper_hash == hashed))
            connection.execute(insert(ERASURES).values(shopper_hash=hashed, time=time))
        if self.engine.dialect.name == "sqlite":
            with told_plainly(), self.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))  # the log held them too
        return gone

    def is_erased(self, shopper_id: str) -> bool:
        """Whether a shopper asked to be forgotten."""
        query = select(ERASURES.c.time).where(ERASURES.c.shopper_hash == self._hashed(shopper_id))
        with told_plainly(), self.engine.connect() as connection:
            return connection.execute(query).first() is not None

    def keyed_hash(self, purpose: str, text: str) -> bytes:
        """Return 32 bytes that only this store can make of a text; purposes have nothing in common.

        Args:
            purpose: At most 16 ASCII letters.
            text: Anything.
        """
        key, person = self._hash_key, purpose.encode()
        return hashlib.blake2b(text.encode(), key=key, person=person, digest_size=32).digest()

    def _hashed(self, shopper_id: str) -> str:
        return hashlib.blake2b(shopper_id.encode(), key=self._hash_key, digest_size=32).hexdigest()


def _secret(engine: Engine) -> bytes:
    """Return the store's key, made by the first that opens it."""
    query = select(SETTINGS.c.value).where(SETTINGS.c.name == _HASH_KEY)
    made = {"name": _HASH_KEY, "value": secrets.token_bytes(32)}
    with contextlib.suppress(RowExistsError), told_plainly(), writing(engine) as connection:
        if connection.execute(query).scalar() is None:
            connection.execute(insert(SETTINGS).values(made))
    with told_plainly(), engine.connect() as connection:
        return bytes(connection.execute(query).scalar_one())


def _row(event: NewEvent, listed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an event's row; only the list itself says what it held, and where."""
    row: dict[str, Any] = event._asdict() | {"recommendation_id": None}
    row |= dict.fromkeys(("position", "surface", "variant", "bucket"))
    for place, one in enumerate(listed["items"] if listed else (), 1):
        if one["item_id"] == event.item_id and listed is not None:
            row |= {
                "recommendation_id": event.recommendation_id,
                "position": place,
                "surface": listed["surface"],
                "variant": listed["variant"],
                "bucket": one["bucket"],
            }
    return row


def _insert_new(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[bool]:
    names = [row["event_id"] for row in rows]
    known: set[str] = set()
    for start in range(0, len(names), _FEW):
        some = EVENTS.c.event_id.in_(names[start : start + _FEW])
        known |= set(connection.execute(select(EVENTS.c.event_id).where(some)).scalars())
    fresh = []
    for name in names:
        fresh.append(name not in known)
        known.add(name)  # the same id twice in one batch is one event
    new = [row for row, is_new in zip(rows, fresh, strict=True) if is_new]
    if new:
        connection.execute(insert(EVENTS), new)
    return fresh
