import io

import pytest
from rich.console import Console

from server.run.checkpoint import RoundRecord
from simulations.pipeline.progress import Screen
from tests.support.shops import make_settings


def record(number, epsilon=0.5):
    return RoundRecord(number, 1.0, 1000, 2000, 2, 0, 0.01, 0.3, epsilon)


@pytest.fixture
def screen():
    with Screen(Console(file=io.StringIO())) as screen:
        yield screen


def bar(screen):
    [task] = screen._bar.tasks
    return task.description, task.completed, task.total, task.fields["note"]


def test_a_runs_bar_tells_the_round_epsilon_and_all_bytes_so_far(screen):
    settings = make_settings(rounds=4)
    with screen.rounds("federation", settings):
        assert bar(screen) == ("federation", 0, 4, "preparing")
        screen.round(record(1), settings)
        screen.round(record(2), settings)
        _, completed, _, note = bar(screen)
        assert completed == 2
        assert "ε 0.50" in note
        assert "6.0 kB" in note
    assert screen._bar.tasks == []


def test_the_bar_of_several_runs_counts_all_rounds_and_those_that_are_done(screen):
    with screen.runs("comparisons", make_settings(rounds=2), 3):
        assert bar(screen) == ("comparisons", 0, 6, "preparing")
        screen.round_of(1, record(1))
        assert bar(screen) == ("comparisons", 1, 6, "0 of 3 trained")
        screen.round_of(1, record(2))
        screen.round_of(0, record(2))  # it went on from its first round
        assert bar(screen) == ("comparisons", 4, 6, "2 of 3 trained")
    assert screen._bar.tasks == []
