"""The season of a run: asked for once, summed, kept, signed, and gone on with after a stop."""

from dataclasses import replace

import numpy as np
import pytest

from client.app import app
from client.node.session import close_nodes
from common.errors import PolicyError, QuorumError
from common.federation.aggregation import Aggregator
from common.federation.contribution_files import FOLDER, read_round
from common.privacy.ledger.contributions import read_contributions, vector_digest
from common.privacy.ledger.journal import read_journal
from server.run.checkpoint import read_checkpoint
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import (
    LOCAL,
    SEASON_ENDS,
    SEASON_SIZE,
    SEASONAL,
    FakeWork,
    federation,
    seasonal,
    seeded,
    shops,
)
from tests.support.ledger_node import LedgerWork, Town

__all__ = ["federation", "shops"]  # fixtures


def run(federation, setup, rounds=1, run_id=1):
    strategy = FedtailStrategy(setup)
    grid = InProcessGrid(app, 3, {"federation": str(federation)}, run_id)
    strategy.start(grid, num_rounds=rounds)
    return strategy


def expected(name):
    noise = seeded("season", name).normal(0, 3.0, SEASON_SIZE)
    return (np.arange(SEASON_SIZE) + noise).astype(np.float32)


NAMES = ("ash", "birch", "cedar")


def test_a_season_is_summed_after_popularity_and_before_the_rounds(shops, federation):
    state = run(federation, seasonal(), rounds=2).state
    for work in shops.works.values():
        asked = [call[0] for call in work.calls]
        assert asked == ["prepare", "popularity", "season", "train", "train"]
    total = np.sum([expected(name).astype(np.float64) for name in NAMES], axis=0)
    np.testing.assert_array_equal(state.season.vectors, total.reshape(2, 4).astype(np.float32))
    assert (state.season.ends, state.season.merchants) == (SEASON_ENDS, 3)
    assert state.season.noise_std == pytest.approx(3.0 * np.sqrt(3))


def test_a_season_changes_no_update(shops, federation):
    """Its noise and its numbers are its own: training goes the same way with and without it."""
    with_, without = (run(federation, seasonal(season_ends=ends), 3) for ends in (SEASON_ENDS, ()))
    assert without.state.season is None
    assert with_.state.adapter.digest == without.state.adapter.digest


def test_without_noise_an_exact_season_is_taken_where_ends_are_named(shops, federation):
    plan = replace(LOCAL, dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0)
    state = run(federation, seasonal(plan=plan)).state
    np.testing.assert_array_equal(state.season.vectors.ravel(), 3.0 * np.arange(SEASON_SIZE))
    assert state.season.noise_std == 0
    assert run(federation, seasonal(plan=plan, season_ends=())).state.season is None


def test_central_noise_needs_every_merchant_also_in_the_season(shops, federation):
    plan = replace(SEASONAL, dp_model="central", merchants=3)
    assert run(federation, seasonal(plan=plan)).state.season.noise_std == pytest.approx(3.0)
    run_of = Quorum(1, 0.5, 0.0)
    with refusing("cedar"), pytest.raises(QuorumError) as caught:
        run(federation, seasonal(plan=plan, quorum=run_of))
    assert caught.value.field == "season"


class refusing:  # noqa: N801 - read as a word
    """Some merchants' policy allows no season."""

    def __init__(self, *names):
        self.names = names

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        honest, names = FakeWork.season, self.names

        def season(work, plan, run_id):
            if work.merchant in names:
                raise PolicyError("The policy allows no season.", field="allow_season")
            return honest(work, plan, run_id)

        self.patch.setattr(FakeWork, "season", season)

    def __exit__(self, *_):
        self.patch.undo()


def test_who_gives_no_season_trains_all_the_same(shops, federation, tmp_path):
    setup = seasonal(quorum=Quorum(2, 0.5, 0.0), journal=tmp_path / "journal.jsonl")
    with refusing("birch"):
        state = run(federation, setup, rounds=2).state
    assert state.season.merchants == 2
    assert [record.participants for record in state.history] == [3, 3]
    entries = read_journal((tmp_path / "journal.jsonl").read_bytes())
    taken = [one.participants for one in entries if one.kind == "season"]
    assert taken == [("ash", "cedar")]


def test_too_few_seasons_end_the_run_before_it_trains(shops, federation):
    with refusing("ash", "birch"), pytest.raises(QuorumError) as caught:
        run(federation, seasonal(quorum=Quorum(1, 0.5, 0.0)))
    assert caught.value.field == "season"
    assert "train" not in [call[0] for call in shops.works["cedar"].calls]


# ------------------------------------------------------------ what is no season
LIES = {
    "season_norm": lambda vector: vector * 1e6,
    "season_coordinate": lambda vector: np.eye(1, SEASON_SIZE, 3, np.float32)[0] * 422,
    "season": lambda vector: vector[:-1],
}


@pytest.mark.attack
@pytest.mark.parametrize("field", LIES)
def test_a_vector_that_no_honest_node_sends_is_left_out(shops, federation, tmp_path, field):
    """One too long, one in a single place, one too short: the season is the honest nodes'."""

    class Liar(FakeWork):
        def season(self, plan, run_id):
            vector = super().season(plan, run_id)
            return LIES[field](vector) if self.merchant == "birch" else vector

    shops.make = Liar
    setup = seasonal(quorum=Quorum(2, 0.5, 0.0), journal=tmp_path / "journal.jsonl")
    season = run(federation, setup).state.season
    honest = np.sum([expected(name).astype(np.float64) for name in ("ash", "cedar")], axis=0)
    np.testing.assert_array_equal(season.vectors.ravel(), honest.astype(np.float32))
    entries = read_journal((tmp_path / "journal.jsonl").read_bytes())
    assert [one.reason for one in entries if one.kind == "refusal"] == [f"federation:{field}"]


SIGNED = {
    "for a histogram": lambda vector, purpose: (vector, replace(purpose, kind="popularity")),
    "in another run": lambda vector, purpose: (vector, replace(purpose, run_id="99")),
    "of other numbers": lambda vector, purpose: (vector + 1, purpose),
}


@pytest.mark.attack
@pytest.mark.parametrize("lie", SIGNED)
def test_a_signature_of_something_else_is_none_for_a_season(shops, federation, tmp_path, lie):
    """What a node signed once, of another vector or for another use, is sent in its place."""

    class Liar(FakeWork):
        def contribution(self, vector, purpose):
            if (self.merchant, purpose.kind) == ("birch", "season"):
                vector, purpose = SIGNED[lie](vector, purpose)
            return super().contribution(vector, purpose)

    shops.make = Liar
    setup = seasonal(quorum=Quorum(2, 0.5, 0.0), journal=tmp_path / "journal.jsonl")
    season = run(federation, setup).state.season
    honest = np.sum([expected(name).astype(np.float64) for name in ("ash", "cedar")], axis=0)
    np.testing.assert_array_equal(season.vectors.ravel(), honest.astype(np.float32))
    entries = read_journal((tmp_path / "journal.jsonl").read_bytes())
    assert [one.reason for one in entries if one.kind == "refusal"] == ["federation:contribution"]


# ------------------------------------------------------------ kept and resumed
@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_run_goes_on_with_the_same_season(shops, federation, tmp_path, stop):
    whole = run(federation, seasonal(), rounds=6).state
    halves = seasonal(folder=tmp_path / "run")
    run(federation, halves, rounds=stop)
    close_nodes()
    resumed = run(federation, halves, rounds=6).state
    assert resumed.season.to_bytes() == whole.season.to_bytes()
    for work in shops.works.values():
        assert "season" not in [call[0] for call in work.calls]


def test_it_is_signed_kept_and_on_the_journal(shops, federation, tmp_path):
    folder = tmp_path / "run"
    run(federation, seasonal(folder=folder, journal=folder / "journal.jsonl"), rounds=2)
    entries = read_journal((folder / "journal.jsonl").read_bytes())
    (entry,) = (one for one in entries if one.kind == "season")
    vectors = read_round(folder / FOLDER, 0, "season")
    told = read_contributions(entry)
    assert [one.purpose.kind for one in told] == ["season"] * 3
    assert {one.merchant: one.digest for one in told} == {
        name: vector_digest(vector) for name, vector in vectors.items()
    }
    assert sorted(vectors) == list(NAMES)
    kept = read_checkpoint(folder).season
    assert kept.ends == SEASON_ENDS


class Stopped(Exception):  # noqa: N818 - a stop is no error of ours
    pass


@pytest.mark.faults
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_server_that_dies_in_the_season_asks_once_more(shops, tmp_path, monkeypatch, place):
    """Killed around the checkpoint: paid for twice at most, never used unpaid, and one is used."""
    from server.run import strategy as module

    town = Town(tmp_path, shops)
    setup = {"plan": replace(town.plan, season_noise_multiplier=3.0)}
    setup |= {"season_ends": SEASON_ENDS, "vector_width": 4}
    write = module.write_checkpoint

    def dying(folder, state):
        if state.season is not None and place == "before":
            raise Stopped
        write(folder, state)
        if state.season is not None:
            raise Stopped

    monkeypatch.setattr(module, "write_checkpoint", dying)
    with pytest.raises(Stopped):
        town.run(rounds=2, **setup)
    monkeypatch.setattr(module, "write_checkpoint", write)
    season = town.run(rounds=2, **setup).state.season
    asked = 2 if place == "before" else 1
    assert town.charged("ash")["season", 0] == asked
    assert [one.kind for one in town.journal()].count("season") == asked
    assert season.merchants == 3
    assert LedgerWork in shops.works["ash"].__class__.__mro__


def test_the_runs_rule_is_the_seasons_too(shops, federation):
    season = run(federation, seasonal(aggregate=Aggregator("median"))).state.season
    middle = np.median([expected(name).astype(np.float64) for name in NAMES], axis=0) * 3
    np.testing.assert_allclose(season.vectors.ravel(), middle, rtol=1e-6)
