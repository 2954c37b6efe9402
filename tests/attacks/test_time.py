"""Merchants that are silent, slow or dead: how long a run waits for them, on simulated time."""

import json

import pytest

from common.errors import QuorumError
from common.wire import messages as wire
from server.run.cohort import Quorum
from server.run.exchange import Patience
from server.run.oversight.run_log import LOG_FILE
from server.run.oversight.run_state import read_state
from simulations.federation.timed_grid import SimulatedClock
from tests.support.fake_node import shops
from tests.support.hostile import ATTACKER, timed_run
from tests.support.ledger_node import ONCE, refused, town

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.attack
PATIENCE = Patience(grace=60.0)
TIMES = {"round_timeout": 600.0, "prepare_timeout": 3600.0, "patience": PATIENCE}


def silent(*kinds, place=ATTACKER, others=4.0):
    """One node never answers messages of these kinds, the others after some seconds."""
    return lambda node, message: (
        None if node == place and message.metadata.message_type in kinds else others
    )


def test_silent_from_the_start(town):
    """A node that never prepares: waited for once, a minute, and not an hour three times over."""
    strategy, clock, _ = timed_run(town, silent(wire.PREPARE), **TIMES)
    assert [one.participants for one in strategy.history] == [2] * 6
    assert clock.now < 60 + 4 + 10 * 6
    assert town.charged("ash") == town.charged("cedar") == ONCE


def test_silent_in_rounds(town):
    """A node that prepares and never trains: it sits out longer each time, and costs minutes."""
    strategy, clock, _ = timed_run(town, silent(wire.TRAIN), **TIMES)
    assert [one.failures for one in strategy.history] == [1, 0, 1, 0, 0, 1]
    assert clock.now < 3 * 64 + 10 * 9
    assert town.charged("ash") == ONCE
    log = [json.loads(one) for one in (town.run_folder / LOG_FILE).read_text().splitlines()]
    assert [one["phase"] for one in log if one["event"] == "node silent"] == [
        "round 1", "round 3", "round 6",
    ]  # fmt: skip


def test_silent_and_back(town):
    """A node that is silent for one round is asked for a preparation, and is back for the next."""
    strategy, _, _ = timed_run(
        town,
        lambda node, message: None if node == 1 and message.metadata.group_id == "2" else 4.0,
        **TIMES,
    )
    assert [one.participants for one in strategy.history] == [3, 2, 2, 3, 3, 3]
    assert read_state(town.run_folder).nodes[1].state == "in"


def test_slow_beside_quick(town):
    """A node that takes ten times as long, but within the grace, is in every round."""
    strategy, _, _ = timed_run(town, lambda node, _: 50.0 if node == 1 else 5.0, **TIMES)
    assert [one.participants for one in strategy.history] == [3] * 6


def test_deadlines_follow_what_rounds_take(town):
    """Where all need minutes, a node that needs twice as long is still waited for."""
    strategy, clock, _ = timed_run(town, lambda node, _: 230.0 if node == 1 else 120.0, **TIMES)
    assert [one.participants for one in strategy.history] == [3] * 6
    slow, clock, _ = timed_run(
        town, lambda node, _: 500.0 if node == 1 else 120.0, folder=town.root / "slow",
        journal=None, rounds=3, **TIMES,
    )  # fmt: skip
    assert slow.history[1].participants == 2
    assert clock.now < 3 * 300 + 1000


def test_a_quorum_that_is_not_there(town):
    """All but one are dead: the round ends at its deadline, with what is missing in the error."""
    with refused(QuorumError, "train"):
        timed_run(
            town,
            lambda node, message: (
                None if node and message.metadata.message_type == wire.TRAIN else 4.0
            ),
            quorum=Quorum(2, 0.5, 0.0),
            **TIMES,
        )
    assert town.checkpoint().round_number == 0


def test_a_node_that_only_says_it_is_alive(town):
    """Connected for ever, answering nothing, beside too few: the wait is the preparation's."""
    with refused(QuorumError, "nodes"):
        timed_run(town, lambda *_: None, quorum=Quorum(2, 0.5, 600.0), **TIMES)


def test_what_is_waited_for_is_told(town, monkeypatch):
    """While a run waits, its state names who for, since when and for how long at most."""
    seen = []
    real = SimulatedClock.sleep

    def sleep(self, seconds):
        seen.append(read_state(town.run_folder))
        real(self, seconds)

    monkeypatch.setattr(SimulatedClock, "sleep", sleep)
    timed_run(town, silent(wire.TRAIN, others=5.0), rounds=1, **TIMES)
    state = next(one for one in seen if one.phase == "train" and one.answered)
    assert state.waits_for == ("birch",)
    told = state.told(state.since)
    assert told.startswith("round 1: 2 of 2 needed have answered; waits for birch since")
    assert "at most" in told
