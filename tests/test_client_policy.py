"""The merchant's policy: its file, its bounds, and what it refuses."""

import dataclasses
import math

import pytest

from client.policy import Policy
from common.errors import PolicyError, SettingsError
from common.privacy.accounting import epsilon_pld
from common.privacy.plan import PrivacyPlan, solve_plan

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=50,
    noise_multiplier=2.2,
    max_grad_norm=1.0,
    declared_shoppers=4000,
    delta=1e-5,
    placement="local",
)


def test_the_default_policy_admits_an_ordinary_plan():
    Policy().check(PLAN)


@pytest.mark.parametrize(
    ("policy", "plan", "field"),
    [
        (Policy(), {"placement": "central"}, "placement"),
        (Policy(), {"placement": "none", "noise_multiplier": 0.0}, "placement"),
        (Policy(placements=()), {}, "placement"),
        (Policy(min_noise_multiplier=2.3), {}, "noise_multiplier"),
        (Policy(), {"delta": 1e-4}, "delta"),
        (Policy(max_run_epsilon=3.0), {}, "epsilon"),
        (Policy(max_run_epsilon=5.0), {"popularity_noise_multiplier": 0.5}, "epsilon"),
        (
            Policy(placements=("none",), min_noise_multiplier=0.0),
            {"placement": "none", "noise_multiplier": 0.0},
            "epsilon",
        ),
    ],
)
def test_a_plan_with_less_privacy_is_refused(policy, plan, field):
    with pytest.raises(PolicyError) as caught:
        policy.check(dataclasses.replace(PLAN, **plan))
    assert caught.value.field == field


def test_seeded_noise_needs_leave():
    with pytest.raises(PolicyError) as caught:
        Policy().check(PLAN, seeded_noise=True)
    assert caught.value.field == "seeded_noise"
    Policy(allow_seeded_noise=True).check(PLAN, seeded_noise=True)


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('max_epsilon = 2\ndelta = 1e-6\nplacements = ["local", "central"]\n')
    policy = Policy.from_toml(file)
    assert (policy.max_epsilon, policy.delta) == (2, 1e-6)
    assert policy.placements == ("local", "central")
    assert policy.min_noise_multiplier == Policy().min_noise_multiplier


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("max_epsilonn = 2", "policy"),
        ("max_epsilon = ", "policy"),
        ('max_epsilon = "2"', "max_epsilon"),
        ("max_epsilon = true", "max_epsilon"),
        ("max_epsilon = -1", "max_epsilon"),
        ("max_epsilon = nan", "max_epsilon"),
        ("delta = 0", "delta"),
        ("delta = 1", "delta"),
        ('placements = ["nowhere"]', "placements"),
        ('placements = "local"', "placements"),
        ("placements = [1]", "placements"),
        ("placements = [[]]", "placements"),
        ('allow_seeded_noise = "no"', "allow_seeded_noise"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, field):
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Policy.from_toml(file)
    assert caught.value.field == field


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError):
        Policy.from_toml(tmp_path / "absent.toml")


def test_a_simulations_policy_fits_its_plan():
    plan = solve_plan(
        epsilon=4,
        delta=1e-4,
        sample_rate=1.0,
        steps=10,
        max_grad_norm=1.0,
        declared_shoppers=1000,
        placement="central",
        merchants=8,
    )
    policy = Policy.for_simulation(plan)
    policy.check(plan)
    spent = epsilon_pld(plan.events(), plan.delta)
    assert spent <= policy.max_epsilon <= 1.25 * spent
    silent = solve_plan(
        epsilon=math.inf,
        delta=1e-4,
        sample_rate=1.0,
        steps=10,
        max_grad_norm=1.0,
        declared_shoppers=1000,
    )
    Policy.for_simulation(silent).check(silent)
    with pytest.raises(PolicyError):
        policy.check(silent)
