"""Shop models for tests of serving: random, seeded, and made without a language model."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import numpy as np
import uvicorn

from client.privacy.next_run import NextRun
from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.purchase_probability import ClickChances
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import TextScorer
from client.recommending.shop_model import ModelSource, ShopModel, save_shop_model
from client.serving.feedback.store import Store
from client.serving.http.connections import Address, server_config
from client.serving.http.context import Service
from client.serving.http.gate import USUAL_RATE
from client.serving.http.service import create_app
from client.serving.keys import Keys
from client.serving.live_shop import LiveShop
from client.serving.page.outlook import COMPARED, METRICS
from client.serving.page.preview import BOOSTS
from common.catalogue import Catalogue, Item, popularity_buckets
from common.evaluation.calibration import ClickCurve
from tests.support.serving_process import free_port
from tests.support.shops import make_catalogue, make_interactions

SOURCE = ModelSource(
    release="2026.11.24", release_digest="a" * 64, data_digest="b" * 64, code_digest="c" * 64
)


def made_model(*, items=60, shoppers=40, width=16, seed=0):
    """A model of a random shop; categories are Kitchen and Garden in turn."""
    random = np.random.default_rng((11, seed))
    vectors = random.normal(size=(2, items, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    rows = make_interactions(items, shoppers, seed)
    own = fit_text_ease(rows.matrix(), vectors[0], 200.0)
    text = TextScorer(vectors[1], vectors[0], 0.95)
    ranker = FusedRanker.of(text, own, FusionWeights(), rows)
    curve = ClickCurve(np.array([0.0, 1.0]), np.array([0.01, 0.1, 0.4]))
    named = [
        Item(item.item_id, item.title, item.text, ("Kitchen", "Garden")[place % 2])
        for place, item in enumerate(make_catalogue(items, seed).items)
    ]
    chances = {boost: ClickChances(curve, curve) for boost in (0.0, 1.0, 2.0)}
    tail = popularity_buckets(ranker.sales).tail
    return ShopModel("Ash", SOURCE, Catalogue(tuple(named)), ranker, tail, chances, rows)


NOW = 1_790_000_000_000_000  # in microseconds: what the service of a test takes for now


class NoTorch:
    """Stands for the worker: a text's vectors are made of its letters, and it counts its calls."""

    def __init__(self, digest=SOURCE.release_digest, width=16):
        self.digest, self.width, self.read = digest, width, []

    def encode(self, texts):
        self.read += texts
        return self.digest, [letters(text, self.width) for text in texts]

    def budget(self):
        return {"entries": 3, "epsilon": 1.5, "delta": 1e-5, "max_epsilon": 8.0}

    def next_run(self):
        return made_cost()

    def benefit(self):
        return json.dumps(made_benefit())


def letters(text, width=16):
    """float32 [2, width] of a text, as bytes; equal texts have equal vectors."""
    vectors = np.random.default_rng(list(text.encode())).normal(size=(2, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32).tobytes()


def made_cost(**more):
    """A run that fits, after an earlier one."""
    usual = {
        "entries": 41,
        "spent": 4.0,
        "spent_share": 0.31,
        "max_epsilon": 8.0,
        "delta": 1e-5,
        "budget_days": 0,
        "rounds": 40,
        "run_epsilon": 4.0,
        "round_share": 0.01,
        "run_share": 0.31,
        "fits": True,
        "refused": "",
        "noise_that_fits": None,
    }
    return NextRun(**usual | more)


def made_benefit(verdict="join"):
    """What `client benefit --json` prints, in part."""
    means = {one: {"mean": 0.1, "low": 0.08, "high": 0.13} for one in METRICS}
    return {
        "release": SOURCE.release,
        "verdict": verdict,
        "shoppers": 120,
        "took_part": True,
        "gains": {**means, "tail_recall@10": {"mean": None, "low": None, "high": None}},
        "gains_over_frozen": {one: {"mean": 0.02, "low": 0.01, "high": 0.03} for one in METRICS},
        "models": dict.fromkeys(COMPARED, means),
        "tail_boost": {f"{one:g}": {"ndcg@10": 0.1, "tail_recall@10": 0.05} for one in BOOSTS},
    }


class Counter:
    """A service in this process, and a client that holds a key of every scope."""

    def __init__(self, folder, model=None, rate=USUAL_RATE):
        self.folder = folder
        save_shop_model(model or made_model(), folder / "model")
        self.store = Store(f"sqlite:///{folder / 'events.db'}")
        self.live = LiveShop(folder / "model", self.store)
        self.worker = NoTorch()
        self.service = Service(self.live, self.store, self.worker, now=lambda: NOW)
        self.keys = Keys(folder / "keys.json")
        self.key = self.keys.new("all", ["serve", "events", "admin"])
        self.app = create_app(self.service, self.keys, rate)

    def ask(self, method, path, *, key="", **more):
        """Send one request, and hold every error to being a problem."""

        async def send():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                headers = {"X-API-Key": key or self.key} | more.pop("headers", {})
                return await client.request(method, path, headers=headers, **more)

        answer = asyncio.run(send())
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem["status"] == answer.status_code
            assert {"type", "title", "status", "detail"} <= problem.keys()
        return answer

    def recommend(self, **body):
        """Return a list as JSON."""
        answer = self.ask("POST", "/v1/recommendations", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, *events):
        """Return what became of events."""
        answer = self.ask("POST", "/v1/events", json={"events": events})
        assert answer.status_code == 202, answer.text
        return answer.json()


def event(number, kind="click", item="item-3", **more):
    """An event that is well formed."""
    time = "2026-09-01T10:00:00Z"
    return {"event_id": f"e-{number}", "type": kind, "item_id": item, "time": time, **more}


@contextlib.contextmanager
def listening(folder, rate=USUAL_RATE):
    """Give a counter behind a real uvicorn, set up as `client serve` does, and its port."""
    counter, port = Counter(folder, rate=rate), free_port()
    server = uvicorn.Server(server_config(counter.app, Address("127.0.0.1", port)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield counter, port
    finally:
        server.should_exit = True
        thread.join()
        counter.store.close()
