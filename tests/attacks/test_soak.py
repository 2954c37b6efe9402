"""A day on simulated time: nodes come, go, lie and die, and runs follow one another."""

import random
import resource
from collections import Counter

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message, RecordDict

import server.run.cohort
import server.run.exchange
from client.app import app
from client.node.session import close_nodes
from client.privacy.budget import LEDGER_FILE
from client.privacy.policy import Policy
from common.errors import QuorumError
from common.privacy.accounting.accountants import epsilon_rdp
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from server.run.cohort import Quorum
from server.run.exchange import Patience
from server.run.polling_grid import PromptGrid
from server.run.strategy import FedtailStrategy
from simulations.federation.timed_grid import SimulatedClock, TimedGrid
from tests.support.fake_node import shops
from tests.support.hostile import BUFFERS, MESSAGES, altered, npy, with_buffers
from tests.support.ledger_node import DATASET, LedgerWork, Town

__all__ = ["shops"]  # a fixture
pytestmark = [pytest.mark.soak, pytest.mark.slow]
HOUR = 3600.0
NAMES = ("ash", "birch", "cedar", "dogwood", "elm", "fir")
ROUND, PREPARE, WAIT, GRACE = 600.0, 1800.0, 600.0, 60.0
# What a node does for a while, and how often it takes to it: the first three may be out, not bad.
HONEST = {"quick": 6, "slow": 3, "gone": 1}
WILD = {"quick": 3, "slow": 1, "gone": 2, "silent": 2, "lying": 3, "dying": 2}


class Frugal(LedgerWork):
    """Its policy ends the day's budget early, so that honest nodes refuse as well."""

    policy = Policy(max_epsilon=40.0, max_run_epsilon=40.0, delta=1e-3, min_noise_multiplier=0.0)


class Weather:
    """What each node does at each time of the day."""

    def __init__(self, seed, hours):
        self.rng = random.Random(seed)
        self.plans = []
        for place in range(len(NAMES)):
            moods, now, plan = HONEST if place < 3 else WILD, 0.0, []
            while now < (hours + 2) * HOUR:
                now += self.rng.expovariate(1 / (0.7 * HOUR))
                plan.append((now, self.rng.choices(list(moods), moods.values())[0]))
            self.plans.append(plan)

    def mood(self, place, now):
        return next(mood for until, mood in self.plans[place] if now < until)

    def delay(self, place, now):
        mood = self.mood(place, now)
        if mood in {"silent", "gone"}:
            return None
        return self.rng.uniform(300, 500) if mood == "slow" else self.rng.uniform(100, 300)


class Stormy(TimedGrid):
    weather = None

    def get_node_ids(self):
        nodes = list(super().get_node_ids())
        return [
            node
            for place, node in enumerate(nodes)
            if self.weather.mood(place, self.clock.now) != "gone"
        ]

    def _deliver(self, message):
        place = message.metadata.dst_node_id - 1000
        mood, rng = self.weather.mood(place, self.clock.now), self.weather.rng
        if mood == "dying" and rng.random() < 0.5:
            self._contexts[message.metadata.dst_node_id].state.clear()
            return Message(Error(code=0, reason="gone"), reply_to=message)
        reply = super()._deliver(message)
        if mood == "lying" and not reply.has_error() and rng.random() < 0.7:
            return Message(lie(reply.content, rng), reply_to=message)
        return reply


def lie(content, rng):
    what = rng.randrange(4)
    if what == 0:
        return with_buffers(content, rng.choice(list(BUFFERS.values())))
    if what == 1:
        return altered(content, rng.choice(list(MESSAGES.values())))
    if what == 2 and any(isinstance(one, ArrayRecord) for one in content.values()):
        return with_buffers(content, npy(np.full(12, 1e30, np.float32)))
    return RecordDict()


class Valley(Town):
    """Six merchants and a server that starts again when a run has ended."""

    def __init__(self, root, shops):
        super().__init__(root, shops)
        for name in NAMES:
            (self.federation / name).mkdir(parents=True, exist_ok=True)
        shops.make = Frugal

    def start(self, clock, weather, number):
        close_nodes()
        self.run_id += 1
        config = {"federation": str(self.federation)}
        grid = Stormy(
            app, len(NAMES), config, self.run_id, clock=clock,
            delay=lambda place, _: weather.delay(place, clock.now),
        )  # fmt: skip
        grid.weather = weather
        strategy = FedtailStrategy(
            self.setup(
                folder=self.root / f"run-{number}",
                journal=self.root / "journal.jsonl",
                quorum=Quorum(2, 0.5, WAIT),
                round_timeout=ROUND,
                prepare_timeout=PREPARE,
                patience=Patience(grace=GRACE),
            )
        )
        strategy.start(PromptGrid(grid, clock=clock, sleep=clock.sleep))
        return strategy


def spent(valley, name):
    ledger = Ledger.open(valley.federation / name / "node" / LEDGER_FILE, name, DATASET)
    return epsilon_rdp(spent_events(ledger.entries()), 1e-3)


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("hours", [24])
def test_a_day(shops, tmp_path, monkeypatch, hours):
    """No start is stuck, no ledger is over its budget, and memory does not grow."""
    for module in (server.run.cohort, server.run.exchange):
        monkeypatch.setattr(module, "POLL_SECONDS", 10.0)
    valley, clock, weather = Valley(tmp_path, shops), SimulatedClock(), Weather(50, hours)
    ends, number, marks = Counter(), 0, []
    rounds = valley.plan.rounds
    # A start waits for nodes, then for each round, the histogram and, once more, for the last word.
    longest = WAIT + PREPARE + (rounds + 1) * (ROUND + 10) + rounds * (WAIT + PREPARE) + 700
    while clock.now < hours * HOUR:
        began = clock.now
        try:
            strategy = valley.start(clock, weather, number)
        except QuorumError as error:
            ends[f"quorum: {error.field}"] += 1
            clock.sleep(1800.0)  # an operator starts it again
        else:
            assert len(strategy.history) == rounds
            ends["done"] += 1
            number += 1
        assert clock.now - began <= longest
        marks.append((clock.now / HOUR, memory()))
    early = next(megabytes for hour, megabytes in marks if hour >= hours / 4)
    epsilon = {name: spent(valley, name) for name in NAMES}
    print(f"\n{hours} hours: {dict(ends)}, memory {early:.0f} to {marks[-1][1]:.0f} MB")  # noqa: T201 - a measurement
    print({name: round(value, 1) for name, value in epsilon.items()})  # noqa: T201 - a measurement
    assert ends["done"] >= 3
    assert marks[-1][1] - early < 60
    assert all(value <= Frugal.policy.max_epsilon for value in epsilon.values())
