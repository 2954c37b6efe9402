import io
import logging
import time

import pytest
from rich.console import Console

from common.settings.auto import Choice
from server.run.checkpoint import RoundRecord
from simulations.pipeline.progress import PlainLines, Screen
from tests.support.shops import make_settings


def record(number, epsilon=0.5):
    return RoundRecord(number, 1.0, 1000, 2000, 2, 0, 0.01, 0.3, epsilon)


@pytest.fixture
def screen():
    with Screen(Console(file=io.StringIO(), force_terminal=True)) as screen:
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


def test_the_bar_over_merchants_counts_those_that_are_done(screen):
    with screen.merchants("evaluation", 3):
        screen.merchant(2)
        assert bar(screen)[:3] == ("evaluation", 2, 3)


# ------------------------------------------------------------ where there is no terminal
def plain_screen(every=0.01, **options):
    screen = Screen(console := Console(file=io.StringIO(), width=80), **options)
    screen._lines = PlainLines(console, every=every, unchanged=60)
    return screen, console.file


def until(condition):
    ends = time.monotonic() + 20
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    assert condition()


def test_a_file_gets_plain_lines_of_how_far_each_phase_has_come():
    screen, file = plain_screen()
    settings = make_settings(rounds=4)
    with screen, screen.phase("federation"), screen.rounds("federation", settings):
        for tell, told in (
            (lambda: screen.encoded(64, 900), "federation: encoding texts 64/900, "),
            (lambda: screen.answered("prepare", 3, 64), "preparing: 3 of 64 merchants, "),
            (lambda: screen.round(record(2), settings), "federation: round 2 of 4, ε 0.50, "),
            (lambda: screen.answered("train", 5, 64), "round under way: 5 of 64 merchants, "),
        ):
            tell()
            until(lambda told=told: told in file.getvalue())
    with screen.runs("comparisons", settings, 2):
        screen.round_of(0, record(4))
    text = file.getvalue()
    assert text.isprintable() or not {one for one in text if not one.isprintable()} - {"\n"}
    assert all(line.endswith(" s") for line in text.splitlines()[1:])


def test_lines_come_seldom_and_an_unchanged_one_more_seldom_still():
    screen, file = plain_screen(every=0.05)
    with screen, screen.phase("evaluation"), screen.merchants("evaluation", 2000):
        began = time.monotonic()
        for done in range(2000):
            screen.merchant(done)
        busy = time.monotonic() - began
        until(lambda: "1999 of 2000" in file.getvalue())
        time.sleep(0.3)
    lines = file.getvalue().count(" of 2000 merchants")
    assert lines <= busy / 0.05 + 2
    assert file.getvalue().count("1999 of 2000") == 1


def test_between_phases_and_after_the_end_nothing_is_written():
    screen, file = plain_screen()
    with screen:
        with screen.phase("data"):
            until(lambda: "data: " in file.getvalue())
        held = file.getvalue()
        time.sleep(0.1)
        assert file.getvalue() == held
    assert screen._lines._thread is None or not screen._lines._thread.is_alive()


def test_quiet_prints_warnings_alone():
    screen, file = plain_screen(quiet=True)
    with screen, screen.phase("data"):
        screen.note("a note")
        screen.warn("look out")
        screen.encoded(1, 2)
        time.sleep(0.1)
    assert file.getvalue() == "Warning: look out\n"


def test_who_joins_is_no_news_in_a_simulation_and_the_log_is_as_before_afterwards(screen):
    log = logging.getLogger("flwr.fedtail")
    assert log.level == logging.WARNING
    screen.__exit__()
    assert log.level != logging.WARNING
    screen.__enter__()


def test_what_the_rule_chose_is_said_with_its_reason(screen):
    screen.chosen({"rank": Choice(32, "many shoppers")})
    shown = screen.console.file.getvalue()
    assert "auto: rank=32" in shown
    assert "many shoppers" in shown
