"""A test of two arms that may be looked at any time: asymptotic confidence sequences.

Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52(6), 2024 (arXiv 2103.06476), theorem 2.2:
for n independent units whose estimate has the standard deviation s / sqrt(n),

    estimate ± s sqrt( 2 (n r² + 1) / (n² r²) · log( sqrt(n r² + 1) / a ) )

covers the truth at all n together with a probability that nears 1 − a as counting starts later. It
is Robbins' normal mixture, the one of the mixture SPRT of Johari et al. (2022), with a variance
that is estimated. r sets where it is tightest.

A unit is a shopper and never a list: lists of one shopper are alike. A rate is a ratio of sums over
shoppers, and its variance is that of a ratio's linear part (the delta method).
"""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

TIGHTEST_AT = 2000  # shoppers of both arms
LEAST_SHOPPERS = 100  # of each arm, before anything is concluded: the sequence is asymptotic
LEAST_EVENTS = 20  # shoppers of both arms with such an event: a variance of nothing says nothing

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """One arm's rate: what was counted, and per what.

    Attributes:
        shoppers: How many.
        rate: The ratio of the two sums; 0 without a trial.
        variance: Of `rate`, over shoppers; infinite with fewer than two.
        with_event: Shoppers who have at least one event.
    """

    shoppers: int
    rate: float
    variance: float
    with_event: int

    @classmethod
    def of(cls, events: Counts, trials: Counts) -> "Sums":
        """Return the rate of int64 [shoppers] events among int64 [shoppers] trials."""
        shoppers, total = len(trials), int(trials.sum())
        with_event = int((events > 0).sum())
        if shoppers < 2 or not total:
            return cls(shoppers, 0.0, float("inf"), with_event)
        rate = float(events.sum()) / total
        linear = (events - rate * trials) / (total / shoppers)
        return cls(shoppers, rate, float(linear.var(ddof=1)) / shoppers, with_event)


@dataclass(frozen=True)
class Effect:
    """A difference of two rates with an interval that holds at every look.

    Attributes:
        difference: Challenger minus baseline, or minus a share of the baseline's rate.
        low: Of the interval; None where there is too little to say.
        high: See there.
    """

    difference: float
    low: float | None
    high: float | None

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0


def effect(baseline: Sums, challenger: Sums, *, level: float, share: float = 1.0) -> Effect:
    """Return the challenger's rate minus `share` times the baseline's.

    Args:
        baseline: See `Sums`.
        challenger: See there.
        level: How often the interval may ever miss the truth, such as 0.05.
        share: 1 compares the two; 0.9 asks whether the challenger keeps 90% of the rate.
    """
    difference = challenger.rate - share * baseline.rate
    fewest = min(baseline.shoppers, challenger.shoppers)
    if fewest < LEAST_SHOPPERS or baseline.with_event + challenger.with_event < LEAST_EVENTS:
        return Effect(difference, None, None)
    shoppers = baseline.shoppers + challenger.shoppers
    variance = challenger.variance + share**2 * baseline.variance
    half = sqrt(variance * shoppers) * boundary(shoppers, level)
    return Effect(difference, difference - half, difference + half)


def boundary(units: int, level: float) -> float:
    """Return half the width of the sequence for units of deviation 1, at `units` of them."""
    mixed = units * _mixture(level) + 1
    return sqrt(2 * mixed / (units * (mixed - 1)) * log(sqrt(mixed) / level))


def _mixture(level: float) -> float:
    """Return r²: near the one whose sequence is tightest at TIGHTEST_AT; section B.2 there."""
    return (-2 * log(level) + log(-2 * log(level) + 1)) / TIGHTEST_AT
