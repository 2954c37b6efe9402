"""What a shopper of several merchants is charged, for both ways of placing the noise.

With noise at each merchant the k updates are k mechanisms of their own, and they compose. With
noise once on the sum over merchants a shopper of k merchants moves one sum by up to k times C,
under noise that was made for one C: that costs much more.
"""

import math
from dataclasses import replace
from functools import lru_cache

from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.stats import binom

from common.privacy.accounting.accountants import MechanismEvent, endless, epsilon_pld, merge
from common.privacy.accounting.plan import PrivacyPlan

MOST_MERCHANTS = 5

# Coarser than for the claim itself: the loss is rounded up, which adds up to a hundredth of epsilon
# and takes a fortieth of the time.
_LOSS_INTERVAL = 2e-2


@lru_cache(maxsize=64)
def epsilon_of_several(plan: PrivacyPlan, merchants: int) -> tuple[float, float]:
    """Return epsilon by PLD, at the plan's delta, of a shopper at `merchants` merchants of one run.

    Args:
        plan: The run's, the same for each merchant, with noise.
        merchants: k, at least 1. Their coin flips are independent.

    Returns:
        Epsilon where each merchant adds the noise to its own update (`local`), and where the same
        noise is added once to the sum of all updates (`central`). For one merchant they are equal.

    Formal guarantee:
        Both are upper bounds for neighbours that differ by one shopper at all k merchants, added
        or removed. `local`: k times the events, composed. `central`: in each step the sum moves by
        a vector of norm at most j * C, j binomial of k and q, which the mixture of Gaussians
        N(j, sigma^2) against N(0, sigma^2) dominates (Choquette-Choo et al. 2024).
    """
    events = plan.events()
    if endless(events):
        return math.inf, math.inf
    local = epsilon_pld([replace(one, count=one.count * merchants) for one in events], plan.delta)
    if merchants == 1:
        return local, local
    total = pld.identity(value_discretization_interval=_LOSS_INTERVAL * merchants)
    for event in merge(events):
        total = total.compose(_one_sum(event, merchants).self_compose(event.count))
    return local, float(total.get_epsilon_for_delta(plan.delta))


def _one_sum(event: MechanismEvent, merchants: int) -> pld.PrivacyLossDistribution:
    """Return the loss of one noised sum to which up to `merchants` rows of one shopper add."""
    interval = _LOSS_INTERVAL * merchants
    if event.sample_rate == 1:
        return pld.from_gaussian_mechanism(
            event.noise_multiplier / merchants, value_discretization_interval=interval
        )
    sizes = [float(size) for size in range(merchants + 1)]
    chances = [float(binom.pmf(size, merchants, event.sample_rate)) for size in sizes]
    return pld.from_mixture_gaussian_mechanism(
        event.noise_multiplier, sizes, chances, value_discretization_interval=interval
    )
