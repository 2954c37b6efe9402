import sqlite3
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from client.serving.feedback.store import Change, NewEvent, Store
from client.serving.feedback.tables import EVENTS
from common.errors import InputError, StorageError
from tests.support.stores import list_row

NAME = "a" * 32


@pytest.fixture
def store(tmp_path):
    found = Store(f"sqlite:///{tmp_path / 'node' / 'events.db'}")
    yield found
    found.close()


def rows(store):
    with store.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(EVENTS)).mappings()]


@settings(max_examples=15)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=4))
def test_an_event_counts_once_however_often_and_in_whatever_batches_it_comes(
    tmp_path_factory, batches
):
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('once') / 'events.db'}")
    known: set[int] = set()
    for batch in batches:
        fresh = store.add_events([NewEvent(str(one), "click", 1, "item-1") for one in batch])
        for one, was_new in zip(batch, fresh, strict=True):
            assert was_new == (one not in known)
            known.add(one)
    assert {row["event_id"] for row in rows(store)} == {str(one) for one in known}
    store.close()


def test_only_what_the_list_held_is_credited_and_the_list_says_where(store):
    store.lists.add(list_row(NAME, shopper="anna", variant="own"))
    store.add_events(
        [
            NewEvent("1", "click", 5, "item-3", "anna", NAME),
            NewEvent("2", "click", 5, "item-99", "anna", NAME),
            NewEvent("3", "click", 5, "item-3", "anna", "b" * 32),
        ]
    )
    first, *others = rows(store)
    assert (first["recommendation_id"], first["position"]) == (NAME, 4)
    assert (first["surface"], first["variant"], first["bucket"]) == ("home", "own", "tail")
    assert all(row["recommendation_id"] is row["variant"] is None for row in others)


def test_changes_come_back_in_order_up_to_a_version(store):
    assert store.changes() == []
    first = store.add_changes([Change("put", "a", "T", "t", "c", "d" * 64, b"\0\1")], 1)
    second = store.add_changes([Change("delete", "a"), Change("in_stock", "b")], 2)
    assert [one.kind for one in store.changes()] == ["put", "delete", "in_stock"]
    assert store.changes(until=first)[0].vectors == b"\0\1"
    assert len(store.changes(until=first)) == 1
    assert [one.version for one in store.changes()] == sorted({first, second - 1, second})


def test_an_erasure_leaves_no_byte_of_the_shopper(store, tmp_path):
    who = "anna@shop.example"
    store.lists.add(list_row(NAME, shopper=who))
    store.lists.flush()
    store.lists.add(list_row("b" * 32, shopper=who))  # pending
    store.add_events([NewEvent("1", "click", 5, "item-3", who)])
    assert not store.is_erased(who)
    assert store.erase_shopper(who, 9) >= 2
    assert store.is_erased(who)
    assert store.find_list(NAME) is store.find_list("b" * 32) is None
    assert store.erase_shopper(who, 10) == 0
    for path in (tmp_path / "node").iterdir():
        assert who.encode() not in path.read_bytes()


def test_it_is_as_it_was_when_it_is_opened_again(store, tmp_path):
    store.lists.add(list_row(NAME))
    store.erase_shopper("anna", 1)
    hashed = store.keyed_hash("arm", "anna")
    store.close()
    again = Store(f"sqlite:///{tmp_path / 'node' / 'events.db'}")
    assert again.find_list(NAME)["items"][0]["item_id"] == "item-0"
    assert again.is_erased("anna")
    assert again.keyed_hash("arm", "anna") == hashed != again.keyed_hash("other", "anna")
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    assert other.keyed_hash("arm", "anna") != hashed
    again.close()
    other.close()


def test_the_file_is_for_its_owner_and_survives_a_crash_of_the_machine(store, tmp_path):
    path = tmp_path / "node" / "events.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with store.engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert found == ["wal", 2, 1]


@pytest.mark.parametrize("address", ["", "nothing", "sqlite://", "sqlite:///:memory:", "odd://x/y"])
def test_an_address_that_is_none_is_refused_without_being_repeated(address):
    with pytest.raises(InputError) as caught:
        Store(address)
    assert caught.value.field == "store"


def test_what_the_database_refuses_is_told_without_a_row(store, tmp_path):
    with sqlite3.connect(tmp_path / "node" / "events.db") as connection:
        connection.execute("DROP TABLE events")
    with pytest.raises(StorageError) as caught:
        store.add_events([NewEvent("secret-1", "click", 5, "secret-item", "secret-anna")])
    assert "secret" not in str(caught.value)
    assert store.is_writable()


def test_many_writers_lose_nothing(store):
    def write(number):
        for one in range(10):
            store.add_events([NewEvent(f"{number}-{one}", "click", 1, "item-1")])
            store.add_events([NewEvent(f"all-{one}", "click", 1, "item-1")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(store)) == 4 * 10 + 10
