"""The plan: bounds, digest, and that sampler, clip, noise and cost agree."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingsError
from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld, gaussian_mu
from common.privacy.accounting.plan import PrivacyPlan, spared_of
from common.privacy.accounting.plan_solver import solve_plan

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=50,
    noise_multiplier=2.16,
    max_grad_norm=0.5,
    size_bracket=4000,
    delta=1e-5,
    dp_model="local",
    popularity_noise_multiplier=5.0,
)


def test_everything_derived_comes_from_the_plan():
    assert PLAN.divisor == 1000.0
    assert PLAN.rounds == 50
    assert PLAN.noise_std("train") == 2.16 * 0.5
    assert PLAN.noise_std("popularity") == 5.0
    assert PLAN.events() == (MechanismEvent(1.0, 5.0, 1), MechanismEvent(0.25, 2.16, 50))
    assert PLAN.events(3)[1].count == 3


def test_rounds_add_up_to_the_plan():
    plan = dataclasses.replace(PLAN, steps_per_round=5)
    assert plan.rounds * plan.event("train").count == plan.events()[1].count == 50
    assert plan.events(4)[1].count == 20


def test_without_a_histogram_there_is_no_such_event():
    plan = dataclasses.replace(PLAN, popularity_noise_multiplier=0.0)
    assert plan.events() == (MechanismEvent(0.25, 2.16, 50),)
    with pytest.raises(SettingsError) as caught:
        plan.event("popularity")
    assert caught.value.field == "popularity_noise_multiplier"


def test_central_noise_adds_up_over_merchants():
    plan = dataclasses.replace(PLAN, dp_model="central", merchants=8)
    variance = 8 * plan.noise_std("train") ** 2
    assert variance == pytest.approx((2.16 * 0.5) ** 2)
    assert plan.events() == PLAN.events()


SHARED = dataclasses.replace(PLAN, dp_model="distributed", merchants=8, spared=2)


@pytest.mark.parametrize("kind", ["train", "popularity"])
def test_those_who_are_not_spared_carry_the_noise_that_is_counted(kind):
    """And a 4,096th more in deviation; all together at most 1 / sqrt(1 - rho) of it."""
    alone = PLAN.noise_std(kind)
    share = SHARED.noise_std(kind)
    assert math.sqrt(6) * share == pytest.approx(alone * (1 + 2**-12))
    assert math.sqrt(8) * share <= alone * math.sqrt(1 / (1 - 1 / 3)) * (1 + 2**-12)
    assert SHARED.events() == PLAN.events()
    assert (SHARED.least_merchants, PLAN.least_merchants) == (6, 1)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("merchants", {"merchants": 4, "spared": 1}),
        ("spared", {"spared": 5}),
        ("spared", {"spared": -1}),
        ("spared", {"spared": 1.0}),
        ("spared", {"spared": True}),
        ("spared", {"dp_model": "local"}),
        ("steps_per_round", {"steps_per_round": 2}),
        ("noise_multiplier", {"noise_multiplier": 0.0}),
    ],
)
def test_noise_that_cannot_be_shared_is_refused(field, changes):
    with pytest.raises(SettingsError) as caught:
        dataclasses.replace(SHARED, **changes)
    assert caught.value.field == field


def test_a_plan_that_spares_nobody_has_the_json_of_an_older_version():
    assert "spared" not in PLAN.to_json()
    assert json.loads(SHARED.to_json())["spared"] == 2
    assert PrivacyPlan.from_json(SHARED.to_json()) == SHARED


@given(st.integers(5, 10_000))
def test_a_third_of_the_merchants_is_spared(merchants):
    assert spared_of(merchants, 1 / 3) == merchants // 3


def test_a_decimal_share_is_taken_as_it_is_written():
    assert [spared_of(100, share) for share in (0.29, 0.57 - 0.28, 0.0, 0.5)] == [29, 29, 0, 50]
    for share in (-0.01, 0.51, math.nan):
        with pytest.raises(SettingsError):
            spared_of(100, share)


def test_a_solved_plan_counts_the_sums_noise_as_a_local_plan_its_own():
    asked = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "sample_rate": 0.25,
        "steps": 40,
        "max_grad_norm": 1.0,
        "size_bracket": 400,
        "season_share": 0.25,
        "merchants": 8,
    }
    local, shared = (solve_plan(**asked, dp_model=one) for one in ("local", "distributed"))
    assert shared == dataclasses.replace(local, dp_model="distributed", spared=2)
    with pytest.raises(SettingsError) as caught:
        solve_plan(**{**asked, "merchants": 4}, dp_model="distributed")
    assert caught.value.field == "merchants"


def test_json_round_trip_keeps_every_value_and_the_digest():
    again = PrivacyPlan.from_json(PLAN.to_json())
    assert again == PLAN
    assert again.digest == PLAN.digest


@given(st.sampled_from([one.name for one in dataclasses.fields(PrivacyPlan)]))
def test_every_field_changes_the_digest(name):
    changed = {
        "dp_model": "central",
        "sample_rate": 0.5,
        "delta": 2e-5,
        "steps_per_round": 2,
        "merchants": 2,
        "season_noise_multiplier": 3.0,
        "spared": 1,
    }
    plan = SHARED if name == "spared" else PLAN
    value = changed.get(name, getattr(plan, name) * 2)
    assert dataclasses.replace(plan, **{name: value}).digest != plan.digest


def test_a_plan_without_a_season_has_the_json_and_digest_of_an_older_version():
    old = (
        '{"delta":1e-05,"dp_model":"local","max_grad_norm":0.5,"merchants":1,'
        '"noise_multiplier":2.16,"popularity_noise_multiplier":5.0,"sample_rate":0.25,'
        '"size_bracket":4000,"steps":50,"steps_per_round":1}'
    )
    assert PLAN.to_json() == old
    assert PrivacyPlan.from_json(old) == PLAN
    seasonal = dataclasses.replace(PLAN, season_noise_multiplier=3)
    assert json.loads(seasonal.to_json()) == {**json.loads(old), "season_noise_multiplier": 3.0}
    assert PrivacyPlan.from_json(seasonal.to_json()) == seasonal


def test_a_season_is_one_event_of_norm_one():
    plan = dataclasses.replace(PLAN, season_noise_multiplier=3.0)
    season = MechanismEvent(1.0, 3.0, 1)
    assert plan.events() == (PLAN.event("popularity"), season, MechanismEvent(0.25, 2.16, 50))
    assert plan.events(0)[1] == plan.event("season") == season
    assert (plan.clip_norm("season"), plan.noise_std("season")) == (1.0, 3.0)
    shared = dataclasses.replace(plan, dp_model="central", merchants=9)
    assert shared.noise_std("season") == pytest.approx(1.0)
    with pytest.raises(SettingsError) as caught:
        PLAN.event("season")
    assert caught.value.field == "season_noise_multiplier"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_the_season_takes_its_share_of_the_budget(share):
    """In mu squared, of an epsilon that all events together keep to, and nearly reach."""
    asked = {
        "epsilon": 4.0,
        "delta": 1e-5,
        "sample_rate": 0.25,
        "steps": 40,
        "max_grad_norm": 1.0,
        "size_bracket": 400,
    }
    plan, without = solve_plan(**asked, season_share=share), solve_plan(**asked)
    mu = 1 / plan.season_noise_multiplier
    assert mu**2 == pytest.approx(share * gaussian_mu(4.0, 1e-5) ** 2)
    assert 3.9 < epsilon_pld(plan.events(), 1e-5) <= 4.0
    assert plan.noise_multiplier > without.noise_multiplier
    assert plan.popularity_noise_multiplier == without.popularity_noise_multiplier
    assert not without.takes_season


@pytest.mark.parametrize(
    ("popularity", "season"), [(0.5, 0.5), (0.05, 0.95), (0.0, 1.0), (0.1, -0.1)]
)
def test_shares_that_leave_nothing_for_training_are_refused(popularity, season):
    with pytest.raises(SettingsError, match="season_share") as caught:
        solve_plan(
            epsilon=4.0,
            delta=1e-5,
            sample_rate=0.25,
            steps=40,
            max_grad_norm=1.0,
            size_bracket=400,
            popularity_share=popularity,
            season_share=season,
        )
    assert caught.value.field == "season_share"


def test_without_noise_a_season_costs_what_all_else_does():
    plan = PrivacyPlan(0.5, 2, 0.0, 1.0, 10, 1e-3, "none")
    assert plan.event("season") == MechanismEvent(1.0, 0.0, 1)
    assert not plan.takes_season
    with pytest.raises(SettingsError):
        dataclasses.replace(plan, season_noise_multiplier=1.0)


def test_a_whole_number_is_the_same_plan_as_its_float():
    ones = [dataclasses.replace(PLAN, max_grad_norm=value) for value in (1, 1.0)]
    assert ones[0].digest == ones[1].digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0.0),
        ("sample_rate", 1.01),
        ("sample_rate", math.nan),
        ("sample_rate", "0.25"),
        ("sample_rate", True),
        ("steps", -1),
        ("steps", 1.5),
        ("steps", True),
        ("noise_multiplier", 0.0),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.inf),
        ("max_grad_norm", 0.0),
        ("max_grad_norm", math.inf),
        ("size_bracket", 0),
        ("size_bracket", None),
        ("delta", 0.0),
        ("delta", 1.0),
        ("dp_model", "nowhere"),
        ("popularity_noise_multiplier", -0.1),
        ("merchants", 0),
        ("steps_per_round", 0),
        ("steps_per_round", 3),
        ("steps_per_round", 51),
    ],
)
def test_out_of_bounds_names_the_field(field, value):
    with pytest.raises(SettingsError) as caught:
        dataclasses.replace(PLAN, **{field: value})
    assert caught.value.field == field
    assert field in str(caught.value)


def test_dp_model_none_refuses_noise_and_adds_none():
    with pytest.raises(SettingsError):
        dataclasses.replace(PLAN, dp_model="none")
    plan = dataclasses.replace(
        PLAN, dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0
    )
    assert plan.noise_std("train") == plan.noise_std("popularity") == 0.0
    assert plan.takes_histogram
    assert math.isinf(epsilon_pld(plan.events(), 1e-5))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "null"])
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(SettingsError):
        PrivacyPlan.from_json(text)


def test_missing_and_unknown_fields_are_refused():
    fields = json.loads(PLAN.to_json())
    with pytest.raises(SettingsError) as caught:
        PrivacyPlan.from_json(json.dumps({k: v for k, v in fields.items() if k != "delta"}))
    assert caught.value.field == "delta"
    with pytest.raises(SettingsError):
        PrivacyPlan.from_json(json.dumps({**fields, "extra": 1}))


@pytest.mark.parametrize(("epsilon", "share"), [(4.0, 0.05), (1.0, 0.0), (8.0, 0.3)])
def test_a_solved_plan_fits_closely_and_never_exceeds(epsilon, share):
    plan = solve_plan(
        epsilon=epsilon,
        delta=1e-5,
        sample_rate=0.25,
        steps=20,
        max_grad_norm=1.0,
        size_bracket=1000,
        popularity_share=share,
    )
    spent = epsilon_pld(plan.events(), 1e-5)
    assert epsilon * 0.998 <= spent <= epsilon
    assert plan.takes_histogram == (share > 0)


def test_a_larger_share_gives_the_histogram_less_noise():
    plans = [
        solve_plan(
            epsilon=4,
            delta=1e-5,
            sample_rate=1.0,  # full batch
            steps=10,
            max_grad_norm=1.0,
            size_bracket=1000,
            popularity_share=share,
        )
        for share in (0.05, 0.5)
    ]
    assert plans[0].popularity_noise_multiplier > plans[1].popularity_noise_multiplier
    assert plans[0].noise_multiplier < plans[1].noise_multiplier
    # With full batches all is Gaussian, so the share of mu squared can be read off exactly.
    for plan, share in zip(plans, (0.05, 0.5), strict=True):
        histogram = plan.popularity_noise_multiplier**-2
        steps = 10 * plan.noise_multiplier**-2
        assert histogram / (histogram + steps) == pytest.approx(share, rel=0.01)


def test_infinite_epsilon_is_the_baseline_without_noise():
    plan = solve_plan(
        epsilon=math.inf,
        delta=1e-5,
        sample_rate=0.25,
        steps=20,
        max_grad_norm=1.0,
        size_bracket=1000,
    )
    assert plan.dp_model == "none"
    assert plan.noise_multiplier == 0


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_an_impossible_epsilon_is_refused(epsilon):
    with pytest.raises(SettingsError) as caught:
        solve_plan(
            epsilon=epsilon,
            delta=1e-5,
            sample_rate=0.25,
            steps=20,
            max_grad_norm=1.0,
            size_bracket=1000,
        )
    assert caught.value.field == "epsilon"
