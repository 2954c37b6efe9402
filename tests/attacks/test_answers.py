"""An enrolled merchant sends what is no answer: the run ends for nobody else, and it is named."""

import json
import warnings
from collections import Counter

import numpy as np
import pytest
from flwr.app import Error, Message

from common.adapter import AdapterUpdate
from common.errors import BudgetError, FederationError
from common.federation.bounds import honest_bounds
from common.wire import messages as wire
from server.monitoring.metrics import metrics_page
from server.run.cohort import Quorum
from server.run.oversight.run_log import LOG_FILE
from server.run.oversight.run_state import read_state
from simulations.federation.in_process_grid import InProcessGrid
from simulations.federation.timed_grid import TimedGrid
from tests.support.fake_node import SIZE, shops
from tests.support.hostile import (
    ATTACKER,
    BUFFERS,
    MESSAGES,
    Altering,
    altered,
    timed_run,
    with_buffers,
)
from tests.support.ledger_node import ONCE, LedgerWork, town

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.attack
HONEST = ("ash", "cedar")


def hostile_grid(town, change, *kinds):
    grid = town.grid(Altering)
    grid.change, grid.kinds = change, kinds or Altering.kinds
    return grid


def held(town, strategy):
    """The run has done all its rounds with the honest, who paid once; return what is told."""
    assert len(strategy.history) == 6
    assert {name: town.charged(name) for name in HONEST} == dict.fromkeys(HONEST, ONCE)
    state = {one.merchant: one for one in read_state(town.run_folder).nodes}
    return state.get("birch") or state["node 1001"]


@pytest.mark.parametrize("kind", [wire.PREPARE, wire.POPULARITY, wire.TRAIN])
def test_arrays_that_no_reader_survives(town, kind):
    """Malformed headers and absurd shapes in any answer: refused, named, and the run goes on."""
    buffers = iter([*BUFFERS.values()] * 9)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = hostile_grid(town, lambda content: with_buffers(content, next(buffers)), kind)
        told = held(town, town.run(grid))
    if kind == wire.POPULARITY:  # it is asked for once
        assert (told.state, told.strikes) == ("in", 1)
    else:
        assert told.state in {"refused", "quarantined"}
        assert told.reason.split(":")[1] in {"text_keys", "vector"}


@pytest.mark.parametrize("name", BUFFERS)
def test_each_array(town, name):
    """Each of the malformed arrays, as an update in round 1."""
    grid = hostile_grid(town, lambda content: with_buffers(content, BUFFERS[name]), wire.TRAIN)
    strategy = town.run(grid, rounds=1)
    assert strategy.history[0].participants == 2
    assert town.refusals() == [(("birch",), "federation:vector")]


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message(town, name):
    """Records that are missing, empty, of other kinds, nested or huge: the run goes on."""
    grid = hostile_grid(town, lambda content: altered(content, MESSAGES[name]))
    held(town, town.run(grid))


def test_three_strikes(town):
    """A node that sends rubbish is asked three times and no more; journal, log and state say so."""
    grid = hostile_grid(
        town, lambda content: with_buffers(content, BUFFERS["an absurd shape"]), wire.TRAIN
    )
    told = held(town, town.run(grid))
    assert (told.state, told.reason, told.strikes) == ("quarantined", "quarantine:vector", 3)
    assert town.charged("birch") == Counter(
        [("popularity", 0), *(("train", number) for number in (1, 2, 3))]
    )
    reasons = ["federation:vector"] * 3 + ["quarantine:vector"]
    assert town.refusals() == [(("birch",), one) for one in reasons]
    lines = [json.loads(one) for one in (town.run_folder / LOG_FILE).read_text().splitlines()]
    refused = [one for one in lines if one["event"] == "answer refused"]
    assert [(one["merchant"], one["reason"]) for one in refused] == [
        ("birch", "federation:vector")
    ] * 3


class Poisoned(LedgerWork):
    """Sends a number in each place, signed and charged as it must be."""

    number = 1e30

    def train(self, adapter, popularity, plan, run_id, round_number):
        honest = super().train(adapter, popularity, plan, run_id, round_number)
        if self.merchant != "birch":
            return honest
        return AdapterUpdate(self.poison(honest.vector), round_number, plan.digest)

    def poison(self, vector):
        return np.full(vector.size, self.number, np.float32)


@pytest.mark.parametrize("number", [1e30, -3e38, 1e3, 7.0])
def test_an_update_beyond_every_bound(town, number):
    """1e30 in each place: refused by its norm; adapter and second moment are the honest nodes'."""

    class Numbered(Poisoned):
        pass

    Numbered.number = number
    town.shops.make = Numbered
    strategy = town.run()
    assert held(town, strategy).reason == "quarantine:update_norm"
    bounds = honest_bounds(town.plan, "train", SIZE)
    assert strategy.state.optimiser.second_moment <= bounds.norm**2
    assert np.abs(strategy.state.adapter.flatten()).max() < 10


def test_an_update_in_one_place(town):
    """All of the norm that is allowed, in one number: refused by the bound of each number."""

    class Spike(Poisoned):
        def poison(self, vector):
            bounds = honest_bounds(town.plan, "train", vector.size)
            spike = np.zeros(vector.size, np.float32)
            spike[0] = (bounds.norm + bounds.coordinate) / 2
            return spike

    town.shops.make = Spike
    assert held(town, town.run()).reason == "quarantine:update_coordinate"


@pytest.mark.parametrize("number", [1e30, -1e30, 1e6])
def test_a_histogram_beyond_every_bound(town, number):
    """1e30 purchases of each item: the popularity that all train with is the honest nodes'."""

    class Crowd(LedgerWork):
        def popularity(self, plan, run_id, round_number):
            counts = super().popularity(plan, run_id, round_number)
            return counts if self.merchant != "birch" else np.full_like(counts, number)

    town.shops.make = Crowd
    strategy = town.run()
    assert (("birch",), "federation:popularity_norm") in town.refusals()
    probability = strategy.state.popularity.probability
    assert probability.max() / probability.min() < 20
    assert [one.participants for one in strategy.history] == [3] * 6  # one strike is no three


def test_an_answer_in_anothers_name(town):
    """An answer that says it is another node's: it counts as its sender's, whose head it lacks."""

    class Spoofing(TimedGrid):
        def pull_messages(self, message_ids):
            answers = list(super().pull_messages(message_ids))
            for one in answers:
                about = one.metadata
                if about.src_node_id == 1000 + ATTACKER and about.message_type == wire.TRAIN:
                    about.__dict__["_src_node_id"] = 1000
            return answers

    strategy, _, _ = timed_run(town, lambda place, _: float(place == 0), wrap=Spoofing)
    assert [one.participants for one in strategy.history] == [3] * 6


def test_bytes_that_flower_cannot_read(town):
    """An answer on which Flower itself raises: it costs its sender, and no answer beside it."""

    class Breaking(TimedGrid):
        def pull_messages(self, message_ids):
            answers = list(super().pull_messages(message_ids))
            for one in answers:
                about = one.metadata
                if about.src_node_id == 1000 + ATTACKER and about.message_type == wire.TRAIN:
                    raise ValueError("no known object")
            return answers

    strategy, _, _ = timed_run(town, lambda *_: 1.0, wrap=Breaking)
    assert held(town, strategy).reason == "quarantine:message"
    assert [one.participants for one in strategy.history] == [2] * 6


def test_rubbish_at_once_does_not_hurry_the_honest(town):
    """Rubbish is no answer: the quorum waits for those who need longer than the patience."""
    grid = type("Fast", (Altering, TimedGrid), {})
    grid.kinds = (wire.TRAIN,)
    grid.change = lambda _self, content: with_buffers(content, b"")
    quorum = Quorum(2, 0.5, 0.0)
    strategy, _, _ = timed_run(
        town, lambda place, _: 0.0 if place == ATTACKER else 300.0, wrap=grid, quorum=quorum
    )
    assert [one.participants for one in strategy.history] == [2] * 6


def test_refusals_of_nodes_reach_the_operator(town):
    """A node that refuses to prepare, or a round: its code is in state, log and journal."""

    class Refusing(LedgerWork):
        def prepare(self, basis, settings):
            if self.merchant == "birch":
                raise FederationError("a text that must not leave", field="basis")
            return super().prepare(basis, settings)

        def train(self, *arguments):
            if self.merchant == "cedar":
                raise ValueError("a row of a table")
            return super().train(*arguments)

    town.shops.make = Refusing
    town.run(quorum=Quorum(1, 0.3, 0.0))
    state = {one.merchant: (one.state, one.reason) for one in read_state(town.run_folder).nodes}
    assert state == {
        "ash": ("in", ""),
        "node 1001": ("refused", "federation:basis"),
        "cedar": ("failing", "internal"),
    }
    assert town.refusals() == [((), "federation:basis")]
    log = (town.run_folder / LOG_FILE).read_text()
    assert "federation:basis" in log
    assert "internal" in log
    assert "must not leave" not in log + town.run_folder.joinpath("journal.jsonl").read_text()
    assert "a row" not in log


@pytest.mark.parametrize("lasts", [True, False])
def test_a_node_that_answers_with_errors_alone(town, lasts):
    """An error may be an honest refusal: no strike, no wait; after three the operator sees it."""

    class Failing(LedgerWork):
        def train(self, adapter, popularity, plan, run_id, round_number):
            if self.merchant == "birch" and (lasts or round_number < 5):
                raise BudgetError("What this shop may spend is spent.", field="max_epsilon")
            return super().train(adapter, popularity, plan, run_id, round_number)

    town.shops.make = Failing
    strategy = town.run(rounds=5)
    told = {one.merchant: one for one in read_state(town.run_folder).nodes}["birch"]
    assert (told.state, told.reason, told.strikes) == (
        ("failing", "budget:max_epsilon", 0) if lasts else ("in", "", 0)
    )
    assert [one.participants for one in strategy.history] == [2, 2, 2, 2, 2 if lasts else 3]
    assert town.charged("birch")["train", 1] == 0
    lines = [json.loads(one) for one in (town.run_folder / LOG_FILE).read_text().splitlines()]
    failures = [one["failures"] for one in lines if one["event"] == "node failed"]
    assert failures == [1, 2, 3, 4, 5][: 5 if lasts else 4]
    state = "failing" if lasts else "in"
    assert f'fedtail_run_nodes{{run="run",state="{state}"}}' in (
        metrics_page(town.run_folder).decode()
    )


def test_words_that_a_node_makes_up_reach_nobody(town):
    """Errors with a sentence for a code or field, in each answer: kept are words of our own."""
    words = (
        "ledger:anna_smith_bought_a_teapot",
        "annasmith:rollback",
        "ledger:\x1b[2J",
        "x" * 9999,
    )

    class Talking(InProcessGrid):
        def _deliver(self, message):
            reply = super()._deliver(message)
            place, kind = message.metadata.dst_node_id - 1000, message.metadata.message_type
            if place == ATTACKER and kind == wire.TRAIN:
                word = words[int(message.metadata.group_id) % len(words)]
                return Message(Error(wire.ERROR_CODE, word), reply_to=message)
            if place == ATTACKER + 1 and kind == wire.PREPARE:
                return Message(Error(wire.ERROR_CODE, words[0]), reply_to=message)
            return reply

    town.run(town.grid(Talking), quorum=Quorum(1, 0.3, 0.0))
    assert town.refusals() == [((), "ledger")]
    written = [file.read_bytes() for file in town.run_folder.rglob("*") if file.is_file()]
    told = b"".join([*written, metrics_page(town.run_folder)])
    for word in (b"anna", b"teapot", b"\x1b", b"xxxx"):
        assert word not in told


def test_an_evicted_merchant_is_not_asked(town):
    """The operator evicts a merchant in the middle of a run: it pays for no round after that."""
    from server.run.oversight.orders import Orders, write_orders

    class Evicting(InProcessGrid):
        def _deliver(self, message):
            if message.metadata.group_id == "3" and message.metadata.message_type == wire.TRAIN:
                write_orders(town.run_folder, Orders(evicted=frozenset({"birch"})))
            return super()._deliver(message)

    strategy = town.run(town.grid(Evicting))
    assert [one.participants for one in strategy.history] == [3, 3, 3, 2, 2, 2]
    assert town.charged("birch")["train", 4] == 0
    assert (("birch",), "evicted") in town.refusals()


def test_a_message_without_content_or_error(town):
    """An answer of neither kind is no answer."""

    class Hollow(TimedGrid):
        def pull_messages(self, message_ids):
            answers = list(super().pull_messages(message_ids))
            for one in answers:
                if one.metadata.src_node_id == 1000 + ATTACKER:
                    one.__dict__.clear()
            return answers

    strategy, _, _ = timed_run(town, lambda *_: 1.0, wrap=Hollow)
    assert [one.participants for one in strategy.history] == [2] * 6
