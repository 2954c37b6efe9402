"""A run without rounds: one season of those who are there, and the adapter as it came."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from common.errors import FederationError, QuorumError
from common.federation.contribution_files import sum_file
from common.privacy.ledger.contributions import rounds_behind
from common.privacy.ledger.journal import read_journal
from server.run import strategy as strategies
from server.run.checkpoint import read_checkpoint
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from tests.server.run.test_strategy import grid_of
from tests.support.fake_node import SEASON_SIZE, SEASONAL, FakeWork, federation, seasonal, shops
from tests.support.secure_town import NAMES, PLAN, secure_town

__all__ = ["federation", "secure_town", "shops"]  # fixtures

SETTINGS = {"seed": 1, "refresh_of": "ab" * 32}
NOTHING_ELSE = {
    "steps": 0,
    "noise_multiplier": 0.0,
    "popularity_noise_multiplier": 0.0,
}
REFRESH = replace(SEASONAL, **NOTHING_ELSE)


def refreshing(folder, **changes):
    values = {"plan": REFRESH, "settings": SETTINGS, "folder": folder}
    return seasonal(**values | {"journal": folder / "journal.jsonl"} | changes)


def run(federation, setup, **options):
    strategy = FedtailStrategy(setup)
    result = strategy.start(grid_of(federation), **options)
    return strategy, result


def asked(shops):
    return {name: [call[0] for call in work.calls] for name, work in shops.works.items()}


def journal(folder):
    return read_journal((folder / "journal.jsonl").read_bytes())


def test_each_node_gives_its_season_and_nothing_else(shops, federation, tmp_path):
    setup = refreshing(tmp_path)
    strategy, result = run(federation, setup)
    assert set(map(tuple, asked(shops).values())) == {("prepare", "season")}
    assert strategy.state.adapter.digest == setup.adapter.digest
    assert (strategy.history, strategy.state.round_number) == ((), 0)
    assert strategy.state.season.merchants == 3
    assert strategy.state.season.vectors.size == SEASON_SIZE
    np.testing.assert_array_equal(
        np.concatenate([one.numpy().ravel() for one in result.arrays.values()]),
        setup.adapter.flatten(),
    )
    assert read_checkpoint(tmp_path).season.to_bytes() == strategy.state.season.to_bytes()


def test_the_journal_says_whose_adapter_the_season_is_beside(shops, federation, tmp_path):
    setup = refreshing(tmp_path)
    run(federation, setup)
    entries = journal(tmp_path)
    (season,) = [one for one in entries if one.kind == "season"]
    assert season.adapter == setup.adapter.digest
    assert len(season.contributions) == 3
    behind = list(rounds_behind(entries, setup.adapter.digest, REFRESH.digest, {season.run_id}))
    assert behind == [season]


def test_a_season_of_a_training_names_no_adapter(shops, federation, tmp_path):
    """It is taken before there is one that it could be beside."""
    run(federation, seasonal(folder=tmp_path, journal=tmp_path / "journal.jsonl"), num_rounds=1)
    assert {one.adapter for one in journal(tmp_path) if one.kind == "season"} == {""}


def test_what_is_done_is_not_asked_again(shops, federation, tmp_path):
    first, _ = run(federation, refreshing(tmp_path))
    again, _ = run(federation, refreshing(tmp_path))
    assert again.state.season.to_bytes() == first.state.season.to_bytes()
    assert all(Counter(kinds)["season"] == 1 for kinds in asked(shops).values())
    # and nobody need be there: nodes may have gone
    alone, _ = run(federation, refreshing(tmp_path, quorum=Quorum(4, 1.0, 0.0)))
    assert alone.state.season.to_bytes() == first.state.season.to_bytes()


@pytest.mark.faults
def test_killed_before_the_checkpoint_it_asks_again(shops, federation, tmp_path, monkeypatch):
    """What the nodes were charged stays charged, and they are charged once more."""

    class KilledError(Exception):
        pass

    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(strategies, "write_checkpoint", killed)
        with pytest.raises(KilledError):
            run(federation, refreshing(tmp_path))
    strategy, _ = run(federation, refreshing(tmp_path))
    assert strategy.state.season.merchants == 3
    assert all(Counter(kinds)["season"] == 2 for kinds in asked(shops).values())
    assert sum(one.kind == "season" for one in journal(tmp_path)) == 2


def test_too_few_give_no_season(shops, federation, tmp_path):
    class Silent(FakeWork):
        def season(self, plan, run_id):
            if self.merchant != "ash":
                raise FederationError("No.", field="season")
            return super().season(plan, run_id)

    shops.make = Silent
    with pytest.raises(QuorumError):
        run(federation, refreshing(tmp_path, quorum=Quorum(2, 0.5, 0.0)))
    assert read_checkpoint(tmp_path) is None


def test_no_round_can_be_asked_for(shops, federation, tmp_path):
    with pytest.raises(FederationError) as caught:
        run(federation, refreshing(tmp_path), num_rounds=1)
    assert caught.value.field == "rounds"
    assert shops.works == {}


def test_of_shared_noise_the_server_sees_the_plain_sum(secure_town):
    plan = replace(PLAN, **NOTHING_ELSE)
    strategy = secure_town.run(plan=plan, settings=SETTINGS)
    total = secure_town.sum_of(sum_file(0, "season"))
    assert total.survivors == NAMES
    assert np.array_equal(total.vector, secure_town.plain_sum("season", 0, NAMES))
    assert strategy.state.season.merchants == 8
    for name in NAMES:
        assert secure_town.charged(name) == {("season", 0): 1}
