"""Processor time of several ways to do one thing, which take turns: all meet the same machine."""

import time
from collections.abc import Callable, Sequence

import numpy as np

Way = Callable[[], float]
"""Does the work once, and returns the seconds that it took."""


def processor(work: Callable[[], object]) -> Way:
    """Return a way that takes the processor's seconds of this process, all of its threads."""

    def way() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return way


def by_turns(ways: Sequence[Way], repeats: int, *, warm_up: int = 1) -> np.ndarray:
    """Run each way in turn, `repeats` times over; the order turns round with each repeat.

    Args:
        ways: The first is ours, by custom.
        repeats: That count.
        warm_up: Repeats before them that do not.

    Returns:
        Seconds, repeats by ways.
    """
    taken = np.zeros((repeats, len(ways)))
    for turn in range(-warm_up, repeats):
        order = range(len(ways)) if turn % 2 == 0 else reversed(range(len(ways)))
        for place in order:
            seconds = ways[place]()
            if turn >= 0:
                taken[turn, place] = seconds
    return taken
