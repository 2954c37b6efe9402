"""Nodes that are late, gone, restarted, mistaken or repeated: what is charged, and what is used."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
from flwr.app import Context, Message, RecordDict

import simulations.federation.in_process_grid
from client.app import app
from client.node.session import close_nodes
from common.errors import QuorumError
from common.wire import messages as wire
from common.wire.refusal import REFUSED, encode_refusal
from server.run.admission_checks import Conditions
from server.run.cohort import Quorum
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import FakeWork, shops
from tests.support.ledger_node import ONCE, LedgerWork, refused, town

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.faults
EVERY = {"ash": ONCE, "birch": ONCE, "cedar": ONCE}


def test_straggler(town, monkeypatch):
    """A node is past the deadline in round 2: charged for it, left out of it, back in round 3."""

    late = [0.0]

    class Late(LedgerWork):
        def after(self, kind, number):
            if (self.merchant, kind, number) == ("cedar", "train", 2):
                late[0] += 700.0

    clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + late[0])
    monkeypatch.setattr(simulations.federation.in_process_grid, "time", clock)
    town.shops.make = Late
    strategy = town.run(round_timeout=600.0)
    assert [one.participants for one in strategy.history] == [3, 2, 3, 3, 3, 3]
    assert town.charged() == EVERY
    second = next(one for one in town.journal() if one.round_number == 2)
    assert second.participants == ("ash", "birch")
    assert town.refusals() == []


class Leaving(InProcessGrid):
    """Nodes are gone from the first message of a round on, and come back for another."""

    gone, leaves, returns = (), 3, 99

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if not self.is_gone(node)]

    def is_gone(self, node):
        return node - 1000 in self.gone and self.leaves <= self.round < self.returns

    round = 0

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        self.round = max([self.round, *(int(one.metadata.group_id or 0) for one in messages)])
        here = [one for one in messages if not self.is_gone(one.metadata.dst_node_id)]
        return super().send_and_receive(here, timeout=timeout)


def leaving(town, *gone, leaves=3, returns=99):
    grid = town.grid(Leaving)
    grid.gone, grid.leaves, grid.returns = gone, leaves, returns
    return grid


def test_one_of_three_gone(town):
    """The quorum holds: the run goes on with two, and the third comes back for the last rounds."""
    grid = leaving(town, 2, returns=4)
    grid.round = 0
    strategy = town.run(grid)
    assert [one.participants for one in strategy.history[:3]] == [3, 3, 2]
    assert len(strategy.history) == 6
    assert town.charged("ash") == ONCE


def test_most_are_gone_in_a_round(town):
    """The quorum fails: a clean stop, the round before is kept, and the run goes on later."""
    with refused(QuorumError, "train"):
        town.run(leaving(town, 1, 2))
    assert town.checkpoint().round_number == 2
    assert [one.round_number for one in town.journal()][-1] == 3  # what `ash` was charged for
    resumed = town.run()
    assert [one.participants for one in resumed.history] == [3] * 6
    assert town.charged("birch") == ONCE
    assert town.charged("ash") == ONCE + Counter([("train", 3)])  # paid for the round that failed


def test_too_few_are_connected(town):
    """The server waits as long as it was told, and stops without charging anybody."""
    town.quorum = Quorum(2, 0.5, 0.0)
    town.run(rounds=2)
    with refused(QuorumError, "nodes"):
        town.run(leaving(town, 1, 2, leaves=0))
    assert town.checkpoint().round_number == 2
    assert town.charged("ash") == Counter([("popularity", 0), ("train", 1), ("train", 2)])


def test_the_wait_ends_when_nodes_are_back(town):
    """Half the nodes are gone and connect again while the server waits: the run goes on."""
    grid = leaving(town, 1, 2, leaves=0, returns=1)
    looked = []

    def get_node_ids():
        looked.append(None)
        grid.round = len(looked) // 2
        return Leaving.get_node_ids(grid)

    grid.get_node_ids = get_node_ids
    strategy = town.run(grid, rounds=1, quorum=Quorum(3, 1.0, 60.0))
    assert strategy.history[0].participants == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_node_killed_and_restarted_mid_round(town, when):
    """A node dies before or after its charge and starts anew: it is back two rounds later."""

    class Dying(LedgerWork):
        def before(self, kind, number):
            if when == "before":
                self.die(kind, number)

        def after(self, kind, number):
            if when == "after":
                self.die(kind, number)

        def die(self, kind, number):
            if (self.merchant, kind, number) == ("birch", "train", 2):
                town.shops.make = LedgerWork
                close_nodes()
                list(grid._contexts.values())[1].state.clear()
                raise Died

    class Died(BaseException):
        pass

    class Mourning(InProcessGrid):
        def _deliver(self, message):
            try:
                return super()._deliver(message)
            except Died:  # Flower answers for a node whose process is gone
                self._contexts[message.metadata.dst_node_id].state.clear()
                return Message(wire.error_reply(RuntimeError()), reply_to=message)

    town.shops.make = Dying
    grid = town.grid(Mourning)
    strategy = town.run(grid)
    # Round 3 finds out that the node forgot the run; it is prepared again before round 4.
    assert [one.participants for one in strategy.history] == [3, 2, 2, 3, 3, 3]
    lost = Counter([("train", 2), ("train", 3)] if when == "before" else [("train", 3)])
    assert town.charged() == EVERY | {"birch": ONCE - lost}
    assert town.refusals() == []


# --------------------------------------------------------- copies of messages
def test_a_request_twice(town):
    """The same message comes twice: charged once, the copy refused, the run as if it had not."""
    copies = []

    class Twice(InProcessGrid):
        def _deliver(self, message):
            reply = super()._deliver(message)
            if message.metadata.message_type in {wire.TRAIN, wire.POPULARITY}:
                copies.append(super()._deliver(message))
            return reply

    twice = town.run(town.grid(Twice)).state.adapter.digest
    assert {wire.error_reason(copy.error) for copy in copies} == {"federation:message"}
    assert len(copies) == 21
    assert town.charged() == EVERY
    assert twice == uninterrupted(town)


def uninterrupted(town):
    """The digest of the same run, in a town of its own."""
    other = type(town)(town.root / "other", town.shops)
    return other.run().state.adapter.digest


@pytest.mark.parametrize("of_round", [1, 3])
def test_an_old_answer_again(town, of_round):
    """An answer of an earlier round, sent in the place of a later one: left out, nothing else."""
    kept = {}

    class Replaying(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            messages = list(messages)
            replies = list(super().send_and_receive(messages, timeout=timeout))
            number = int(messages[0].metadata.group_id or 0)
            if messages[0].metadata.message_type == wire.TRAIN:
                kept[number] = replies[0]
                if number == 4:
                    replies[0] = kept[of_round]
            return replies

    strategy = town.run(town.grid(Replaying))
    assert [one.participants for one in strategy.history] == [3, 3, 3, 2, 3, 3]
    assert town.refusals() == [(("ash",), "federation:rollback")]
    assert town.charged() == EVERY


def test_an_answer_from_before_a_stop_again(town):
    """A node's answer from before a server's stop is sent again in its place: left out."""
    kept = []

    class Keeping(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            if replies and replies[0].metadata.group_id == "3":
                kept.append(list(replies))
                if len(kept) == 1:
                    return replies[:1]  # too few: the server stops, and has countersigned one
                return [kept[0][0], *replies[1:]]
            return replies

    with refused(QuorumError, "train"):
        town.run(town.grid(Keeping))
    resumed = town.run(town.grid(Keeping))
    assert [one.participants for one in resumed.history] == [3, 3, 2, 3, 3, 3]
    assert town.refusals() == [(("ash",), "federation:rollback")]


# ------------------------------------------------------------------- versions
def test_another_base_model_or_catalogue(town, caplog):
    """A node with another base model or catalogue: refused, and both logs name the field."""

    class Other(LedgerWork):
        def prepare(self, basis, settings):
            prepared = super().prepare(basis, settings)
            model = "another" if self.merchant == "birch" else "model"
            return type(prepared)(
                prepared.merchant, prepared.catalogue_digest, prepared.text_keys, base_model=model
            )

    town.shops.make = Other
    known = FakeWork(SimpleNamespace(merchant="ash")).keys
    conditions = Conditions(base_model="model", text_keys=known)
    strategy = town.run(conditions=conditions, quorum=Quorum(1, 0.3, 0.0))
    assert strategy._cohort.refused == {
        1001: "federation:base_model",
        1002: "federation:catalogue",
    }
    assert [one.participants for one in strategy.history] == [1] * 6
    assert "birch has another base model" in caplog.text
    assert "3 of 6 items of cedar are not in the public catalogue" in caplog.text
    for field in ("base_model", "catalogue"):
        assert f"The server refused this node: federation:{field}" in caplog.text
    assert (town.charged("birch"), town.charged("cedar")) == (Counter(), Counter())


def test_what_a_server_says_of_a_refusal_is_a_code_and_a_field(town, caplog):
    town.grid()
    for said, logged in (
        ("federation:catalogue", "federation:catalogue"),
        ("A Title; DROP", "internal"),
    ):
        content = encode_refusal("federation:x")
        content["refusal"]["reason"] = said
        app(Message(content, 7, REFUSED), Context(1, 7, {}, RecordDict(), {}))
        assert caplog.messages[-1] == f"The server refused this node: {logged}"
