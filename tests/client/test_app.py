import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from client.app import app
from client.node.session import close_nodes
from common.adapter import AdapterState
from common.errors import BudgetError, InputError
from common.files import sha256_hex
from common.wire import messages
from common.wire.messages import encode_plan_request
from common.wire.season import SEASON, decode_season
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import (
    LOCAL,
    SEASON_SIZE,
    SEASONAL,
    SIZE,
    FakeWork,
    federation,
    shops,
)

__all__ = ["federation", "shops"]  # fixtures
ROOT = Path(__file__).parents[2]

TITLE = "WHITE HANGING HEART T-LIGHT HOLDER"
REQUEST = messages.PrepareRequest(b"basis", {"seed": 1}, LOCAL.to_json())
ADAPTER = AdapterState({"b": np.zeros((3, 4), dtype=np.float32)})


class Client:
    """One deployed node that is sent messages as Flower would send them."""

    def __init__(self, data):
        InProcessGrid(app, 1, {})  # says who builds messages in this process
        self.context = Context(1, 7, {"data": str(data)}, RecordDict(), {})

    def ask(self, kind, content):
        message = Message(content, 7, kind)
        return app(message, self.context)

    def prepare(self):
        return self.ask(messages.PREPARE, messages.encode_prepare(REQUEST))

    def popularity(self, digest=LOCAL.digest):
        return self.ask(messages.POPULARITY, messages.encode_plan_request(digest))

    def train(self, number=1, popularity=None, digest=LOCAL.digest):
        request = messages.TrainRequest(ADAPTER, popularity, number, digest)
        return self.ask(messages.TRAIN, messages.encode_train(request))


@pytest.fixture
def client(shops, federation):
    return Client(federation / "ash")


def test_the_three_requests_are_answered(client, shops):
    facts = messages.decode_prepared(client.prepare().content)
    assert (facts.merchant, facts.items) == ("ash", 6)
    counts = messages.decode_popularity(client.popularity().content, 6, LOCAL.digest)
    assert counts.shape == (6,)
    reply = client.train(3, np.full(6, 1 / 6, dtype=np.float32))
    update, metrics = messages.decode_update(reply.content, SIZE, 3, LOCAL.digest)
    assert update.vector.shape == (SIZE,)
    assert metrics == {"epsilon": 1.0}


def test_a_season_is_answered_under_its_own_plan_alone(client, shops):
    request = messages.PrepareRequest(b"basis", {"seed": 1}, SEASONAL.to_json())
    client.ask(messages.PREPARE, messages.encode_prepare(request))
    reply = client.ask(SEASON, encode_plan_request(SEASONAL.digest))
    assert decode_season(reply.content, SEASON_SIZE, SEASONAL.digest).shape == (SEASON_SIZE,)
    reply = client.ask(SEASON, encode_plan_request(LOCAL.digest))
    assert reply.error.reason == "federation:plan_digest"
    assert [call[0] for call in shops.works["ash"].calls] == ["prepare", "season"]


REFRESH = replace(SEASONAL, steps=0, noise_multiplier=0.0, popularity_noise_multiplier=0.0)


@pytest.mark.attack
@pytest.mark.parametrize(
    ("plan", "settings"),
    [(SEASONAL, {"seed": 1, "refresh_of": "ab" * 32}), (REFRESH, {"seed": 1})],
    ids=["rounds in a refresh", "a refresh of nothing"],
)
def test_a_plan_that_is_not_what_the_settings_say_prepares_nobody(client, shops, plan, settings):
    """A server that would smuggle rounds into a refresh is found before anything is computed."""
    request = messages.PrepareRequest(b"basis", settings, plan.to_json())
    reply = client.ask(messages.PREPARE, messages.encode_prepare(request))
    assert reply.error.reason == "federation:refresh_of"
    assert [call for work in shops.works.values() for call in work.calls] == []


def test_a_copy_of_a_request_for_a_season_costs_nothing(client, shops):
    request = messages.PrepareRequest(b"basis", {"seed": 1}, SEASONAL.to_json())
    client.ask(messages.PREPARE, messages.encode_prepare(request))
    asked = Message(encode_plan_request(SEASONAL.digest), 7, SEASON)
    asked.metadata.__dict__["_message_id"] = "the same"  # as Flower's server names it
    first, copy = (app(asked, client.context) for _ in range(2))
    assert first.has_content()
    assert copy.error.reason == "federation:message"
    assert [call[0] for call in shops.works["ash"].calls] == ["prepare", "season"]


def test_each_message_may_come_to_a_new_process(client, shops):
    client.prepare()
    close_nodes()
    client.popularity()
    first = shops.works["ash"]
    close_nodes()
    assert client.train().has_content()
    assert shops.works["ash"] is not first
    assert [call[0] for call in shops.works["ash"].calls] == ["prepare", "train"]
    assert shops.works["ash"].calls[0][1:] == (b"basis", {"seed": 1})


def test_an_unprepared_node_says_so(client):
    for reply in (client.popularity(), client.train()):
        assert reply.error.reason == "federation:prepare"


def test_a_request_under_another_plan_is_refused_before_anything_is_charged(client, shops):
    client.prepare()
    for reply in (client.popularity("b" * 64), client.train(digest="b" * 64)):
        assert reply.error.reason == "federation:plan_digest"
    assert [call[0] for call in shops.works["ash"].calls] == ["prepare"]


def test_a_deployed_node_refuses_a_plan_without_its_own_noise(client, shops):
    plan = LOCAL.to_json().replace('"dp_model":"local"', '"dp_model":"central"')
    reply = client.ask(
        messages.PREPARE, messages.encode_prepare(messages.PrepareRequest(b"basis", {}, plan))
    )
    assert reply.error.reason == "policy:dp_model"
    assert shops.works["ash"].calls == []
    assert "fedtail" not in client.context.state


@pytest.mark.parametrize("large", [False, True])
def test_a_delta_that_is_large_for_the_declared_size_is_on_the_nodes_log(client, caplog, large):
    plan = replace(LOCAL, delta=1e-3, size_bracket=101 if large else 100)
    request = messages.PrepareRequest(b"basis", {"seed": 1}, plan.to_json())
    client.ask(messages.PREPARE, messages.encode_prepare(request))
    assert ("10 x 101" in caplog.text) == large


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(f"bad row: {TITLE}"), "internal"),
        (KeyError(TITLE), "internal"),
        (UnicodeDecodeError("utf-8", TITLE.encode(), 0, 1, TITLE), "internal"),
        (MemoryError(TITLE), "internal"),
        (InputError(f"row 3 of {TITLE}", field="text"), "input:text"),
        (InputError("a careless field", field=TITLE), "input"),
        (BudgetError(f"shopper 17850 bought {TITLE}", field="epsilon"), "budget:epsilon"),
    ],
)
def test_no_exception_text_is_in_a_reply_or_a_log(client, shops, caplog, error, reason):
    class Broken(FakeWork):
        def __init__(self, settings):
            super().__init__(settings)
            self.raises = error

    replies = []
    client.prepare()
    shops.works["ash"].raises = error
    replies += [client.popularity(), client.train()]
    close_nodes()
    shops.make = Broken
    with caplog.at_level(logging.DEBUG):
        replies += [client.prepare(), client.train()]
    for reply in replies:
        assert reply.has_error()
        assert reply.error.code == messages.ERROR_CODE
        assert reply.error.reason == reason
        for word in ("WHITE", "17850", "row"):
            assert word.encode() not in reply.deflate()
            assert word not in repr(reply)
    assert caplog.records
    for word in ("WHITE", "17850", "row"):
        assert word not in caplog.text


def test_a_chained_exception_does_not_leak_either(client, shops, caplog):
    class Chained(FakeWork):
        def prepare(self, basis, settings):
            try:
                {}[TITLE]
            except KeyError as error:
                raise InputError("no such item", field="item_id") from error

    shops.make = Chained
    reply = client.prepare()
    assert reply.error.reason == "input:item_id"
    assert TITLE not in caplog.text


def test_ctrl_c_is_not_turned_into_a_reply(client, shops):
    client.prepare()
    shops.works["ash"].raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        client.train()


def test_a_metric_outside_the_list_stops_the_reply(client, shops):
    client.prepare()
    shops.works["ash"].metrics = {"loss": 0.25}
    assert client.train().error.reason == "federation:metrics"


def test_numbers_of_the_wrong_shape_do_not_leave(client, shops, monkeypatch):
    client.prepare()
    work = shops.works["ash"]
    monkeypatch.setattr(work, "popularity", lambda *_: np.zeros(5, dtype=np.float32))
    assert client.popularity().error.reason == "federation:popularity"
    train = FakeWork.train
    monkeypatch.setattr(
        work,
        "train",
        lambda adapter, *rest: train(work, AdapterState({"b": np.zeros(5, np.float32)}), *rest),
    )
    assert client.train().error.reason == "federation:vector"


def test_what_is_kept_in_flowers_context_is_public(client):
    client.prepare()
    kept = client.context.state["fedtail"]
    assert set(kept) == {"basis", "settings", "plan"}
    assert sha256_hex(kept["basis"]) == sha256_hex(REQUEST.basis)


@pytest.mark.parametrize("module", ["client.app", "server.app"])
def test_importing_an_app_loads_nothing_heavy(module):
    heavy = ["torch", "transformers", "peft", "opacus", "polars", "sklearn"]
    code = f"import sys, {module}\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
