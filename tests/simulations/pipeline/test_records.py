"""What results.json tells of gain by size, and of a run's season."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from client.recommending.expected_benefit import GAIN_FILE, read_gain_by_size
from common.privacy.accounting.accountants import epsilon_pld
from common.privacy.accounting.plan_solver import solve_plan
from common.release.statement_draft import run_cost
from common.season import Season
from simulations.evaluation.by_size import gains_by_size
from simulations.pipeline.records import Beside, season_cost
from tests.simulations.evaluation.test_by_size import scorecard


def beside():
    scorecards = {
        "own_alone": [scorecard([0.1, 0.3]), scorecard([])],
        "fused": [scorecard([0.4, 0.4]), scorecard([])],
    }
    return Beside(by_size=gains_by_size(scorecards, [40, 400], seed=0))


def test_a_release_tells_the_gain_by_size_of_public_and_made_up_shoppers_alone():
    assert GAIN_FILE not in beside().files("nothing")
    assert GAIN_FILE not in Beside().files("public")
    for measured_on in ("public", "simulated"):
        found = read_gain_by_size(beside().files(measured_on))
        assert found.measured_on == measured_on
        small, large = found.sizes
        assert (small.size, small.alone, round(small.ndcg.mean, 6)) == (30, "EASE with titles", 0.2)
        assert (large.cases, large.ndcg.mean) == (0, None)
        json.loads(beside().files(measured_on)[GAIN_FILE])


PLAN = solve_plan(
    epsilon=4.0,
    delta=1e-5,
    sample_rate=0.25,
    steps=10,
    max_grad_norm=1.0,
    size_bracket=400,
    season_share=0.2,
)


def run_of(plan, season):
    return SimpleNamespace(plan=plan, season=season)


def test_it_tells_when_by_how_many_with_which_noise_and_at_which_cost():
    season = Season(np.ones((2, 3), np.float32), (0, 86_400 * 10**6), 9.0, 4)
    told = season_cost(run_of(PLAN, season), run_cost(PLAN))
    assert told.ends == ("1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00")
    assert (told.merchants, told.noise_std) == (4, 9.0)
    assert told.noise_multiplier == PLAN.season_noise_multiplier
    assert told.share == pytest.approx(0.2, rel=0.01)
    assert told.epsilon == epsilon_pld((PLAN.event("season"),), 1e-5)
    assert 0 < told.epsilon < 4


def test_without_noise_it_promises_nothing_and_without_a_season_it_is_not_there():
    bare = replace(
        PLAN,
        dp_model="none",
        noise_multiplier=0.0,
        popularity_noise_multiplier=0.0,
        season_noise_multiplier=0.0,
    )
    told = season_cost(run_of(bare, Season(np.ones((1, 3), np.float32), (0,), 0.0, 4)), None)
    assert (told.share, told.epsilon, told.noise_std) == (None, None, 0.0)
    assert season_cost(run_of(PLAN, None), run_cost(PLAN)) is None
