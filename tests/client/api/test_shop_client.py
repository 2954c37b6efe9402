import json
import subprocess
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.api import messages
from client.api.errors import ProblemError, ServiceError, ServiceUnavailableError
from client.api.messages import Event, Filters, ListOptions
from client.api.shop_client import ShopClient
from client.serving import messages as served_messages
from client.serving.feedback import store
from tests.support.listening import answering, listening
from tests.support.served import NOW, Counter
from tests.support.serving_process import free_port

ROOT = Path(__file__).parents[3]
THEN = datetime.fromtimestamp(NOW / 1e6, UTC)
KEPT = (200, {}, b'{"accepted": 1, "duplicates": 0, "rejected": []}')
BUSY = (503, {"Retry-After": "1"}, b'{"title": "Not available just now", "status": 503}')
ONE = [Event("click", "item-3")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A real service on the loopback, and a client of it."""
    counter = Counter(tmp_path_factory.mktemp("counter"))
    with listening(counter.app) as address, ShopClient(address, counter.key) as client:
        yield counter, client
    counter.store.close()


def client_of(address, waits=None, **more):
    """A client that notes its waits and does not wait."""
    return ShopClient(address, "a-secret", sleep=([] if waits is None else waits).append, **more)


# ------------------------------------------------------------- against the real service
def test_a_list_its_events_and_more_of_it(shop):
    _, client = shop
    found = client.recommend(
        history=["item-3", "item-5"],
        options=ListOptions(count=4, surface="basket", explain=True),
    )
    assert [one.rank for one in found.items] == [1, 2, 3, 4]
    assert all(one.reason for one in found.items)
    assert found.fallback is None
    events = [
        Event("impression", one.item_id, found.recommendation_id, time=THEN) for one in found.items
    ]
    assert client.send_events(events).accepted == 4
    answer = client.send_events(events)
    assert (answer.accepted, answer.duplicates) == (0, 4)
    shown = {one.item_id for one in found.items}
    after = client.more(found.recommendation_id, 3)
    assert len(after.items) == 3
    assert shown.isdisjoint(one.item_id for one in after.items)


def test_who_is_asked_for_decides_the_list(shop):
    _, client = shop
    assert client.recommend().fallback == "no_history"
    assert client.recommend(shopper_id="nobody").fallback == "unknown_shopper"
    assert client.recommend(shopper_id="shopper-3").fallback is None
    rules = Filters(categories=["Kitchen"], deny=["item-0"])
    few = client.recommend(history=["item-1"], options=ListOptions(filters=rules))
    assert {int(one.item_id.split("-")[1]) % 2 for one in few.items} == {0}


@pytest.mark.parametrize(
    "item_id", ["a/b", "..", ".", "50%", "a?b=c#d", "茶杯", " a ", "a%2Fb", "x" * 256]
)
def test_any_id_is_put_found_and_taken_out(shop, item_id):
    counter, client = shop
    client.put_item(item_id, title="blue jug")
    assert item_id in counter.live.snapshot.model.catalogue
    assert client.similar(item_id).items
    client.put_stock([(item_id, 2)])
    client.delete_item(item_id)
    only = ListOptions(filters=Filters(allow=[item_id]))
    assert client.recommend(history=["item-1"], options=only).items == ()


def test_a_rejected_event_is_told_by_its_index_over_all_requests(shop):
    _, client = shop
    events = [Event("click", "item-3", time=THEN) for _ in range(1001)]
    events.append(Event("click", "no-such-item", time=THEN))
    answer = client.send_events(events)
    assert answer.accepted == 1001
    assert answer.rejected == {1001: "item_id: the shop has no such item"}


def test_a_shopper_is_forgotten(shop):
    _, client = shop
    client.forget_shopper("shopper-7")
    assert client.recommend(shopper_id="shopper-7").fallback == "unknown_shopper"


def test_a_problem_is_told_with_its_fields(shop):
    _, client = shop
    with pytest.raises(ProblemError) as caught:
        client.recommend(history=["item-1"], options=ListOptions(count=0))
    assert caught.value.status == 422
    assert caught.value.errors[0]["pointer"] == "#/count"
    assert str(caught.value).startswith("422 The request is not valid: ")


def test_a_key_that_is_not_valid_is_no_secret_in_the_error(shop):
    _, client = shop
    address = str(client._http.base_url)
    with client_of(address) as stranger, pytest.raises(ProblemError) as caught:
        stranger.forget_shopper("ann@shop.example")
    assert caught.value.status == 401
    told = "".join(traceback.format_exception(caught.value))
    assert "a-secret" not in told
    assert "ann@shop" not in repr(caught.value) + str(caught.value)


# ------------------------------------------------------------- when it does not answer
def test_events_are_tried_again_and_a_list_is_not():
    waits = []
    with answering(BUSY, None, KEPT) as (address, came), client_of(address, waits) as client:
        assert client.send_events(ONE).accepted == 1
    assert len({body for _, _, _, body in came}) == 1  # with the same event_id
    assert waits == [1.0, 0.4]
    for answer, error in ((BUSY, ProblemError), (None, ServiceUnavailableError)):
        with answering(answer) as (address, came), client_of(address) as client:
            with pytest.raises(error):
                client.recommend()
            assert len(came) == 1


def test_it_gives_up_after_three_tries():
    with answering(BUSY, BUSY, BUSY) as (address, came), client_of(address) as client:
        with pytest.raises(ProblemError) as caught:
            client.put_stock([("a", 1)])
        assert caught.value.retry_after == 1.0
        assert len(came) == 3


def test_a_wait_of_minutes_is_the_shops_to_decide():
    far = (503, {"Retry-After": "600"}, b"{}")
    waits = []
    with answering(far) as (address, came), client_of(address, waits) as client:
        with pytest.raises(ProblemError):
            client.send_events(ONE)
        assert (len(came), waits) == (1, [])


def test_where_nobody_listens_a_list_is_tried_again_too():
    waits = []
    client = client_of(f"http://127.0.0.1:{free_port()}", waits)
    with client, pytest.raises(ServiceUnavailableError):
        client.recommend()
    assert len(waits) == 2


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[1]", b"", b"\xff"])
def test_a_proxys_own_page_is_a_problem_too(body):
    with answering((502, {}, body)) as (address, _), client_of(address) as client:
        with pytest.raises(ProblemError) as caught:
            client.recommend()
        assert caught.value.status == 502


def test_a_redirect_is_not_followed_with_the_key():
    with answering((307, {"Location": "http://127.0.0.1:1/"}, b"")) as (address, came):
        with client_of(address) as client, pytest.raises(ProblemError):
            client.recommend()
        assert len(came) == 1


def test_fields_of_a_later_version_are_left_out():
    item = {"item_id": "a", "rank": 1, "score": 1.0, "chance": None, "bucket": "new", "later": 1}
    body = {"recommendation_id": "0" * 32, "release": "r", "variant": "v", "fallback": None}
    later = json.dumps(body | {"items": [item], "experiment": "e"}).encode()
    with answering((200, {}, later)) as (address, _), client_of(address) as client:
        assert client.recommend().items[0].item_id == "a"


# ------------------------------------------------------------- what it is
@pytest.mark.parametrize(
    "address", ["", "shop", "ftp://127.0.0.1", "http://shop.example", "http://192.0.2.1:8080"]
)
def test_the_key_does_not_go_over_a_network_in_the_clear(address):
    with pytest.raises(ValueError, match=r"^address: "):
        ShopClient(address, "a-secret")


def test_an_event_without_a_time_zone_is_not_sent():
    with pytest.raises(ValueError, match="time zone"):
        Event("click", "a", time=datetime(2026, 1, 1)).body()  # noqa: DTZ001 -- on purpose


def test_it_knows_the_services_own_words():
    assert set(Event.__annotations__) <= set(served_messages.Event.model_fields)
    assert set(Filters.__annotations__) == set(served_messages.ListFilters.model_fields)
    assert set(ListOptions.__annotations__) == set(served_messages.ListOptions.model_fields)
    for name in ("Recommendations", "RecommendedItem", "EventsAnswer"):
        own, served = (getattr(one, name) for one in (messages, served_messages))
        assert set(own.__annotations__) == set(served.model_fields)
    assert set(messages.Bucket.__args__) == set(served_messages.Bucket.__args__)
    assert set(messages.EventType.__args__) == set(store.EventType.__args__)
    assert issubclass(ProblemError, ServiceError)


def test_a_shops_server_loads_httpx_and_nothing_heavy():
    script = (
        "import sys; import client.api.shop_client; "
        "print({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'pydantic', 'fastapi', 'flwr', 'polars', 'common', 'sqlalchemy'})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"
