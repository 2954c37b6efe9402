"""What a refresh may set, and what stays as the release has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingsError
from common.settings.refresh import OWN, kept_settings, refreshed_settings
from common.settings.run import RunSettings

DIGEST = "ab" * 32
PARENT = RunSettings.from_flat(
    {"season_ends": "2026-01-01", "rank": 7, "history_decay": 0.8, "steps_per_round": 2}
).to_flat()
LATER = {"season_ends": "2026-02-01", "epsilon": 0.3}
AFTER = RunSettings.from_flat(PARENT).season_moments[-1]


def test_all_but_the_run_is_the_releases():
    settings = refreshed_settings(PARENT, DIGEST, LATER, after=AFTER)
    assert (settings.rounds, settings.refresh_of) == (0, DIGEST)
    assert (settings.steps_per_round, settings.audit_canaries) == (1, 0)
    assert (settings.rank, settings.history_decay, settings.epsilon) == (7, 0.8, 0.3)
    assert kept_settings(settings.to_flat()) == kept_settings(PARENT)
    assert RunSettings.from_flat(settings.to_flat()) == settings


OTHERS = {"rank": 8, "history_decay": 0.5, "rounds": 41, "audit_canaries": 8, "max_tokens": 32}


@pytest.mark.parametrize("name", OTHERS)
def test_how_the_adapter_was_made_is_not_the_refreshs_to_say(name):
    with pytest.raises(SettingsError, match="the release's own") as caught:
        refreshed_settings(PARENT, DIGEST, {**LATER, name: OTHERS[name]})
    assert caught.value.field == name


@given(name=st.sampled_from(sorted(PARENT.keys() - OWN)))
def test_what_is_repeated_as_the_release_has_it_changes_nothing(name):
    """Also `rounds` and canaries, of which a refresh has none: somebody gave the same command."""
    again = refreshed_settings(PARENT, DIGEST, {**LATER, name: PARENT[name]})
    assert again == refreshed_settings(PARENT, DIGEST, LATER)


def test_it_says_what_it_costs():
    with pytest.raises(SettingsError, match="may cost"):
        refreshed_settings(PARENT, DIGEST, {"season_ends": "2026-02-01"})
    free = refreshed_settings(PARENT, DIGEST, {"season_ends": "2026-02-01", "noise": "none"})
    assert free.plan().dp_model == "none"


@given(day=st.dates().map(str))
def test_a_season_that_ends_no_later_than_the_last_is_refused(day):
    asked = {**LATER, "season_ends": day}
    if RunSettings.from_flat({"season_ends": day}).season_moments[-1] > AFTER:
        assert refreshed_settings(PARENT, DIGEST, asked, after=AFTER).season_ends == day
    else:
        with pytest.raises(SettingsError, match="already"):
            refreshed_settings(PARENT, DIGEST, asked, after=AFTER)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("refresh_of", {"rounds": 0, "refresh_of": ""}),
        ("refresh_of", {"rounds": 3}),
        ("refresh_of", {"refresh_of": "ab"}),
        ("season_ends", {"season_ends": ""}),
        ("season_ends", {"season_share": 0.0}),
        ("audit_canaries", {"audit_canaries": 8}),
        ("steps_per_round", {"steps_per_round": 2}),
    ],
)
def test_settings_that_are_no_refresh(field, changes):
    held = refreshed_settings(PARENT, DIGEST, LATER).model_dump()
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_flat({**held, **changes})
    assert caught.value.field == field


def test_a_run_of_rounds_has_the_flat_settings_that_it_had():
    """So an older run, and its signatures, keep their digest."""
    assert "refresh_of" not in PARENT
