"""Sides take turns, warm-ups do not count, and a ratio is that of one turn's two sides."""

import time

import numpy as np
import pytest

from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import of_repeats, ratio_row


def test_sides_take_turns_and_change_who_goes_first():
    order = []

    def way(name, seconds):
        return lambda: order.append(name) or seconds

    taken = by_turns([way("a", 1.0), way("b", 2.0)], 2, warm_up=1)
    assert "".join(order) == "baabba"
    assert taken.tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_sleep_takes_no_processor_time():
    assert processor(lambda: time.sleep(0.2))() < 0.1


def test_work_takes_processor_time():
    def work():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert processor(work)() >= 0.05


def test_ratio_is_the_median_of_the_turns():
    """A turn in which the machine was twice as slow for both changes nothing."""
    row = ratio_row("a", "b", np.array([[3.0, 2.0], [6.0, 4.0], [1.0, 2.0]]), target=1.0)
    assert (row.figure, row.low, row.high, row.met) == (1.5, 0.5, 1.5, False)
    assert (row.seconds, row.peer_seconds) == (3.0, 2.0)
    faster = ratio_row("a", "b", np.array([[1.0, 50.0]]), target=40.0, faster=True)
    assert (faster.figure, faster.unit, faster.met) == (50.0, "times as fast", True)


def test_repeats_have_a_median_and_a_spread():
    row = of_repeats("a", [3.0, 1.0, 2.0], "ms", target=2.0)
    assert (row.figure, row.low, row.high, row.met) == (2.0, 1.0, 3.0, True)
    with pytest.raises(ValueError, match="unit"):
        of_repeats("a", [1.0], "furlongs")
