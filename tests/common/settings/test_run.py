import math
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError, SettingsError
from common.settings.run import RunSettings, read_toml, run_digest

NUMBERS = {
    name: field
    for name, field in RunSettings.model_fields.items()
    if field.annotation in {int, float}
}
CHOICES = {
    name: get_args(field.annotation)
    for name, field in RunSettings.model_fields.items()
    if get_args(field.annotation)
}


def refused(**values):
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_flat(values)
    return caught.value


def bounds(field):
    """(lowest, whether it is allowed, highest, whether it is allowed) of a number."""
    found = {"low": -math.inf, "low_in": False, "high": math.inf, "high_in": False}
    for rule in field.metadata:
        for name, key, inside in (
            ("ge", "low", True),
            ("gt", "low", False),
            ("le", "high", True),
            ("lt", "high", False),
        ):
            if hasattr(rule, name):
                found[key], found[f"{key}_in"] = getattr(rule, name), inside
    return found


# A run without rounds is a refresh, and says so.
REFRESH = {"refresh_of": "ab" * 32, "season_ends": "2026-11-30", "audit_canaries": 0}
BESIDE_THE_LEAST = {"rounds": REFRESH}


def test_every_number_has_a_lowest_value():
    assert not {name for name in NUMBERS if bounds(NUMBERS[name])["low"] == -math.inf}


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_bound_is_kept_and_its_message_says_field_kind_and_bound(name):
    field, kind = NUMBERS[name], NUMBERS[name].annotation
    rule = bounds(field)
    step = 1 if kind is int else 1e-7 + 1e-9 * abs(rule["low"])
    below = rule["low"] - step if rule["low_in"] else rule["low"]
    error = refused(**{name: kind(below)})
    assert error.field == name
    assert name in str(error)
    assert f"{kind.__name__} was given" in str(error)
    assert f"{rule['low']:g}" in short(error)
    if rule["low_in"] and name != "value_high":  # which must be above value_low too
        assert RunSettings.from_flat({**BESIDE_THE_LEAST.get(name, {}), name: kind(rule["low"])})
    if rule["high"] < math.inf:
        step = 1 if kind is int else abs(rule["high"]) * 1e-6
        above = rule["high"] + step if rule["high_in"] else rule["high"]
        error = refused(**{name: kind(above)})
        assert error.field == name
        assert f"{rule['high']:g}" in short(error)


def short(error):
    """The message, its numbers written as Python's `g` writes them."""
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", lambda one: f"{float(one[0]):g}", str(error))


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("value", [math.nan, -math.inf, "many", None, [1], {"a": 1}])
def test_what_is_no_number_is_refused(name, value):
    error = refused(**{name: value})
    assert error.field == name
    assert type(value).__name__ in str(error)


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"epsilon"}))
def test_infinity_is_refused_but_as_epsilon(name):
    assert refused(**{name: math.inf}).field == name
    assert RunSettings.from_flat({"epsilon": math.inf}).plan().dp_model == "none"


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(name):
    error = refused(**{name: "nothing"})
    assert error.field == name
    for choice in CHOICES[name]:
        assert choice in str(error)
        assert getattr(RunSettings.from_flat({name: choice}), name) == choice


@pytest.mark.parametrize("name", ["rounds", "rank", "seed"])
@pytest.mark.parametrize("value", [1.5, "2.5", ""])
def test_a_whole_number_is_whole(name, value):
    assert refused(**{name: value}).field == name


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_true_is_no_number(name):
    assert refused(**{name: True}).field == name


def test_an_unknown_name_is_refused_and_says_where_all_are():
    error = refused(learning_rat=0.1)
    assert error.field == "learning_rat"
    assert "'learning_rat'" in str(error)
    assert "--settings" in str(error)


def test_hyphens_and_text_are_read_as_flower_and_commands_give_them():
    settings = RunSettings.from_flat(
        {"max-grad-norm": "2.5", "rounds": "7", "seeded-noise": "true", "lora-modules": "query"}
    )
    assert (settings.max_grad_norm, settings.rounds, settings.seeded_noise) == (2.5, 7, True)
    assert settings.lora_modules == "query"


@pytest.mark.parametrize("modules", ["output", "query,,nothing", "query,query", "", " , "])
def test_an_unknown_module_is_found_at_once(modules):
    assert refused(lora_modules=modules).field == "lora_modules"


def test_modules_may_be_a_list_or_have_spaces():
    assert RunSettings.from_flat({"lora_modules": ["query", "value"]}).lora_targets.modules == (
        "query",
        "value",
    )
    spaced = RunSettings.from_flat({"lora_modules": " query , projection "})
    assert spaced.lora_targets.modules == ("query", "projection")


def test_a_rating_scale_that_is_empty_or_upside_down_is_refused():
    for low, high in ((5.0, 5.0), (5.0, 1.0)):
        assert refused(value_low=low, value_high=high).field in {"value_low", "value_high"}
    assert RunSettings.from_flat({"value_low": 1, "value_high": 5}).value_low == 1


def test_no_history_is_so_long_that_one_shopper_alone_fills_a_nodes_memory():
    """Whether a node still answers would tell whether such a shopper is there."""
    RunSettings.from_flat({"max_history": 128, "max_tokens": 512})
    for history, tokens in ((129, 512), (1000, 66)):
        with pytest.raises(SettingsError, match="at most") as caught:
            RunSettings.from_flat({"max_history": history, "max_tokens": tokens})
        assert caught.value.field == "max_history"


def test_settings_are_frozen():
    settings = RunSettings.from_flat({})
    with pytest.raises(ValueError, match="frozen"):
        settings.rounds = 3


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rounds": st.integers(1, 1000),
            "seed": st.integers(0, 2**62),
            "seeded_noise": st.booleans(),
            "epsilon": st.floats(0.01, 50),
            "noise": st.sampled_from(["local", "distributed", "central", "none"]),
            "lora_modules": st.sampled_from(["query,value", "projection", "output.dense"]),
            "value_low": st.floats(-5, 4),
        },
    )
)
def test_settings_come_back_from_their_flat_form(values):
    settings = RunSettings.from_flat(values)
    flat = settings.to_flat()
    assert all(isinstance(one, bool | int | float | str) for one in flat.values())
    assert RunSettings.from_flat(flat) == settings
    assert RunSettings.from_flat({k.replace("_", "-"): v for k, v in flat.items()}) == settings


# ------------------------------------------------------------------- the plan
def test_the_plan_is_what_the_settings_say():
    settings = RunSettings.from_flat(
        {"rounds": 5, "steps_per_round": 3, "sample_rate": 0.5, "max_grad_norm": 2, "delta": 1e-4}
    )
    plan = settings.plan(merchants=4)
    assert (plan.steps, plan.steps_per_round, plan.rounds) == (15, 3, 5)
    assert (plan.sample_rate, plan.max_grad_norm, plan.delta) == (0.5, 2.0, 1e-4)
    assert (plan.dp_model, plan.merchants) == ("local", 4)
    assert plan.takes_histogram


def test_without_logit_adjustment_no_histogram_is_paid_for():
    settings = RunSettings.from_flat({"popularity_strength": 0, "rounds": 3})
    assert not settings.plan().takes_histogram


def test_without_noise_the_plan_promises_nothing():
    plan = RunSettings.from_flat({"noise": "none", "epsilon": 2, "rounds": 3}).plan()
    assert (plan.dp_model, plan.noise_multiplier) == ("none", 0.0)


def test_noise_is_shared_by_the_merchants_of_the_run():
    settings = RunSettings.from_flat({"noise": "distributed", "rounds": 3, "epsilon": 1})
    assert settings.to_flat()["spared_share"] == 1 / 3
    plan = settings.plan(merchants=9)
    assert (plan.dp_model, plan.merchants, plan.spared) == ("distributed", 9, 3)
    with pytest.raises(SettingsError, match="at least 5") as caught:
        settings.plan(merchants=4)
    assert caught.value.field == "merchants"


@pytest.mark.parametrize(
    ("name", "value"), [("aggregation", "median"), ("steps_per_round", 2), ("spared_share", 0.6)]
)
def test_what_shared_noise_cannot_do_is_refused(name, value):
    assert refused(noise="distributed", **{name: value}).field == name


def test_a_run_whose_noise_is_not_shared_has_the_digest_it_had_before():
    assert "spared_share" not in RunSettings().to_flat()


# ------------------------------------------------------------------ the season
def test_a_season_is_taken_where_its_ends_are_named():
    settings = RunSettings.from_flat({"season_ends": " 1970-01-02, 1970-01-03T12:00:00.000001 "})
    day = 86_400 * 10**6
    assert settings.season_moments == (day, 2 * day + day // 2 + 1)
    assert settings.plan().takes_season
    assert RunSettings.from_flat(settings.to_flat()) == settings
    zoned = RunSettings.from_flat({"season_ends": ["1970-01-02T02:00:00+02:00"]})
    assert zoned.season_moments == (day,)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"season_ends": ""},
        {"season_ends": " , "},
        {"season_ends": "2026-11-30", "season_share": 0},
    ],
)
def test_without_ends_or_a_share_there_is_no_season_and_no_trace_of_one(asked):
    """Its settings travel as before there was one: Flower carries no empty text."""
    settings = RunSettings.from_flat(asked)
    assert settings.season_moments == ()
    assert not settings.plan().takes_season
    assert settings.to_flat().keys() == RunSettings.model_fields.keys() - {
        "refresh_of",
        "season_ends",
        "season_share",
        "spared_share",
    }


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("yesterday", "a day such as"),
        ("2026-13-01", "a day such as"),
        ("2026-11-30,2026-11-29", "ascend"),
        ("2026-11-30,2026-11-30", "ascend"),
        ("2026-11-01,2026-11-02,2026-11-03,2026-11-04,2026-11-05", "at most 4"),
    ],
)
def test_ends_that_are_none_are_named(ends, says):
    with pytest.raises(SettingsError, match=says) as caught:
        RunSettings.from_flat({"season_ends": ends})
    assert caught.value.field == "season_ends"


def test_shares_count_together_only_where_they_are_spent():
    asked = {"popularity_share": 0.8, "season_share": 0.3}
    RunSettings.from_flat(asked)
    RunSettings.from_flat({**asked, "season_ends": "2026-11-30", "popularity_strength": 0})
    with pytest.raises(SettingsError, match="below 1") as caught:
        RunSettings.from_flat({**asked, "season_ends": "2026-11-30"})
    assert caught.value.field == "season_share"


# ----------------------------------------------------------------------- TOML
def test_a_toml_file_is_read(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('rounds = 9\nepsilon = inf\n"max-tokens" = 16\n')
    settings = RunSettings.from_toml(path)
    assert (settings.rounds, settings.epsilon, settings.max_tokens) == (9, math.inf, 16)


@pytest.mark.parametrize("content", [b"rounds = ", b"\xff\xfe", b"rounds = 1\nrounds = 2"])
def test_a_broken_toml_file_is_named(tmp_path, content):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.toml"):
        read_toml(path)


def test_a_missing_toml_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        read_toml(tmp_path / "none.toml")


def test_a_runs_digest_sees_every_setting_and_the_basis():
    digest = run_digest({"a": 1, "b": "x"}, b"basis")
    assert digest == run_digest({"b": "x", "a": 1}, b"basis")
    assert digest == run_digest({"a": 1.0, "b": "x"}, b"basis")
    assert run_digest({"a": True}, b"") != run_digest({"a": 1}, b"")
    assert len(run_digest({"epsilon": float("inf")}, b"")) == 64
    for settings_, basis in (({"a": 2, "b": "x"}, b"basis"), ({"a": 1, "b": "x"}, b"basIs")):
        assert run_digest(settings_, basis) != digest
