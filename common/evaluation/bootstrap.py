"""Bootstrap intervals over shoppers, for one model and for the difference between two.

A shopper is what is resampled, since shoppers are independent and a shopper's items are not.
The percentile interval is used: the statistic is a mean over hundreds of shoppers or more, where
the bias correction of BCa changes nothing visible and its jackknife costs n² numbers.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import quantile

from common.errors import InputError

BATCH_VALUES = 4_000_000  # resampled values held at a time (32 MB)
KEPT = 8  # draws kept, 16 MB at most each: metrics are defined for all, or for some four groups


@dataclass(frozen=True)
class Interval:
    """A mean and its interval; low and high are NaN with fewer than two shoppers."""

    low: float
    high: float
    mean: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: NDArray[np.float64], *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Return the mean of `values` [shoppers] and its bootstrap interval; NaN values are dropped.

    Efron and Tibshirani 1993, chapter 13 (percentile interval). The same seed gives the same
    interval.

    Raises:
        InputError: if `values` is not one-dimensional, `resamples` is below 1 or `level` is not
            in (0, 1).
    """
    if values.ndim != 1:
        raise InputError(f"values has {values.ndim} dimensions; 1 is needed.", field="values")
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; at least 1 is needed.", field="resamples")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must lie between 0 and 1.", field="level")
    defined = values[~np.isnan(values)]
    if len(defined) < 2:
        mean = float(defined[0]) if len(defined) else float("nan")
        return Interval(low=float("nan"), high=float("nan"), mean=mean)
    means = np.concatenate(
        [defined[drawn].mean(axis=1) for drawn in _draws(len(defined), seed, resamples)]
    )
    outside = (1 - level) / 2
    low, high = (float(one) for one in quantile(means, [outside, 1 - outside]))
    # Of one value, they may cross by a rounding.
    return Interval(low=min(low, high), high=max(low, high), mean=float(defined.mean()))


def _draws(count: int, seed: int, resamples: int) -> Iterable[NDArray[np.integer]]:
    """Return who is drawn in each resample, some at a time: integers [resamples, count] in all.

    A report has hundreds of intervals over the same shoppers, by one seed: what is drawn is the
    same, and drawing it took more than half of their time.
    """
    if resamples * count <= BATCH_VALUES:
        return (_drawn_once(count, seed, resamples),)
    rng, batch = np.random.default_rng(seed), max(BATCH_VALUES // count, 1)
    sizes = (min(batch, resamples - start) for start in range(0, resamples, batch))
    return (rng.integers(0, count, (size, count)) for size in sizes)


@functools.lru_cache(maxsize=KEPT)
def _drawn_once(count: int, seed: int, resamples: int) -> NDArray[np.int32]:
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    return drawn.astype(np.int32)  # drawn as int64: other integers are other draws


def paired_bootstrap(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of a - b over shoppers and its bootstrap interval.

    `a` and `b` [shoppers] are one metric of two models on the same shoppers in the same order. A
    shopper for whom either is NaN is dropped. Both values of a shopper are drawn together, so
    what makes a shopper hard for both models does not widen the interval.

    Raises:
        InputError: if the two differ in length, or as `bootstrap_mean`.
    """
    if a.shape != b.shape:
        raise InputError(
            f"a has shape {a.shape} and b {b.shape}; pairs need equal ones.", field="b"
        )
    return bootstrap_mean(a - b, seed=seed, resamples=resamples, level=level)
