"""What it costs a shopper to be replaced by another, where the rest counts one added or removed.

The sum with one shopper is compared with the sum with another: where both were sampled it moves by
up to 2 C, in opposite directions. The pair that dominates is (1 - q) N(0, s^2) + q N(1, s^2)
against (1 - q) N(0, s^2) + q N(-1, s^2): Schuchardt et al. 2024 for one shopper taken out and one
put in, and the `REPLACE_ONE` of dp_accounting. No doubling of epsilon gives it: two steps, one
removed and one added, would cost more in delta.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as library
from numpy.typing import NDArray
from scipy.special import logsumexp

# Four times as coarse as for the claim: epsilon moves by less than 1e-3, always up.
_LOSS_INTERVAL = 2e-3
_TAIL = 12.0  # standard deviations of the noise beyond which a normal's mass is below 1e-32
_LEAST_SAMPLED = 0.3  # below this sigma, sampling helps little and the integral gets long
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12


def epsilon_of_replacement(events: Iterable[tuple[float, float, int]], delta: float) -> float:
    """Return epsilon at `delta` of events (q, sigma, count), each with sigma above 0.

    Formal guarantee:
        An upper bound for neighbours that differ by one shopper replaced, as `epsilon_of_losses`
        is for one added or removed.
    """
    total = library.identity(value_discretization_interval=_LOSS_INTERVAL)
    for q, sigma, count in events:
        if count:
            total = total.compose(_one_loss(q, sigma).self_compose(count))
    return max(float(total.get_epsilon_for_delta(delta)), 0.0)


@lru_cache(maxsize=256)
def _one_loss(q: float, sigma: float) -> library.PrivacyLossDistribution:
    return library.from_gaussian_mechanism(
        sigma,
        value_discretization_interval=_LOSS_INTERVAL,
        sampling_prob=q,
        neighboring_relation=NeighboringRelation.REPLACE_ONE,
    )


def replacement_divergences(
    sample_rate: float, noise_multiplier: float, orders: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the Rényi divergence of one release at each order: float64 [orders].

    Args:
        sample_rate: q in (0, 1].
        noise_multiplier: sigma, above 0.
        orders: Each above 1, whole or not.

    Formal guarantee:
        An upper bound for a shopper replaced, in both directions, which are alike. Without
        sampling the sum moves by 2 C: 2 a / sigma^2, which bounds it with sampling too, as the
        divergence is quasi-convex. What is returned is the smaller of this and the integral.
    """
    order = np.asarray(orders)
    whole = 2 * order / noise_multiplier**2
    if sample_rate == 1 or noise_multiplier < _LEAST_SAMPLED:
        return np.asarray(whole)
    moments = [_log_moment(sample_rate, noise_multiplier, one) for one in orders]
    found = (np.maximum(moments, 0.0) * (1 + _RELATIVE) + _ABSOLUTE) / (order - 1)
    return np.asarray(np.minimum(found, whole))


def _log_moment(q: float, sigma: float, order: float) -> float:
    """Return the log of the integral of P^a Q^(1 - a) by the trapezoidal rule.

    The higher the order, the faster the integrand turns where one part of a mixture takes over from
    the other, so the spacing falls with its root.
    """
    spacing = min(sigma / 8, sigma**2 / 2) / math.sqrt(order)
    x = np.arange(-1 - _TAIL * sigma, 2 * order + _TAIL * sigma, spacing)
    density = -((x / sigma) ** 2) / 2 - math.log(sigma * math.sqrt(2 * math.pi))
    out, taken = math.log1p(-q), math.log(q)
    with_one = np.logaddexp(out, taken + (2 * x - 1) / (2 * sigma**2))
    with_other = np.logaddexp(out, taken + (-2 * x - 1) / (2 * sigma**2))
    terms = order * with_one + (1 - order) * with_other + density
    return float(logsumexp(terms)) + math.log(spacing)
