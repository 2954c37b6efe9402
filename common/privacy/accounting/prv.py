"""Privacy random variables by Opacus: the second accountant, on one grid and in one product.

The distribution of an event's loss, its truncation, the grid's mesh and the error bound are those
of Opacus (Gopi, Lee, Wutschitz 2021). A ledger has hundreds of distinct events, for which three of
its steps are too slow and are done here: the bounds that choose the grid's width, the mean of
each loss, and composition, which is one product of Fourier transforms instead of a convolution for
each event.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from common.errors import PrivacyError
from common.privacy.accounting.pld import repeated

EPSILON_ERROR = 0.005  # the upper bound that is returned lies this much above the estimate

_TAIL = 9.8  # standard deviations: a normal's mass beyond is 1e-22, below a float64's last digit
_MEAN_POINTS = 4000
_TOGETHER = 8  # losses that are added up before they are put on the whole grid

Event = tuple[float, float, int]  # q, sigma above 0, count
EpsilonOf = Callable[[tuple[Event, ...], float], float]


def epsilon_of_variables(events: Sequence[Event], delta: float, *, width: float) -> float:
    """Return epsilon at `delta` of one or more events, an upper bound.

    Args:
        events: Each with a count above 0.
        delta: In (0, 1).
        width: Half the grid's width that the events need; see `grid_width`.
    """
    from opacus.accountants.analysis.prv import DiscretePRV  # noqa: PLC0415 - needs torch; an auditor may not

    delta_error = delta / 1000
    releases = sum(count for _, _, count in events)
    mesh = EPSILON_ERROR / math.sqrt(releases * math.log(12 / delta_error) / 2)
    domain = _domain(max(width, EPSILON_ERROR) + 3, mesh)
    zero = round(-domain.t_min / domain.dt)  # the index of loss 0
    product: NDArray[np.complex128] = np.ones(domain.size // 2 + 1, dtype=np.complex128)
    shift = 0.0
    for count in sorted({count for _, _, count in events}):
        equals = [_discretised(q, sigma, domain) for q, sigma, times in events if times == count]
        shift += count * sum(moved for _, _, moved in equals)
        factor: NDArray[np.complex128] = np.ones_like(product)
        for start in range(0, len(equals), _TOGETHER):
            first, masses = _summed([one[:2] for one in equals[start : start + _TOGETHER]])
            circle = np.zeros(domain.size)  # with loss 0 first, so that indices add up
            np.add.at(circle, np.arange(first, first + len(masses)) % domain.size, masses)
            factor *= rfft(circle)
        product *= repeated(factor, count, np.multiply)
    masses = np.roll(irfft(product, domain.size), zero)
    with np.errstate(divide="ignore"):
        composed = DiscretePRV(masses, domain.shift_right(shift))
        return float(composed.compute_epsilon(delta, delta_error, EPSILON_ERROR)[2])


def grid_width(events: Sequence[Event], delta: float, epsilon_of: EpsilonOf) -> float:
    """Return how far the grid must reach on either side of 0 (Gopi et al., remark 5.6).

    Args:
        events: As in `epsilon_of_variables`, like `delta`.
        delta: See there.
        epsilon_of: A bound on epsilon of some events at a delta, such as Rényi's.
    """
    delta_error = delta / 1000
    releases = sum(count for _, _, count in events)
    alone = [epsilon_of(((q, sigma, 1),), delta_error / (8 * releases)) for q, sigma, _ in events]
    return max(epsilon_of(tuple(events), delta_error / 4), *alone)


def _domain(half: float, mesh: float) -> Any:
    """Return Opacus's grid over at least [-half, half], of a length that transforms quickly."""
    from opacus.accountants.analysis.prv import Domain  # noqa: PLC0415 - as above

    lowest = math.ceil(half / mesh)
    size = 2 * next_fast_len(lowest + 1, real=True)
    return Domain(-lowest * mesh, (size - 1 - lowest) * mesh, size)


def _discretised(q: float, sigma: float, domain: Any) -> tuple[int, NDArray[np.float64], float]:
    """Return where one release's mass starts, in steps from loss 0, the masses, and the shift.

    As `discretize` of Opacus, which keeps the mean by shifting the grid, but only where the
    distribution function is neither 0 nor 1 to the last digit of a float64.
    """
    from opacus.accountants.analysis.prv import (  # noqa: PLC0415 - as above
        PoissonSubsampledGaussianPRV,
        TruncatedPrivacyRandomVariable,
    )

    step = domain.dt
    x = np.linspace(-_TAIL * sigma, 1 + _TAIL * sigma, _MEAN_POINTS)
    with np.errstate(divide="ignore"):  # at q = 1, log(1 - q) = -inf is right, here and in Opacus
        left_out = np.log1p(-q)
        losses = np.logaddexp(left_out, math.log(q) + (2 * x - 1) / (2 * sigma**2))
        whole = PoissonSubsampledGaussianPRV(q, sigma)
        variable = TruncatedPrivacyRandomVariable(whole, domain.t_min, domain.t_max)
        first = max(math.floor(losses[0] / step), round(domain.t_min / step))
        last = min(math.ceil(losses[-1] / step), round(domain.t_max / step))
        place = np.arange(first, last + 1)
        edges = np.append(place - 0.5, last + 0.5) * step
        masses = np.diff(variable.cdf(edges))
    density = (1 - q) * np.exp(-((x / sigma) ** 2) / 2) + q * np.exp(-(((x - 1) / sigma) ** 2) / 2)
    # The trapezoidal rule is exact to rounding for a smooth function that falls off at both ends.
    mean = float(density @ losses / density.sum())
    shift = mean - float(place @ masses) * step
    if not abs(shift) < step / 2:
        raise PrivacyError(
            "PRV cannot be trusted here: its grid does not hold the mean of a loss.",
            field="epsilon",
        )
    return first, masses, shift


def _summed(losses: list[tuple[int, NDArray[np.float64]]]) -> tuple[int, NDArray[np.float64]]:
    """Return where the sum of some losses has mass, and how much: a few at a time are short."""
    length = sum(len(masses) for _, masses in losses)
    size = next_fast_len(length, real=True)
    product = np.prod([rfft(masses, size) for _, masses in losses], axis=0)
    return sum(first for first, _ in losses), irfft(product, size)[: length - len(losses) + 1]
