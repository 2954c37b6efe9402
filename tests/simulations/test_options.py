import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.shop.splitting import SplitRule
from common.errors import InputError, SettingsError
from simulations.options import (
    SimulationOptions,
    declared_settings,
    experiment_options,
    size_bracket,
)

EXPERIMENTS = Path(__file__).parents[2] / "simulations" / "experiments"


def written(tmp_path, text):
    path = tmp_path / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(tmp_path, text):
    with pytest.raises(InputError) as caught:
        experiment_options(written(tmp_path, text))
    assert "experiment.toml" in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- experiments
def test_an_experiment_file_gives_options_by_name(tmp_path):
    path = written(
        tmp_path,
        """
        data = "../shop"
        merchants = 8
        partition = "dirichlet"
        alpha = 0.3
        solo = false
        history = ["red jug", "oak clock"]
        [settings]
        rounds = 7
        epsilon = 2
        """,
    )
    found = experiment_options(path)
    assert found["data"] == (tmp_path / "../shop").resolve()  # from the file's own place
    assert found["history"] == ("red jug", "oak clock")
    options = SimulationOptions(out=tmp_path, **found)
    assert (options.merchants, options.partition, options.alpha) == (8, "dirichlet", 0.3)
    assert not options.solo
    assert options.settings == {"rounds": 7, "epsilon": 2}


def test_an_empty_experiment_is_the_defaults(tmp_path):
    assert experiment_options(written(tmp_path, "")) == {}


@pytest.mark.parametrize("name", ["merchant", "out", "overwrite", "rounds"])
def test_an_option_that_does_not_exist_is_named_with_those_that_do(tmp_path, name):
    error = refused(tmp_path, f"{name} = 1")
    assert error.field == name
    assert "merchants" in str(error)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('merchants = "many"', "merchants"),
        ("merchants = 2.5", "merchants"),
        ("data = 5", "data"),
        ('partition = "by-hand"', "partition"),
        ('alpha = "low"', "alpha"),
        ("solo = 7", "solo"),
        ('history = "red jug"', "history"),
        ("settings = 5", "settings"),
        ("mapping = 3", "mapping"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, text, field):
    assert refused(tmp_path, text).field == field


def test_a_broken_or_missing_file_is_named(tmp_path):
    refused(tmp_path, "merchants = ")
    with pytest.raises(InputError, match=r"none\.toml"):
        experiment_options(tmp_path / "none.toml")


# --------------------------------------------------------------------- options
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"merchants": 0}, "merchants"),
        ({"merchants": 10_001}, "merchants"),
        ({"processes": 0}, "processes"),
        ({"processes": 1001}, "processes"),
        ({"partition": "by-hand"}, "partition"),
        ({"settings": {"rank": 0}}, "rank"),
        ({"settings": {"ranks": 4}}, "ranks"),
        ({"settings": {"lora_modules": "nothing"}}, "lora_modules"),
    ],
)
def test_an_option_out_of_bounds_is_refused_before_anything_is_read(tmp_path, changes, field):
    with pytest.raises(SettingsError) as caught:
        SimulationOptions(out=tmp_path, **changes)
    assert caught.value.field == field


# --------------------------------------------------------------------- declared
@given(st.floats(1, 1e7))
def test_a_bracket_is_the_largest_round_number_that_is_not_more(shoppers):
    bracket = size_bracket(shoppers)
    every = [int(step * 10**power) for power in range(1, 8) for step in (1, 1.5, 2, 3, 5, 7)]
    assert bracket == max([10, *(one for one in every if one <= shoppers)])


@pytest.mark.parametrize(
    ("shoppers", "bracket"),
    [(1, 10), (10, 10), (14.9, 10), (15, 15), (99, 70), (100, 100), (999.9, 700), (1000, 1000)],
)
def test_brackets_at_their_edges(shoppers, bracket):
    assert size_bracket(shoppers) == bracket


@given(st.integers(1, 10**7), st.integers(1, 64))
def test_delta_is_at_most_one_in_ten_times_all_shoppers(shoppers, merchants):
    settings = declared_settings({}, shoppers, merchants)
    assert settings.delta <= 1 / (10 * shoppers) * (1 + 1e-9)
    assert settings.delta >= 1 / (100 * max(shoppers, 1000)) * (1 - 1e-9)
    assert math.log10(settings.delta) == pytest.approx(round(math.log10(settings.delta)))
    assert settings.size_bracket == size_bracket(shoppers / merchants)


def test_what_was_asked_for_is_not_declared():
    settings = declared_settings({"delta": 1e-7, "size_bracket": 33, "rounds": 2}, 5000, 4)
    assert (settings.delta, settings.size_bracket, settings.rounds) == (1e-7, 33, 2)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_standing_experiment_is_valid(path, tmp_path):
    options = SimulationOptions(out=tmp_path, **experiment_options(path))
    assert options.merchants >= 8
    assert options.sizes_of(options.partition or "random") in {"equal", "zipf"}


def test_the_marketplace_has_unequal_shops_unless_asked_otherwise(tmp_path):
    assert SimulationOptions(out=tmp_path).sizes_of("random") == "zipf"
    assert SimulationOptions(out=tmp_path).sizes_of("column") == "equal"
    assert SimulationOptions(out=tmp_path, data=tmp_path).sizes_of("random") == "equal"
    assert SimulationOptions(out=tmp_path, sizes="equal").sizes_of("random") == "equal"


@pytest.mark.parametrize(("field", "value"), [("sizes", "unequal"), ("kinds", 0)])
def test_sizes_and_kinds_have_bounds(tmp_path, field, value):
    with pytest.raises(SettingsError) as caught:
        SimulationOptions(out=tmp_path, **{field: value})
    assert caught.value.field == field


# ------------------------------------------------------------------ the season
DAY = 86_400 * 10**6


def test_a_season_ends_when_the_test_begins_by_the_public_rule():
    """To the microsecond, as no purchase of the test may be in it; days before 1970 too."""
    for moment in (0, -3 * DAY, 15_000 * DAY + 12_345_678):
        rule = SplitRule("time", valid_from=moment - DAY, test_from=moment)
        settings = declared_settings({}, 500, 4, rule)
        assert settings.season_moments == (moment,)
        assert settings.plan().takes_season


def test_what_was_asked_for_is_taken_and_without_a_clock_nothing():
    rule = SplitRule("time", valid_from=DAY, test_from=2 * DAY)
    assert declared_settings({"season_ends": ""}, 500, 4, rule).season_moments == ()
    assert declared_settings({"season_share": 0}, 500, 4, rule).season_moments == ()
    asked = declared_settings({"season_ends": "1970-01-02"}, 500, 4, rule)
    assert asked.season_moments == (DAY,)
    assert declared_settings({}, 500, 4, SplitRule("leave_last_out")).season_moments == ()
    assert declared_settings({}, 500, 4).season_moments == ()
