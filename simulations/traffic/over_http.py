"""Four weeks of a shop through HTTP: a service on the loopback, whose clock is the simulation's.

Each visit asks for a list and sends the events that come of it, as a shop's server does.
"""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray

from client.recommending.shop_model import ShopModel, save_shop_model
from client.serving.feedback.daily_rows import DAY
from client.serving.feedback.store import Store
from client.serving.http.context import Service
from client.serving.http.gate import Rate
from client.serving.http.service import create_app
from client.serving.keys import Keys
from client.serving.live_shop import LiveShop
from client.serving.worker import Worker
from common.catalogue import Catalogue
from simulations.traffic.visits import Visit, events_of, react, when

_RATE = Rate(1e6, 10**6)
LENGTH = 10  # of a list


@dataclass(eq=False)
class RunningShop:
    """A service that runs, a client of every scope, and its clock.

    Attributes:
        client: Asks the service.
        service: What it runs.
        now: Its time, in microseconds since 1970 UTC; set it to let time pass.
    """

    client: httpx.Client
    service: Service
    now: int


@dataclass(frozen=True)
class Traffic:
    """What four weeks were like.

    Attributes:
        chances: Of a click, for each item of each list.
        clicked: How many items were clicked.
        bought: How many were bought.
    """

    chances: NDArray[np.float64]
    clicked: int
    bought: int


@contextmanager
def running_shop(model: ShopModel, shop: Path, opening: int) -> Iterator[RunningShop]:
    """Serve `model` from the folder `shop`, its events in `node/events.db`, until the end."""
    save_shop_model(model, shop / "model")
    store = Store(f"sqlite:///{(shop / 'node' / 'events.db').resolve()}")
    worker = Worker(shop / "release", shop / "key", shop, shop / "cache", shop / "model")
    keys = Keys(shop / "node" / "keys.json")
    key = keys.new("simulation", ["serve", "events", "admin"])
    service = Service(LiveShop(shop / "model", store), store, worker)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = create_app(service, keys, _RATE)
        server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            headers = {"X-API-Key": key}
            with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
                found = RunningShop(client, service, opening)
                service.now = lambda: found.now
                yield found
        finally:
            server.should_exit = True
            thread.join()
            store.close()


def four_weeks(
    shop: RunningShop,
    visits: Sequence[Visit],
    clicks: NDArray[np.float64],
    names: Sequence[str],
    random: np.random.Generator,
) -> Traffic:
    """Let shoppers visit; each evening the service looks at its figures.

    Args:
        shop: Where.
        visits: In order of time.
        clicks: float64 [shoppers, items], the chance of each click.
        names: The shoppers' ids.
        random: Draws what they do.
    """
    catalogue: Catalogue = shop.service.live.snapshot.model.catalogue
    chances: list[float] = []
    clicked = bought = 0
    evening = shop.now + DAY
    for visit in visits:
        while visit.time >= evening:
            shop.now, evening = evening, evening + DAY
            shop.service.look()
        shop.now, who = visit.time, names[visit.shopper]
        listed = _asked(shop, "/v1/recommendations", {"shopper_id": who, "count": LENGTH})
        ids = [one["item_id"] for one in listed["items"]]
        items = [catalogue.index_of(name) for name in ids]
        reactions = react(clicks, visit.shopper, items, random)
        events = events_of(listed["recommendation_id"], ids, reactions)
        moment = when(visit.time)
        sent = [{**one, "shopper_id": who, "time": moment} for one in events]
        answer = _asked(shop, "/v1/events", {"events": sent})
        if answer["accepted"] != len(sent):
            raise AssertionError(answer)
        chances += clicks[visit.shopper, items].tolist()
        clicked += sum(one.clicked for one in reactions)
        bought += sum(one.bought for one in reactions)
    shop.now = max(evening, shop.now)
    shop.service.look()
    return Traffic(np.array(chances), clicked, bought)


def online(shop: RunningShop) -> dict[str, Any]:
    """Return what `/v1/online` says of all lists."""
    answer = shop.client.get("/v1/online")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _asked(shop: RunningShop, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = shop.client.post(path, json=body)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
