import numpy as np
import pytest

from client.serving.experiments.drift import QUIET_DAYS, find_alarms


def days(seed, count=90, fall=0.0, after=60):
    """Daily shares around 0.1 with deviation 0.01, which fall after some days."""
    found = np.random.default_rng(seed).normal(0.1, 0.01, count)
    found[after:] -= fall
    return found.tolist()


@pytest.mark.parametrize("fall", [0.03, 0.05, -0.05])
def test_a_fall_or_rise_is_found_within_days_and_told_against_what_was_usual(fall):
    [alarm] = find_alarms(days(1, fall=fall, count=80))
    assert 60 <= alarm.place < 70
    assert alarm.direction == ("fell" if fall > 0 else "rose")
    assert alarm.usual == pytest.approx(0.1, abs=0.005)
    assert alarm.days == alarm.place


def test_days_without_a_figure_change_nothing_and_a_series_has_one_answer():
    series = days(2, fall=0.05)
    first = find_alarms(series)
    assert find_alarms(series) == first
    assert len(first) == 1
    # Equal days, as of a figure that is always 0, say nothing.
    assert find_alarms([0.0] * 300) == []
    assert find_alarms([None] * 300) == []


def test_after_an_alarm_the_new_days_are_usual():
    assert len(find_alarms(days(3, fall=0.05, count=160))) == 1


@pytest.mark.statistical
def test_a_shop_that_stays_as_it_is_has_one_false_alarm_a_year_or_fewer():
    """Four figures a year, 150 shops; with and without skew, and with weekends."""
    random = np.random.default_rng(5)
    for draw in (
        lambda: random.normal(size=QUIET_DAYS),
        lambda: random.exponential(size=QUIET_DAYS),
        lambda: random.poisson(3, QUIET_DAYS) / 100,
        lambda: random.normal(size=QUIET_DAYS) + 3 * (np.arange(QUIET_DAYS) % 7 > 4),
    ):
        alarms = sum(len(find_alarms(draw().tolist())) for _ in range(4 * 150))
        assert alarms <= 150 + 3 * 150**0.5
