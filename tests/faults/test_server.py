"""A server that dies at any point, is full, or lives in another time."""

import contextlib
import itertools
import time
from collections import Counter
from types import SimpleNamespace

import pytest

import client.app
import server.run.checkpoint
import server.run.journal
from common.errors import FederationError, QuorumError
from common.privacy.ledger.journal import last_receipts
from server.run.cohort import Exchange
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import shops
from tests.support.ledger_node import ONCE, LedgerWork, Town, refused, town
from tests.support.small_disks import fill, mounted

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.faults


class Killed(BaseException):
    """As SIGKILL: nothing of ours catches it."""


class Guillotine:
    """Kills at the nth of the server's steps to disk and to the nodes, before or after it."""

    def __init__(self, monkeypatch, at):
        self.left, self.steps = at, []
        for owner, name in (
            (server.run.journal.os, "fsync"),  # also of the files that are written whole
            (server.run.journal, "_append"),
            (server.run.checkpoint, "write_atomic"),
            (Exchange, "ask"),
        ):
            monkeypatch.setattr(owner, name, self.wrapped(name, getattr(owner, name)))

    def wrapped(self, name, real):
        def step(*arguments, **options):
            self.fall(f"before {name}")
            done = real(*arguments, **options)
            self.fall(f"after {name}")
            return done

        return step

    def fall(self, step):
        self.steps.append(step)
        self.left -= 1
        if self.left == 0:
            raise Killed


def kill_at(town, place):
    """Run and kill at step `place`; return whether it came to that."""
    with pytest.MonkeyPatch.context() as patch:
        blade = Guillotine(patch, place)
        try:
            town.run(rounds=3)
        except Killed:
            return blade.steps[-1]
    return None


@pytest.mark.parametrize(
    "stride", [29, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_server_killed_anywhere(shops, tmp_path, stride):
    """Killed at any step to disk or nodes, then resumed: the adapter of an uninterrupted run.

    What differs is told by the ledgers: the round that was going on, and no other, is charged a
    second time to the nodes that had paid for it.
    """
    whole = Town(tmp_path / "whole", shops)
    expected = whole.run(rounds=3).state.adapter
    once = whole.charged("ash")
    repeated = Counter()
    for place in itertools.count(1, stride):
        one = Town(tmp_path / str(place), shops)
        step = kill_at(one, place)
        if step is None:
            break
        resumed = one.run(rounds=3)
        assert resumed.state.adapter.digest == expected.digest, (place, step)
        assert [record.round_number for record in resumed.history] == [1, 2, 3]
        for name, charged in one.charged().items():
            again = charged - once
            assert once - charged == Counter(), (place, step, name)
            assert sum(again.values()) <= 1, (place, step, name)  # one round of one kind
            repeated += again
        journal = one.journal()  # reads: chain and signatures hold
        heads = {name: last.head.number for name, last in last_receipts(journal).items()}
        assert heads == {name: sum(one.charged(name).values()) for name in heads}
        assert one.refusals() == []
    assert place > 100
    assert repeated  # some points do cost a round


# ------------------------------------------------------------------ a full disk
@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 kB that can be filled, mounted at the path it gives."""
    with mounted(tmp_path / "disk", 512) as folder:
        yield folder


@pytest.mark.parametrize("leave", [0, 4096, 16_384, 24_576])
def test_disk_full_on_a_node(town, small_disk, leave):
    """A node's disk is full in round 2: it trains nothing unpaid, the others go on, it comes back.

    With some room left the ledger's entry fits and the receipt's file may not, or neither.
    """
    (small_disk / "node").mkdir()
    (town.federation / "cedar" / "node").symlink_to(small_disk / "node")
    trained, fillers = [], []

    class Full(LedgerWork):
        def before(self, kind, number):
            if (self.merchant, kind, number) == ("ash", "train", 2):
                fillers.append(fill(small_disk, leave))

        def after(self, kind, number):
            if self.merchant == "cedar":
                trained.append((kind, number))

    town.shops.make = Full
    with failures() as reasons:
        town.run(rounds=3)
    assert set(reasons) <= {"ledger:disk", "ledger:receipts", "disk:full"}
    assert bool(reasons) or leave > 4096
    fillers[0].unlink()
    strategy = town.run()
    assert [one.participants for one in strategy.history][3:] == [3, 3, 3]
    charged = town.charged("cedar")
    assert Counter(trained) == charged  # nothing without a charge, no charge half there
    assert town.refusals() == []


@contextlib.contextmanager
def failures():
    """Collect the reasons for which nodes failed."""
    reasons, real = [], Exchange.ask

    def ask(*arguments, **named):
        answers = real(*arguments, **named)
        reasons.extend(answers.errors.values())
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Exchange, "ask", ask)
        yield reasons


@pytest.mark.parametrize("leave", [0, 4096, 12_288])
def test_disk_full_on_the_server(town, small_disk, leave):
    """The server's disk is full: a stop that names it; with room again the run goes on as ever."""
    town.run_folder = small_disk / "run"
    town.run(rounds=2)
    before = town.checkpoint().adapter.digest
    filler = fill(small_disk, leave)
    with pytest.raises(FederationError) as caught:
        town.run()
    assert caught.value.field in {"journal", "checkpoint", "contributions"}
    assert "No space left" in str(caught.value)
    kept = town.checkpoint()
    assert kept.adapter.digest == before or kept.round_number > 2
    filler.unlink()
    resumed = town.run()
    assert len(resumed.history) == 6
    other = Town(town.root / "other", town.shops)
    assert resumed.state.adapter.digest == other.run().state.adapter.digest
    assert not list(small_disk.glob("run/.*"))  # no half-written file is left


# --------------------------------------------------------------------- clocks
HOUR = 3600.0


def clock(seconds):
    """The `time` that a module sees on a machine whose clock is so wrong."""
    return SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)


class StampedElsewhere(InProcessGrid):
    """Messages bear the server's time, which is `wrong` by so many seconds."""

    wrong = 0.0

    def _deliver(self, message):
        message.metadata.created_at += self.wrong
        return super()._deliver(message)


@pytest.mark.parametrize("hours", [5, 24 * 3, 24 * 400])
def test_server_clock_ahead(town, monkeypatch, hours):
    """The server's clock jumps ahead between two starts: nothing of the run depends on it."""
    town.run(rounds=1)
    monkeypatch.setattr(server.run.journal, "time", clock(hours * HOUR))
    grid = town.grid(StampedElsewhere)
    grid.wrong = hours * HOUR
    resumed = town.run(grid, rounds=3)
    assert [one.participants for one in resumed.history] == [3, 3, 3]
    monkeypatch.setattr(server.run.journal, "time", clock(0.0))  # and back
    town.run(rounds=4)
    assert sum(town.charged("ash").values()) == 5


@pytest.mark.parametrize("hours", [-5, -24 * 400])
def test_server_clock_behind(town, hours):
    """The server's clock is behind: its messages are over when they come, so nobody pays."""
    grid = town.grid(StampedElsewhere)
    grid.wrong = hours * HOUR
    with failures() as reasons, refused(QuorumError, "popularity"):
        town.run(grid)
    assert reasons == ["federation:clock"] * 3
    assert town.charged("ash") == Counter()


@pytest.mark.parametrize(("hours", "answers"), [(-24 * 3, 3), (-5, 3), (5, 2), (24 * 3, 2)])
def test_node_clock_wrong(town, monkeypatch, hours, answers):
    """A node's clock is wrong: ahead of a round's end it refuses, unpaid; behind changes nothing.

    Flower would drop its answer, so each round would be paid for and lost.
    """
    now = {"ash": 0.0, "birch": 0.0, "cedar": hours * HOUR}
    here = []
    skewed = SimpleNamespace(time=lambda: time.time() + now[here[-1]])
    monkeypatch.setattr(client.app, "time", skewed)

    class Skewed(InProcessGrid):
        def _deliver(self, message):
            here.append(("ash", "birch", "cedar")[message.metadata.dst_node_id - 1000])
            try:
                return super()._deliver(message)
            finally:
                here.clear()

    town.shops.make = LedgerWork
    with failures() as reasons:
        strategy = town.run(town.grid(Skewed))
    assert [one.participants for one in strategy.history] == [answers] * 6
    assert town.charged("cedar") == (ONCE if answers == 3 else Counter())
    assert set(reasons) == (set() if answers == 3 else {"federation:clock"})
