import time

import pytest

from client.serving.feedback import list_log
from client.serving.feedback.list_log import ListLog
from client.serving.feedback.store import Store
from common.errors import StorageError
from tests.support.stores import list_row


@pytest.fixture
def store(tmp_path):
    found = Store(f"sqlite:///{tmp_path / 'events.db'}")
    yield found
    found.close()


def names(count):
    return [f"{place:032x}" for place in range(count)]


def test_a_list_is_found_at_once_and_on_disk_a_moment_later(store):
    for name in names(50):
        store.lists.add(list_row(name))
        assert store.find_list(name)["recommendation_id"] == name
    store.lists.flush()
    assert all(store.lists.pending(name) is None for name in names(50))
    assert all(store.find_list(name) is not None for name in names(50))


def test_a_disk_that_refuses_keeps_lists_waiting_and_the_newest_of_too_many(store, monkeypatch):
    def refuse(_):
        raise StorageError("full")

    monkeypatch.setattr(list_log, "writing", refuse)
    monkeypatch.setattr(list_log, "LONGEST", 3)
    for name in names(5):
        store.lists.add(list_row(name))
    with pytest.raises(StorageError):
        store.lists.flush()
    assert store.lists.lost == 2
    assert [store.lists.pending(name) is not None for name in names(5)] == [False] * 2 + [True] * 3
    monkeypatch.undo()
    store.lists.flush()
    assert store.lists.pending(names(5)[4]) is None


def test_what_is_pending_is_written_at_the_end(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'events.db'}")
    log = ListLog(store.engine)
    for name in names(20):
        log.add(list_row(name))
    log.close()
    assert all(store.find_list(name) is not None for name in names(20))
    store.close()


def test_it_writes_by_itself(store):
    store.lists.add(list_row(names(1)[0]))
    end = time.monotonic() + 30
    while store.lists.pending(names(1)[0]) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
