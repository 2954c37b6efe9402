"""What a run has spent: one list of events, three accountants that each read it on their own.

PLD (Google's dp_accounting) is the value a plan is solved for and a release claims. PRV (Opacus)
is the second opinion: numerical too, but another code base and another bound. RDP is additive,
which makes it the one for gating a budget. All three take Poisson sampling and neighbours that
differ by one shopper added or removed.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant, rdp_privacy_accountant

from common.errors import PrivacyError, SettingsError

AGREEMENT = 0.02  # PLD and PRV may differ by this much in epsilon

# Rounding the privacy loss to this grid only ever raises epsilon; a grid five times finer moves
# it by less than 1e-4 and takes five times as long.
_LOSS_INTERVAL = 5e-4
_PRV_EPSILON_ERROR = 0.005  # PRV returns its upper bound, which lies this much above its estimate

# The orders the budget's gate may stop at. Few, since each costs its share of delta (see
# `epsilon_filter`); placed where the best order falls for epsilon from 0.3 to 16.
FILTER_ORDERS = (1.75, 2.5, 3.5, 5.0, 8.0, 13.0, 24.0, 48.0)


@dataclass(frozen=True, slots=True, order=True)
class MechanismEvent:
    """`count` releases of a Poisson-subsampled Gaussian sum.

    Attributes:
        sample_rate: q, each shopper's chance to take part in one release, in (0, 1].
        noise_multiplier: sigma, the noise's standard deviation over the sum's L2 sensitivity;
            0 stands for no noise, whose epsilon is infinite.
        count: How many releases, at least 0.

    Raises:
        SettingsError: if a number is out of these bounds.
    """

    sample_rate: float
    noise_multiplier: float
    count: int

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise SettingsError("An event's sample_rate must be in (0, 1].", field="sample_rate")
        if not 0 <= self.noise_multiplier < math.inf:
            raise SettingsError(
                "An event's noise_multiplier must be finite and at least 0.",
                field="noise_multiplier",
            )
        if self.count < 0:
            raise SettingsError("An event's count must be at least 0.", field="count")


Events = tuple[MechanismEvent, ...]


def merge(events: Iterable[MechanismEvent]) -> Events:
    """Return the same events with equal (q, sigma) counted together, sorted, without empty ones.

    Composition does not depend on order, and each accountant's time grows with the number of
    distinct events, not with their counts.
    """
    counts: dict[tuple[float, float], int] = {}
    for event in events:
        key = (event.sample_rate, event.noise_multiplier)
        counts[key] = counts.get(key, 0) + event.count
    return tuple(sorted(MechanismEvent(q, s, n) for (q, s), n in counts.items() if n > 0))


@dataclass(frozen=True, slots=True)
class AccountantReport:
    """Epsilon at `delta` by each accountant, for the same events."""

    pld: float
    prv: float
    rdp: float
    delta: float


def account(events: Iterable[MechanismEvent], delta: float) -> AccountantReport:
    """Return epsilon at `delta` by all three accountants.

    Raises:
        PrivacyError: if PLD and PRV differ by more than `AGREEMENT`: one of them is wrong, and
            nothing may be claimed.
    """
    merged = merge(events)
    report = AccountantReport(
        pld=epsilon_pld(merged, delta),
        prv=epsilon_prv(merged, delta),
        rdp=epsilon_rdp(merged, delta),
        delta=delta,
    )
    # Two infinities agree; one does not agree with a number.
    if report.pld != report.prv and not abs(report.pld - report.prv) <= AGREEMENT:
        raise PrivacyError(
            f"Two accountants disagree: epsilon is {report.pld:.4f} by PLD and {report.prv:.4f} "
            f"by PRV; they must be within {AGREEMENT}.",
            field="epsilon",
        )
    return report


def epsilon_pld(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by privacy loss distributions (an upper bound).

    Method: Koskela, Jälkö, Honkela 2020 with the discretisation of Doroshenko et al. 2022, by
    dp_accounting. Both directions, a shopper added and a shopper removed, are composed and the
    worse one is returned.
    """
    return _epsilon_pld(merge(events), _checked_delta(delta))


def epsilon_prv(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by privacy random variables (an upper bound).

    Method: Gopi, Lee, Wutschitz 2021, by Opacus. Nothing spent is 0: Opacus itself fails on an
    empty history.
    """
    return _epsilon_prv(merge(events), _checked_delta(delta))


def epsilon_rdp(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by Rényi differential privacy (an upper bound).

    Method: Mironov, Talwar, Zhang 2019 for the sampled Gaussian, converted as in Canonne, Kamath,
    Steinke 2020 at the best of dp_accounting's orders. About 10% above `epsilon_pld`.
    """
    return _epsilon_rdp(merge(events), _checked_delta(delta))


def epsilon_filter(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return the epsilon that a budget compares with its ceiling: RDP at a few fixed orders.

    Formal guarantee: a merchant who stops before this value at `delta` exceeds a ceiling has
    spent at most (ceiling, delta), even if each run was chosen after seeing the results of the
    runs before it. For one order, a bound on the sum of Rényi divergences is a valid filter
    under adaptive choice (Feldman, Zrnic 2021; Lécuyer 2021). Which of the orders is within its
    bound at the end may depend on what was seen, so each gets delta / len(FILTER_ORDERS): the
    hockey-stick divergence of the whole is at most the sum over orders of that of the run stopped
    by that order's filter alone.
    """
    return _epsilon_filter(merge(events), _checked_delta(delta))


def sigma_for_epsilon(
    *, epsilon: float, delta: float, sample_rate: float, steps: int, beside: Events = ()
) -> float:
    """Return the smallest noise multiplier whose `steps` releases stay within epsilon by PLD.

    Args:
        epsilon: The target, above 0 and finite, for all events together.
        delta: In (0, 1).
        sample_rate: q of each release.
        steps: How many releases, at least 1.
        beside: Further events that share the target, such as a histogram.

    Returns:
        sigma, at most 0.02% above the smallest that fits, never below it.

    Raises:
        SettingsError: if no noise multiplier up to 10,000 fits, or `epsilon` is not positive.
    """
    if not 0 < epsilon < math.inf:
        raise SettingsError("epsilon must be above 0 and finite.", field="epsilon")

    def fits(sigma: float) -> bool:
        event = MechanismEvent(sample_rate, sigma, steps)
        return epsilon_pld((*beside, event), delta) <= epsilon

    high = 1.0
    while not fits(high):
        high *= 2
        if high > 10_000:
            raise SettingsError(
                f"No noise multiplier up to 10,000 keeps {steps} steps within epsilon "
                f"{epsilon:g} at delta {delta:g}.",
                field="epsilon",
            )
    low = high / 2
    while low > 0.05 and fits(low):
        low, high = low / 2, low
    while high / low > 1.0002:  # bisection keeps `high` on the side that fits
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the mu (sensitivity over noise) of the Gaussian mechanism that is (epsilon, delta).

    Method: the exact curve of Balle, Wang 2018, solved by bisection. Used to split a budget, as
    mu squared adds up over mechanisms (Dong, Roth, Su 2022).
    """
    low, high = 0.0, 1.0
    while gaussian_delta(epsilon, high) < delta:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(epsilon, middle) > delta else (middle, high)
    return low


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Return delta of the Gaussian mechanism at `epsilon` (Balle, Wang 2018, theorem 8)."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415 - scipy.special is slow to import

    second = math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)))
    return float(ndtr(mu / 2 - epsilon / mu)) - second


def _checked_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise SettingsError("delta must lie between 0 and 1, both excluded.", field="delta")
    return delta


def _endless(events: Events) -> bool:
    return any(event.noise_multiplier == 0 for event in events)


# Rounds ask for t = 1, 2, 3, ... of the same event, and eight merchants ask for the same list:
# one release's distribution is kept, and so is each answer.
@lru_cache(maxsize=64)
def _one_loss(sample_rate: float, noise_multiplier: float) -> pld.PrivacyLossDistribution:
    return pld.from_gaussian_mechanism(
        standard_deviation=noise_multiplier,
        sampling_prob=sample_rate,
        value_discretization_interval=_LOSS_INTERVAL,
        neighboring_relation=pld.NeighborRel.ADD_OR_REMOVE_ONE,
    )


@lru_cache(maxsize=4096)
def _epsilon_pld(events: Events, delta: float) -> float:
    if _endless(events):
        return math.inf
    total = pld.identity(value_discretization_interval=_LOSS_INTERVAL)
    for event in events:
        loss = _one_loss(event.sample_rate, event.noise_multiplier)
        total = total.compose(loss.self_compose(event.count))
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=4096)
def _epsilon_prv(events: Events, delta: float) -> float:
    if not events:
        return 0.0
    if _endless(events):
        return math.inf
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - needs torch; an auditor may not

    accountant = PRVAccountant()
    accountant.history = [(e.noise_multiplier, e.sample_rate, e.count) for e in events]
    # At q = 1 Opacus takes log(1 - q) = -inf, which is right and makes NumPy warn; its search for
    # a domain warns when the largest RDP order is the best, which costs accuracy it checks itself.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=_PRV_EPSILON_ERROR))


@lru_cache(maxsize=1024)
def _one_rdp(event: MechanismEvent, orders: tuple[float, ...]) -> tuple[float, ...]:
    """Return the Rényi divergence of one release of `event` at each order."""
    accountant = RdpAccountant(orders)
    gaussian = dp_event.GaussianDpEvent(event.noise_multiplier)
    accountant.compose(dp_event.PoissonSampledDpEvent(event.sample_rate, gaussian))
    return tuple(float(value) for value in accountant.rdp)


def _rdp(events: Events, orders: tuple[float, ...], delta: float) -> float:
    if _endless(events):
        return math.inf
    if not events:
        return 0.0
    total = np.zeros(len(orders))
    for event in events:
        single = MechanismEvent(event.sample_rate, event.noise_multiplier, 1)
        total += event.count * np.asarray(_one_rdp(single, orders))
    epsilon, _ = rdp_privacy_accountant.compute_epsilon(orders, total, delta)
    return float(epsilon)


@lru_cache(maxsize=4096)
def _epsilon_rdp(events: Events, delta: float) -> float:
    orders = tuple(float(order) for order in rdp_privacy_accountant.DEFAULT_RDP_ORDERS)
    return _rdp(events, orders, delta)


@lru_cache(maxsize=4096)
def _epsilon_filter(events: Events, delta: float) -> float:
    return _rdp(events, FILTER_ORDERS, delta / len(FILTER_ORDERS))
