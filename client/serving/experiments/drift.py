"""Has a series of days changed? A conformal test martingale with a known rate of false alarms.

Source: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, "Retrain or not retrain: conformal
test martingales for change-point detection", COPA 2021 (arXiv 2102.10439). While days are
exchangeable, the rank of each among all before it is uniform and independent of the ranks before.
A bet against that, kept by the Shiryaev-Roberts procedure, r ← (1 + r) · bet, reaches a threshold c
after c days or more on average, whatever a day's figure is distributed like. So a figure needs no
model: shares, and coverage, which is no mean, are watched alike.

The window that a day is held against is all since the last alarm: after one, the shop's new days
are what is usual.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

Direction = Literal["fell", "rose"]
DETECTORS = 8  # four figures, two directions
QUIET_DAYS = 365  # all detectors together: days between false alarms, on average, or more
THRESHOLD = float(DETECTORS * QUIET_DAYS)
_POWER = 0.5  # of the bet: a smaller one finds large changes a day sooner and small ones never
_TIES = 0  # seeds what breaks ties


@dataclass(frozen=True)
class Alarm:
    """A change that was found.

    Attributes:
        place: In the series.
        direction: Whether the figure fell or rose.
        value: Of that day.
        usual: The median of the days it was held against.
        days: How many those were.
    """

    place: int
    direction: Direction
    value: float
    usual: float
    days: int


def find_alarms(values: Sequence[float | None]) -> list[Alarm]:
    """Return all alarms of a series, the first day first; None is a day without a figure.

    The same series has the same alarms: ties are broken by numbers that depend on the place alone.
    """
    found: list[Alarm] = []
    window: list[float] = []
    wealth: dict[Direction, float] = {"fell": 0.0, "rose": 0.0}
    for place, value in enumerate(values):
        if value is None:
            continue
        rank = _rank(value, window, place)
        ranks: dict[Direction, float] = {"fell": rank, "rose": 1 - rank}
        for direction, share in ranks.items():
            wealth[direction] = (1 + wealth[direction]) * _bet(share)
        most = max(wealth, key=lambda direction: wealth[direction])
        if wealth[most] >= THRESHOLD:
            found.append(Alarm(place, most, value, median(window), len(window)))
            window, wealth = [], {"fell": 0.0, "rose": 0.0}
        else:
            window.append(value)
    return found


def _rank(value: float, window: Sequence[float], place: int) -> float:
    """Return the share of the days up to this one that are below it, in (0, 1)."""
    below = sum(one < value for one in window)
    equal = sum(one == value for one in window) + 1
    tie = np.random.default_rng((_TIES, place)).uniform()
    return float((below + tie * equal) / (len(window) + 1))


def _bet(share: float) -> float:
    """Return what a bet on small ranks pays; its mean is 1 where ranks are uniform."""
    return float(_POWER * max(share, 1e-12) ** (_POWER - 1))
