"""Kill -9 at random: server, nodes and the clerk who enrols, each a process of its own."""

import time
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from client.privacy.budget import LEDGER_FILE
from common.privacy.accounting.accountants import epsilon_rdp
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.journal import last_receipts, read_journal
from common.privacy.ledger.ledger import Ledger
from server.operations.folder import ServerSettings
from server.operations.registry import read_registry
from server.run.checkpoint import read_checkpoint
from tests.support.doors import keys_of, set_up
from tests.support.fake_node import make_setup
from tests.support.process_town import CEILING, FINISHED, NAMES, PLAN, STOPPED, ProcessTown, by_hand

pytestmark = pytest.mark.faults
SECONDS, RESTARTS = 800.0, 10


@pytest.fixture
def processes(tmp_path):
    town = ProcessTown(tmp_path)
    set_up(town.operator.root, ServerSettings(("127.0.0.1",)), datetime.now(UTC))
    yield town
    town.stop_all()


def live_through(town, seed):
    """Run to the end of the run or to its clean stop, killing at random; return what happened."""
    chance = np.random.default_rng(seed)
    everybody = ("server", *NAMES, "clerk")
    kills, stops, dead = Counter(), 0, {}
    for who in everybody:
        town.start(who)
    end, next_kill = time.monotonic() + SECONDS, time.monotonic() + chance.uniform(0.05, 1.0)
    while time.monotonic() < end:
        now = time.monotonic()
        for who in [one for one, due in dead.items() if due <= now]:
            del dead[who]
            town.start(who)
        if now >= next_kill and sum(kills.values()) < 12:
            who = str(chance.choice([*everybody, "server"]))
            if who not in dead:
                town.kill(who)
                kills[who] += 1
                dead[who] = now + chance.uniform(0, 0.5)
            next_kill = now + chance.uniform(0.05, 0.6)
        status = town.ended("server")
        if status == FINISHED:
            return kills, stops, "finished"
        if status is not None:
            assert status == STOPPED, (town.root / "server.log").read_text()[-3000:]
            stops += 1
            if stops > RESTARTS:
                return kills, stops, "clean stop"
            dead["server"] = now  # the operator gives the same command again
        for who in (*NAMES, "clerk"):
            assert town.ended(who) is None, (town.root / f"{who}.log").read_text()[-3000:]
        time.sleep(0.01)
    raise AssertionError("The run neither ended nor stopped.")


def check(town, outcome):
    """Hold what is on disk to what must be there; return rounds charged more than once."""
    entries = read_journal((town.run_folder / "journal.jsonl").read_bytes())
    checkpoint = read_checkpoint(town.run_folder)
    closed = {}
    for entry in entries:
        if entry.kind == "train" and entry.adapter:
            closed[entry.round_number] = entry  # the last one counts: earlier ones came to nothing
    done = 0 if checkpoint is None else checkpoint.round_number
    rounds = [closed[number] for number in range(1, done + 1)]
    assert outcome == "clean stop" or done == PLAN.rounds
    if checkpoint is not None:
        np.testing.assert_array_equal(
            checkpoint.adapter.flatten(), by_hand([entry.participants for entry in rounds])
        )
        assert [one.participants for one in checkpoint.history] == [
            len(entry.participants) for entry in rounds
        ]
    repeated = 0
    heads = last_receipts(entries)
    for name in NAMES:
        path = town.federation / name / "node" / LEDGER_FILE
        charged = Ledger.open(path, name, "the shop's data").entries()
        assert epsilon_rdp(spent_events(charged), PLAN.delta) <= CEILING
        counts = Counter((one.kind, one.round_number) for one in charged)
        for entry in (one for one in entries if one.kind in {"train", "popularity"}):
            if name in entry.participants:  # whatever was used was paid for
                assert counts[entry.kind, entry.round_number] >= 1
        if name in heads:
            assert charged[heads[name].head.number - 1].hash == heads[name].head.hash
        repeated += sum(count - 1 for count in counts.values())
    assert [one for one in entries if one.kind == "refusal"] == []
    confirmed = (town.root / "enrolled").read_text().split()
    nodes = read_registry(town.operator.registry).nodes
    assert confirmed
    for name in confirmed:
        assert not nodes[name].revoked
        assert (town.operator.node_keys / f"{name}.pub").read_text().strip() == (
            nodes[name].public_key
        )
    keys_of(town.operator.root).load("release")
    return repeated


def schedules(count):
    fast = 1
    slow = [pytest.mark.slow, pytest.mark.timeout(7200)]
    return [seed if seed < fast else pytest.param(seed, marks=slow) for seed in range(count)]


@pytest.mark.parametrize("seed", schedules(20))
def test_killed_at_random(processes, seed, record_property):
    """Twelve kills at random: it ends whole or with a clean stop; budgets and enrolments hold."""
    kills, stops, outcome = live_through(processes, seed)
    processes.stop_all()
    repeated = check(processes, outcome)
    told = f"{outcome}; killed {sum(kills.values())} ({kills['server']} server)"
    record_property("outcome", f"{told}; {stops} stops; {repeated} charges repeated")


def test_the_oracle_is_not_blind():
    setup = make_setup(plan=PLAN)
    once = by_hand([NAMES] * 2)
    assert once.shape == (setup.adapter.size,)
    assert not np.array_equal(once, by_hand([NAMES, NAMES[:2]]))
