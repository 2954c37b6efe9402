"""The store on a real PostgreSQL: the same answers as on SQLite."""

import threading

import pytest
from sqlalchemy import text

from client.importing.feedback import read_feedback
from client.serving.experiments.running import Experiments
from client.serving.feedback.daily_rows import DAY, daily_figures
from client.serving.feedback.experiment_rows import counted_shoppers
from client.serving.feedback.online import Where, measure_online
from client.serving.feedback.store import Change, NewEvent, Store
from client.serving.http.context import Service
from client.serving.replay import replay
from tests.support.postgres import cluster
from tests.support.served import NOW, Counter, event
from tests.support.stores import list_row

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def address():
    with cluster() as found:
        yield found


@pytest.fixture
def store(address):
    """An empty store."""
    found = Store(address)
    yield found
    with found.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    found.lists.close()
    found.engine.dispose()


def fill(store):
    """Lists of an experiment with what came of them, an erasure and changes."""
    for place in range(30):
        name = f"{place:032x}"
        variant = ("own", "release")[place % 2]
        store.lists.add(
            list_row(name, place * DAY // 10, f"s-{place % 7}", variant=variant, experiment="e")
        )
        store.add_events(
            [
                NewEvent(f"{place}-{kind}", kind, place * DAY // 10 + 5, "item-3", "s", name, name)
                for kind in ("impression", "click", "purchase", "refund")[: 1 + place % 4]
            ]
        )
    store.add_changes([Change("put", "é", "Krug", "ü", "", "d" * 64, bytes(range(256)))], 1)
    store.add_changes([Change("delete", "é")], 2)
    store.erase_shopper("s-3", 3)


def told(store):
    """All that the store answers."""
    counted = counted_shoppers(store.engine, "e", 7 * DAY, 30 * DAY)
    return {
        "online": measure_online(store.engine, Where()),
        "own": measure_online(store.engine, Where(variant="own", since=DAY, until=2 * DAY)),
        "changes": store.changes(),
        "erased": (store.is_erased("s-3"), store.is_erased("s-4")),
        "lists": [store.find_list(f"{place:032x}") for place in range(30)],
        "counted": {
            arm: sorted(zip(*(one.tolist() for one in found), strict=True))
            for arm, found in counted.items()
        },
    }


def test_it_answers_as_sqlite_does(store, tmp_path):
    other = Store(f"sqlite:///{tmp_path / 'events.db'}")
    for one in (store, other):
        fill(one)
        one.lists.flush()
    assert told(store) == told(other)
    assert store.is_writable()
    assert measure_online(store.engine, Where()).impressions > 0
    other.close()


def test_an_event_that_several_send_at_once_counts_once(store):
    kept = []

    def write():
        for one in range(30):
            batch = [NewEvent(f"{one}-{two}", "click", 1, "item-1") for two in range(5)]
            kept.append(sum(store.add_events(batch)))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 6 * 30
    assert sum(kept) == 30 * 5


def test_services_that_open_it_at_once_make_it_once(store, address):
    with store.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    found, failed = [], []

    def open_it():
        try:
            found.append(Store(address))
        except Exception as error:  # noqa: BLE001 -- told below
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len({one.keyed_hash("arm", "anna") for one in found}) == 1
    for one in found:
        one.close()


def test_the_service_serves_counts_watches_and_replays_on_it(store, tmp_path):
    counter = Counter(tmp_path)
    counter.store.close()
    counter.store = counter.live._store = store
    counter.app.state.service = service = Service(
        counter.live, store, counter.worker, now=lambda: NOW
    )
    body = {"baseline": "own", "challenger": "release", "window_days": 0.01}
    assert counter.ask("PUT", "/v1/experiments/autumn", json=body).status_code == 200
    one = counter.recommend(shopper_id="shopper-3")
    item, name = one["items"][0]["item_id"], one["recommendation_id"]
    for _ in range(2):
        found = counter.send(
            event(1, "purchase", item, recommendation_id=name, shopper_id="shopper-3")
        )
    assert found == {"accepted": 0, "duplicates": 1, "rejected": []}
    counter.ask("PUT", "/v1/items/new", json={"title": "Amber jug"})
    counter.ask("PUT", "/v1/stock", json={"items": [{"item_id": "item-1", "quantity": 2}]})
    assert counter.ask("GET", "/health/ready").status_code == 200
    assert counter.ask("GET", "/v1/online").json()["conversions"]["count"] == 1
    assert replay(store, name, counter.folder / "model")["same"]
    service.now = lambda: NOW + 3 * DAY
    service.look()
    assert [one.lists for one in daily_figures(store.engine)][:1] == [1]
    assert counter.ask("GET", "/v1/alerts").json() == {"alerts": []}
    told = counter.ask("POST", "/v1/experiments/autumn/stop", json={}).json()
    assert told["winner"] == "own"
    assert Experiments(store, counter.live, NOW).all()[0].reason == "asked"
    assert counter.ask("DELETE", "/v1/shoppers/shopper-3").status_code == 204
    assert counter.ask("GET", "/v1/online").json()["conversions"]["count"] == 0


def test_an_import_could_read_its_purchases(store, address):
    store.add_events([NewEvent("1", "purchase", 5, "item-1", "anna", None, "order")])
    [one] = read_feedback(address)
    assert one.shopper_id == "anna"
