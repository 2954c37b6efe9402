"""The merchant's policy: its file, its bounds, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest

from client.privacy.policy import POLICY_FILE, Policy, read_policy
from common.errors import PolicyError, PrivacyError, SettingsError
from common.privacy.accounting.accountants import epsilon_pld
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.accounting.plan_solver import solve_plan

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=50,
    noise_multiplier=2.2,
    max_grad_norm=1.0,
    size_bracket=4000,
    delta=1e-5,
    dp_model="local",
)


def test_the_default_policy_admits_an_ordinary_plan():
    Policy().check(PLAN)


@pytest.mark.parametrize(
    ("policy", "plan", "field"),
    [
        (Policy(), {"dp_model": "central"}, "dp_model"),
        (Policy(), {"dp_model": "none", "noise_multiplier": 0.0}, "dp_model"),
        (Policy(dp_models=()), {}, "dp_model"),
        (Policy(min_noise_multiplier=2.3), {}, "noise_multiplier"),
        (Policy(), {"delta": 1e-4}, "delta"),
        (Policy(max_run_epsilon=3.0), {}, "epsilon"),
        (Policy(max_run_epsilon=5.0), {"popularity_noise_multiplier": 0.5}, "epsilon"),
        (
            Policy(dp_models=("none",), min_noise_multiplier=0.0),
            {"dp_model": "none", "noise_multiplier": 0.0},
            "epsilon",
        ),
    ],
)
def test_a_plan_with_less_privacy_is_refused(policy, plan, field):
    with pytest.raises(PolicyError) as caught:
        policy.check(dataclasses.replace(PLAN, **plan))
    assert caught.value.field == field


SHARED = dataclasses.replace(PLAN, dp_model="distributed", merchants=9, spared=3)
SHARING = Policy(dp_models=("local", "distributed"))


def test_noise_is_shared_only_where_the_merchant_says_so():
    SHARING.check(SHARED)
    with pytest.raises(PolicyError) as caught:
        Policy().check(SHARED)
    assert caught.value.public() == "policy:dp_model"
    with pytest.raises(PolicyError):
        Policy(dp_models=("distributed",)).check(PLAN)


@pytest.mark.parametrize(("least", "spared"), [(1 / 3, 3), (0.5, 4), (0.1, 0), (0.0, 0)])
def test_shared_noise_must_spare_as_many_as_the_policy_asks_for(least, spared):
    policy = dataclasses.replace(SHARING, min_spared_share=least)
    policy.check(dataclasses.replace(SHARED, spared=spared))
    if spared:
        with pytest.raises(PolicyError) as caught:
            policy.check(dataclasses.replace(SHARED, spared=spared - 1))
        assert caught.value.public() == "policy:spared"


def test_the_merchants_of_a_sum_count_as_its_cohort():
    """An honest node opens no smaller sum, whatever the run's settings say."""
    dataclasses.replace(SHARING, min_cohort=6).check(SHARED, cohort=1)
    with pytest.raises(PolicyError) as caught:
        dataclasses.replace(SHARING, min_cohort=7).check(SHARED, cohort=1)
    assert caught.value.public() == "policy:min_merchants"


def test_a_plan_whose_shares_are_no_gaussian_is_refused():
    quiet = dataclasses.replace(SHARED, steps=10_000_000, noise_multiplier=60.0)
    with pytest.raises(PrivacyError) as caught:
        SHARING.check(quiet)
    assert caught.value.field == "noise_multiplier"


def test_a_cohort_that_is_too_small_is_refused():
    Policy().check(PLAN)
    Policy(min_cohort=3).check(PLAN, cohort=3)
    for cohort in (2, None):  # what nobody has said counts as one
        with pytest.raises(PolicyError) as caught:
            Policy(min_cohort=3).check(PLAN, cohort=cohort)
        assert caught.value.public() == "policy:min_merchants"


@pytest.mark.parametrize(
    ("policy", "temperature", "norm", "field"),
    [
        (Policy(), 1e-9, 1.0, "temperature"),
        (Policy(), math.nan, 1.0, "temperature"),
        (Policy(min_temperature=0.05), 0.04, 1.0, "temperature"),
        (Policy(), 0.1, 1.1e6, "basis"),
        (Policy(), 0.1, math.nan, "basis"),
        (Policy(max_basis_norm=10.0), 0.1, 11.0, "basis"),
    ],
)
def test_a_steep_loss_or_basis_is_refused(policy, temperature, norm, field):
    Policy().check_public(0.01, 1e6)
    with pytest.raises(PolicyError) as caught:
        policy.check_public(temperature, norm)
    assert caught.value.public() == f"policy:{field}"


@pytest.mark.parametrize(
    "popularity", [[0.0, 0.5], [1e-7, 0.5], [0.5, 1.5], [0.5, math.nan], [-0.1, -0.1]]
)
def test_popularity_that_is_no_probability_or_of_too_wide_a_range_is_refused(popularity):
    Policy().check_popularity(None)
    Policy().check_popularity(np.array([1.1e-6, 1.0], np.float32))
    for policy in (Policy(), Policy(max_popularity_ratio=2.0)):
        with pytest.raises(PolicyError) as caught:
            policy.check_popularity(np.array(popularity, np.float32))
        assert caught.value.public() == "policy:popularity"
    with pytest.raises(PolicyError):
        Policy(max_popularity_ratio=2.0).check_popularity(np.array([0.1, 0.3], np.float32))


def test_metrics_leave_only_if_they_are_named():
    Policy().check_metrics({"epsilon": 1.0, "delta": 1e-5})
    Policy(metrics=()).check_metrics({})
    with pytest.raises(PolicyError) as caught:
        Policy(metrics=("delta",)).check_metrics({"epsilon": 1.0})
    assert caught.value.field == "metrics"
    with pytest.raises(PolicyError) as caught:
        Policy().check_metrics({"shopper 17850": 1.0})
    assert "17850" not in str(caught.value)


def test_an_app_runs_only_if_it_is_the_installed_one_or_listed():
    one, own, other = "1" * 64, "2" * 64, "3" * 64
    Policy().check_app(own, own)
    Policy(app_digests=(other,)).check_app(own, own)
    Policy(app_digests=(other, one)).check_app(one, own)
    for listed, installed in (((), own), ((other,), own), ((), ""), ((other,), "")):
        with pytest.raises(PolicyError, match=one) as caught:
            Policy(app_digests=listed).check_app(one, installed)
        assert caught.value.field == "app_digests"


def test_without_a_file_a_shop_has_the_default_policy(tmp_path):
    assert read_policy(tmp_path) == Policy()
    (tmp_path / POLICY_FILE).write_text("min_cohort = 4")
    assert read_policy(tmp_path) == Policy(min_cohort=4)


def test_seeded_noise_needs_leave():
    with pytest.raises(PolicyError) as caught:
        Policy().check(PLAN, seeded_noise=True)
    assert caught.value.field == "seeded_noise"
    Policy(allow_seeded_noise=True).check(PLAN, seeded_noise=True)


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('max_epsilon = 2\ndelta = 1e-6\ndp_models = ["local", "central"]\n')
    policy = Policy.from_toml(file)
    assert (policy.max_epsilon, policy.delta) == (2, 1e-6)
    assert policy.dp_models == ("local", "central")
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
        ('dp_models = ["nowhere"]', "dp_models"),
        ('dp_models = "local"', "dp_models"),
        ("dp_models = [1]", "dp_models"),
        ("dp_models = [[]]", "dp_models"),
        ('allow_seeded_noise = "no"', "allow_seeded_noise"),
        ("allow_refresh = 1", "allow_refresh"),
        ("min_spared_share = 0.6", "min_spared_share"),
        ("min_spared_share = -0.1", "min_spared_share"),
        ("min_cohort = 0", "min_cohort"),
        ("min_cohort = 2.0", "min_cohort"),
        ("min_cohort = true", "min_cohort"),
        ('metrics = ["loss"]', "metrics"),
        ('metrics = "epsilon"', "metrics"),
        ('app_digests = ["abc"]', "app_digests"),
        (f'app_digests = ["{"A" * 64}"]', "app_digests"),
        (f'app_digests = "{"a" * 64}"', "app_digests"),
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
        size_bracket=1000,
        dp_model="central",
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
        size_bracket=1000,
    )
    Policy.for_simulation(silent).check(silent)
    with pytest.raises(PolicyError):
        policy.check(silent)


REFRESH = dataclasses.replace(PLAN, steps=0, noise_multiplier=0.0, season_noise_multiplier=7.0)


def test_a_refresh_has_no_step_whose_noise_could_be_too_little():
    Policy(min_noise_multiplier=50.0).check(REFRESH)


@pytest.mark.parametrize(
    ("policy", "changes", "field"),
    [
        (Policy(allow_refresh=False), {}, "allow_refresh"),
        (Policy(max_run_epsilon=0.4), {}, "epsilon"),
        (Policy(), {"delta": 1e-4}, "delta"),
        (Policy(), {"dp_model": "central"}, "dp_model"),
    ],
)
def test_a_refresh_is_bounded_as_a_run_is(policy, changes, field):
    with pytest.raises(PolicyError) as caught:
        policy.check(dataclasses.replace(REFRESH, **changes))
    assert caught.value.field == field
    Policy(allow_refresh=False).check(PLAN)  # a training is another thing
