"""A node in a refresh: its season, under its own charge, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from client.node.settings import check_refresh
from common.errors import FederationError, PolicyError, SettingsError
from common.settings.refresh import refreshed_settings
from tests.client.node.test_participant import entries, ground, opened_work, plan_of

__all__ = ["ground"]  # a fixture

PLAN = plan_of(season_noise_multiplier=2.0)
REFRESH = replace(
    PLAN,
    steps=0,
    steps_per_round=1,
    noise_multiplier=0.0,
    popularity_noise_multiplier=0.0,
)


def refreshed(settings):
    asked = {"season_ends": "1970-11-01", "epsilon": 1.0, "seeded_noise": True}
    return refreshed_settings(settings.to_flat(), "ab" * 32, asked).to_flat()


@pytest.fixture
def work(ground, tmp_path):
    settings, _, basis, _ = ground
    opened = opened_work(ground, tmp_path)
    opened.prepare(basis.to_bytes(), refreshed(settings))
    return opened


def test_it_gives_its_season_and_is_charged_for_it(work, ground):
    vector = work.season(REFRESH, 1)
    assert vector.shape == (ground[2].vector_width,)
    assert entries(work) == [("season", 0)]
    (entry,) = [one for one in work._ledger.entries() if one.kind == "season"]
    assert entry.plan_digest == REFRESH.digest
    assert entry.event == REFRESH.event("season")


@pytest.mark.attack
def test_a_round_that_is_asked_for_in_a_refresh_is_not_charged(work, ground):
    """Whatever adapter comes with it: the plan has no such round, and no histogram."""
    _, data, _, adapter = ground
    popularity = np.full(len(data.catalogue), 1 / len(data.catalogue), np.float32)
    for number in (0, 1):
        with pytest.raises(FederationError, match="no such round"):
            work.train(adapter, popularity, REFRESH, 1, number)
    with pytest.raises(SettingsError):
        work.popularity(REFRESH, 1, 0)
    assert entries(work) == []


@pytest.mark.attack
@pytest.mark.parametrize("rounds", [True, False])
def test_a_plan_with_rounds_under_settings_of_a_refresh_is_refused(ground, rounds):
    """And one without under other settings, before the node computes anything."""
    settings = ground[0]
    plan, told = (PLAN, refreshed(settings)) if rounds else (REFRESH, settings.to_flat())
    with pytest.raises(FederationError) as caught:
        check_refresh(plan, told)
    assert caught.value.public() == "federation:refresh_of"
    check_refresh(REFRESH, refreshed(settings))
    check_refresh(PLAN, settings.to_flat())


@pytest.mark.parametrize("name", ["allow_refresh", "allow_season"])
def test_the_policy_may_refuse_and_nothing_is_charged(work, name):
    work._policy = replace(work._policy, **{name: False})
    with pytest.raises(PolicyError) as caught:
        work.season(REFRESH, 1)
    assert caught.value.public() == f"policy:{name}"
    assert entries(work) == []
