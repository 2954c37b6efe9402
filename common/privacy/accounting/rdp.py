"""Rényi divergence of the Poisson-subsampled Gaussian: the additive accountant's only formula.

Method: Mironov, Talwar, Zhang 2019. For a whole order a, the a-th moment of the likelihood ratio is
a binomial sum (their section 3.3). For an order between, it is an integral of a smooth function
that falls off like a Gaussian, for which the trapezoidal rule is exact to rounding (Trefethen,
Weideman 2014). Both take all orders at once: a ledger asks for hundreds of events.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

_TAIL = 12.0  # standard deviations of the noise beyond which a normal's mass is below 1e-32

# Room for rounding, so that what is returned bounds from above: a whole order's sum keeps eleven of
# its digits; an integral close to 1 keeps fourteen of its own, however little above 1 it is.
_RELATIVE, _ABSOLUTE = 1e-11, 1e-14


def renyi_divergences(
    sample_rate: float, noise_multiplier: float, orders: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the Rényi divergence of one release at each order: float64 [orders].

    It is that of the sum with a shopper from the sum without, which is the larger of the two
    directions (Mironov, Talwar, Zhang 2019, theorem 5).

    Formal guarantee:
        An upper bound for a shopper added and for one removed, whatever float64 rounds away. It
        exceeds it by at most a part in 1e10, and 1e-13 more at an order between whole ones.

    Args:
        sample_rate: q in (0, 1].
        noise_multiplier: sigma, above 0.
        orders: Each above 1, whole or not.
    """
    order = np.asarray(orders)
    if sample_rate == 1:
        return np.asarray(order / (2 * noise_multiplier**2))
    whole = order == np.floor(order)
    found = np.empty(len(order))
    found[whole] = _whole(sample_rate, noise_multiplier, tuple(order[whole].tolist()))
    found[~whole] = _between(sample_rate, noise_multiplier, order[~whole]) + _ABSOLUTE
    return np.asarray(np.maximum(found, 0.0) * (1 + _RELATIVE) / (order - 1))


def _whole(q: float, sigma: float, orders: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the log of each whole order's moment.

    The binomial weights add up to 1, so the moment less 1 is a sum of terms that are all positive:
    nothing cancels, however small q is.
    """
    if not orders:
        return np.empty(0)
    ways, taken, left = _binomials(orders)
    exponent = (taken**2 - taken) / (2 * sigma**2)
    terms = ways + left * math.log1p(-q) + taken * math.log(q)
    terms += exponent + np.log(-np.expm1(-exponent))
    return np.asarray(np.logaddexp(0.0, logsumexp(terms, axis=1)))


@lru_cache(maxsize=8)
def _binomials(
    orders: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return log C(a, k), k and a - k for k = 2, 3, ...: each [orders, k], or [k] for k.

    Where k > a there is no term: its log C is minus infinity.
    """
    order = np.asarray(orders)[:, None]
    taken = np.arange(2.0, order.max() + 1)
    left = np.maximum(order - taken, 0.0)
    ways = gammaln(order + 1) - gammaln(taken + 1) - gammaln(left + 1)
    return np.where(taken <= order, ways, -np.inf), taken, left


def _between(q: float, sigma: float, order: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log of each moment by the trapezoidal rule over the noised sum x.

    The integrand has its nearest singularity pi * sigma^2 off the real line, and its Gaussian falls
    off over sigma: the spacing is a small part of both.
    """
    if not len(order):
        return np.empty(0)
    spacing = min(sigma / 8, sigma**2 / 2)
    x = np.arange(-_TAIL * sigma, order.max() + _TAIL * sigma, spacing)
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * sigma**2))
    density = -((x / sigma) ** 2) / 2 - math.log(sigma * math.sqrt(2 * math.pi))
    return np.asarray(logsumexp(order[:, None] * ratio + density, axis=1) + math.log(spacing))
