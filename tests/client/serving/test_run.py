import random
import re
import shlex
import shutil
import signal
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx
import pytest

from client.recommending.shop_model import save_shop_model
from client.serving.run import Serving, run_service
from client.shop.dataset import load_merchant_data
from common.errors import InputError, ReleaseError
from tests.support.served import event, listening, made_model
from tests.support.serving_process import free_port, started
from tests.support.shops import command

ROOT = Path(__file__).parents[3]
KILLS = 50


@pytest.fixture
def address(tmp_path):
    """A counter behind a real uvicorn, and its address."""
    with listening(tmp_path) as (counter, port):
        yield counter, f"http://127.0.0.1:{port}"


def test_a_swap_of_models_under_load_loses_no_request(address):
    counter, address = address
    headers, stop, found = {"X-API-Key": counter.key}, threading.Event(), []

    def load():
        with httpx.Client(base_url=address, headers=headers) as client:
            while not stop.is_set():
                body = {"shopper_id": "shopper-3", "explain": True}
                answer = client.post("/v1/recommendations", json=body)
                listed = tuple(one["score"] for one in answer.json().get("items", ()))
                found.append((answer.status_code, listed))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(6):
        if seed:
            save_shop_model(made_model(seed=seed), counter.folder / "model")
            assert counter.live.refresh()
        before = len(found)
        while len(found) < before + 8:
            time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in found} == {200}
    assert len({listed for _, listed in found}) == 6  # each model's list, and none mixed of two


def test_what_is_no_http_of_ours_is_refused_and_the_service_goes_on(address):
    _, address = address
    for path in ("/%00", "/%ff", "/v1/items/%00/similar", "/" + "a" * 60_000):
        assert 400 <= httpx.post(address + path, headers={"X-API-Key": "x"}).status_code < 500
    for header in ("x" * 100_000, "a\tb"):
        answer = httpx.get(address + "/v1/release", headers={"X-API-Key": header})
        assert 400 <= answer.status_code < 500
    assert httpx.get(address + "/health/live").json() == {"status": "ok"}


def serving(folder, **changes):
    """Where a service finds its things, none of which is there."""
    nowhere = folder / "nowhere"
    return Serving(nowhere, nowhere, folder, nowhere, "sqlite://", nowhere, nowhere, **changes)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "shop.example"])  # noqa: S104 -- refused
def test_it_does_not_listen_beyond_this_machine_without_tls(tmp_path, host):
    with pytest.raises(InputError) as caught:
        run_service(serving(tmp_path, host=host), print)
    assert caught.value.field == "host"


# --------------------------------------------------------------- as a merchant does it
@pytest.fixture(scope="module")
def merchant(simulated, tmp_path_factory):
    """A folder with a release, the operator's key and a shop's tables."""
    folder = tmp_path_factory.mktemp("merchant")
    shutil.copytree(simulated / "release", folder / "release")
    shutil.copy(simulated / "operator.pub", folder / "operator.pub")
    data = load_merchant_data(min((simulated / "merchants").glob("00-*")))
    rows, items = data.interactions, data.catalogue.items
    (folder / "tables").mkdir()
    lines = [f"{item.item_id},{item.title}\n" for item in items]
    (folder / "tables" / "items.csv").write_text("item_id,title\n" + "".join(lines))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    sold = [
        f"{rows.shopper_ids[shopper]},{items[item].item_id},"
        f"{(start + timedelta(microseconds=int(when))).isoformat()}\n"
        for shopper, item, when in zip(rows.shopper, rows.item, rows.time, strict=True)
    ]
    (folder / "tables" / "events.csv").write_text("shopper_id,item_id,time\n" + "".join(sold))
    return folder


@pytest.fixture(scope="module")
def fitted(merchant, simulated, tmp_path_factory):
    """The same with the shop imported and fitted."""
    folder = tmp_path_factory.mktemp("fitted") / "merchant"
    shutil.copytree(merchant, folder)
    shop, cache = str(folder / "shop"), simulated.parent / "cache"
    tables = ["--source", str(folder / "tables"), "--out", shop]
    named = ["--release", str(folder / "release"), "--key", str(folder / "operator.pub")]
    for words in (["import", *tables], ["fit", *named, "--shop", shop]):
        done = command(["client", *words], cache)
        assert done.exception is None, done.output
    return folder


def new_key(merchant, *scopes):
    """A key of a shop, as the command that makes one prints it."""
    named = ["client", "keys", "new", "--shop", str(merchant / "shop"), "--name", "a"]
    scoped = [word for scope in scopes for word in ("--scope", scope)]
    return command([*named, *scoped], merchant / "cache").output.strip()


@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_a_recommendation(merchant, simulated, monkeypatch):
    page = (ROOT / "docs" / "how-to-serve.md").read_text("utf-8")
    first, second = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2]
    commands = [shlex.split(line) for line in first.splitlines()]
    assert len(commands) + 1 <= 6
    monkeypatch.chdir(merchant)
    cache = simulated.parent / "cache"
    for words in commands[:-1]:
        done = command(words[1:], cache)
        assert done.exception is None, done.output
    key = done.output.strip()  # what the last of them prints
    serve, port = commands[-1], free_port()
    assert serve[:3] == ["fedtail", "client", "serve"]
    words = shlex.split(second.replace("\\\n", " "))
    assert words[:2] == ["curl", "-s"]
    headers = dict(one.split(": ") for one in words if ": " in one and one[0] != "{")
    headers["X-API-Key"] = headers["X-API-Key"].replace("KEY", key)
    address = next(one for one in words if one.startswith("http")).replace("8080", str(port))
    with started(serve[1 : serve.index("--port")], merchant, port, cache) as process:
        answer = httpx.post(address, headers=headers, content=words[words.index("-d") + 1])
        assert answer.status_code == 200
        found = answer.json()
        assert len(found["items"]) == 5
        assert all(one["reason"] for one in found["items"])
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    name = found["recommendation_id"]
    again = command(["client", "replay", name, "--shop", "shop/"], cache)
    assert again.exception is None, again.output
    assert '"same": true' in again.output
    log = (merchant / "serve.log").read_text()
    assert "POST /v1/recommendations 200" in log


@pytest.mark.slow
def test_a_new_item_is_read_by_the_release_in_the_worker(fitted, simulated):
    """The real worker, with the language model."""
    key = new_key(fitted, "admin", "serve")
    port = free_port()
    options = ["--release", "release/", "--key", "operator.pub", "--shop", "shop/"]
    with started(["client", "serve", *options], fitted, port, simulated.parent / "cache"):
        base, headers = f"http://127.0.0.1:{port}", {"X-API-Key": key}
        with httpx.Client(base_url=base, headers=headers, timeout=300) as client:
            put = client.put("/v1/items/new-1", json={"title": "blue jug with lid"})
            assert put.status_code == 200
            body = {"history": [{"item_id": "item-3"}], "filters": {"allow": ["new-1"]}}
            [one] = client.post("/v1/recommendations", json=body).json()["items"]
            assert one["bucket"] == "new"
            assert client.get("/v1/budget").json()["entries"] == 0


@pytest.mark.slow
def test_a_model_of_another_release_is_refused(fitted, simulated, tmp_path):
    save_shop_model(made_model(), tmp_path / "model")
    asked = Serving(
        fitted / "release",
        fitted / "operator.pub",
        fitted / "shop",
        tmp_path / "model",
        f"sqlite:///{tmp_path / 'events.db'}",
        tmp_path / "keys.json",
        tmp_path / "cache",
    )
    with pytest.raises(ReleaseError):
        run_service(asked, print)


@pytest.mark.slow
@pytest.mark.faults
def test_killed_under_load_it_loses_no_acknowledged_event_and_counts_none_twice(fitted, simulated):
    cache = simulated.parent / "cache"
    key = new_key(fitted, "events")
    options = ["--release", "release/", "--key", "operator.pub", "--shop", "shop/"]
    port, numbers, moments = free_port(), count(), random.Random(7)
    acknowledged: set[str] = set()
    sent: set[str] = set()
    unsure: list[dict] = []  # whether the service has them, its death did not say

    def load(stop):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while not stop.is_set():
                batch = unsure or [event(f"k-{next(numbers)}") for _ in range(20)]
                unsure[:] = batch
                sent.update(one["event_id"] for one in batch)
                try:
                    answer = client.post(
                        "/v1/events", json={"events": batch}, headers={"X-API-Key": key}
                    )
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    body = answer.json()
                    assert body["accepted"] + body["duplicates"] == len(batch)
                    acknowledged.update(one["event_id"] for one in batch)
                    unsure.clear()

    for _ in range(KILLS):
        with started(["client", "serve", *options], fitted, port, cache) as process:
            stop = threading.Event()
            thread = threading.Thread(target=load, args=(stop,))
            thread.start()
            time.sleep(moments.uniform(0.05, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            stop.set()
            thread.join()
    with sqlite3.connect(fitted / "shop" / "node" / "events.db") as connection:
        rows = [row[0] for row in connection.execute("SELECT event_id FROM events")]
    kept = [name for name in rows if name.startswith("e-k-")]
    assert len(acknowledged) > KILLS * 20
    assert len(kept) == len(set(kept))
    assert acknowledged <= set(kept) <= sent
