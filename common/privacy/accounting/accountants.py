"""What a run has spent: one list of events, three accountants that each read it on their own.

PLD (Google's dp_accounting) is the value a plan is solved for and a release claims. PRV (Opacus)
is the second opinion: numerical too, but another code base and another bound. RDP is additive,
which makes it the one for gating a budget. All three take Poisson sampling and neighbours that
differ by one shopper added or removed.
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivacyError, SettingsError

AGREEMENT = 0.02  # PLD and PRV may differ by this much in epsilon

# Less noise than this counts as none, an infinite epsilon. Its own is many hundreds, and the grids
# of the numerical accountants grow with one over sigma squared: a ledger or head that somebody
# made up must not fill the memory of whoever checks it.
LEAST_NOISE = 0.03

# Rényi orders to choose from. Below 2 the series for the sampled Gaussian often fails to converge,
# and those orders are best only for epsilon above 16.
_FRACTIONS = (2.25, 2.5, 2.75, 3.25, 3.5, 3.75, 4.25, 4.5, 4.75)
_WHOLE = (*range(2, 65), 72, 80, 96, 128, 192, 256, 512)
_ORDERS = tuple(sorted({*_FRACTIONS, *map(float, _WHOLE)}))


@dataclass(frozen=True, slots=True, order=True)
class MechanismEvent:
    """`count` releases of a Poisson-subsampled Gaussian sum.

    Attributes:
        sample_rate: q, each shopper's chance to take part in one release, in (0, 1].
        noise_multiplier: sigma, the noise's standard deviation over the sum's L2 sensitivity;
            below `LEAST_NOISE`, 0 too, epsilon is infinite.
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
    events: Events = field(default=(), compare=False)


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
        events=merged,
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

    Formal guarantee:
        For events that were all fixed before the first of them was seen. Where later ones were
        chosen after seeing earlier ones, `ceiling_for` is what holds.
    """
    return _epsilon_pld(merge(events), _checked_delta(delta))


def epsilon_replaced(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by PLD for neighbours that differ by one shopper replaced.

    See `common.privacy.accounting.replacement`; for events fixed beforehand, as `epsilon_pld`.
    """
    return _epsilon_replaced(merge(events), _checked_delta(delta))


def epsilon_prv(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by privacy random variables (an upper bound).

    Method: Gopi, Lee, Wutschitz 2021, by Opacus. Nothing spent is 0: Opacus itself fails on an
    empty history.
    """
    return _epsilon_prv(merge(events), _checked_delta(delta))


def epsilon_rdp(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon at `delta` by Rényi differential privacy (an upper bound).

    Method: Mironov, Talwar, Zhang 2019 for the sampled Gaussian, converted as in Canonne, Kamath,
    Steinke 2020 at the best order from 2 to 512. About 10% above `epsilon_pld`.
    """
    return _epsilon_rdp(merge(events), _checked_delta(delta))


def budget_share(
    events: Iterable[MechanismEvent], delta: float, ceiling: float, *, replaced: bool = False
) -> float:
    """Return how much of a budget of (ceiling, delta) the events take: 1 is all of it.

    Method: a Rényi filter (Feldman, Zrnic 2021). `ceiling` and `delta` fix one order a, and with
    it the Rényi divergence that converts to exactly `ceiling` (Canonne, Kamath, Steinke 2020);
    the share is the events' divergence over that. It adds up: half the rounds take half.

    Formal guarantee:
        Whoever stops before the share exceeds 1 has spent at most (ceiling, delta), also when
        each event was chosen after seeing the results of those before it. At one fixed order, a
        bound on the sum of divergences holds under adaptive choice; at the best of many, as in
        `epsilon_rdp`, it does not, since which one is best may depend on what was seen.
    """
    merged = merge(events)
    if not merged or math.isinf(ceiling):
        return 0.0
    order = _filter_order(ceiling, _checked_delta(delta))
    conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    allowed = ceiling - conversion
    if allowed <= 0:
        return math.inf
    return float(_divergences(merged, replaced=replaced)[_ORDERS.index(order)]) / allowed


def ceiling_for(events: Iterable[MechanismEvent], delta: float, *, replaced: bool = False) -> float:
    """Return the least ceiling, to 0.1%, whose budget covers all of `events`.

    Args:
        events: What was spent.
        delta: Beside it.
        replaced: Whether neighbours differ by one shopper replaced, not added or removed.

    Formal guarantee:
        Whoever fixed this ceiling beforehand would have let all of `events` pass, so for them it
        holds however later events were chosen. A merchant's own ceiling is at least this.
    """
    merged = merge(events)
    low = high = max(epsilon_rdp(merged, delta), 1e-3)
    if math.isinf(high):
        return high
    while budget_share(merged, delta, high, replaced=replaced) > 1:
        low, high = high, high * 1.25
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        fits = budget_share(merged, delta, middle, replaced=replaced) <= 1
        low, high = (low, middle) if fits else (middle, high)
    return high


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
    from scipy.optimize import brentq  # noqa: PLC0415 - 27 MB, and a node only reads plans

    if not 0 < epsilon < math.inf:
        raise SettingsError("epsilon must be above 0 and finite.", field="epsilon")

    def excess(log_sigma: float) -> float:
        event = MechanismEvent(sample_rate, math.exp(log_sigma), steps)
        return epsilon_pld((*beside, event), delta) - epsilon

    # Where sampling behaves like a Gaussian of q * sqrt(T) / sigma, which is close when sigma > 1.
    start = math.log(max(sample_rate * math.sqrt(steps) / gaussian_mu(epsilon, delta), 0.4))
    low = high = start
    while excess(high) > 0:
        low, high = high, high + 0.4
        if high > math.log(10_000):
            raise SettingsError(
                f"No noise multiplier up to 10,000 keeps {steps} steps within epsilon "
                f"{epsilon:g} at delta {delta:g}.",
                field="epsilon",
            )
    while low > math.log(0.05) and excess(low) <= 0:
        low, high = low - 0.4, low
    if excess(low) <= 0:
        return math.exp(low)
    sigma = math.exp(brentq(excess, low, high, xtol=5e-5))
    while excess(math.log(sigma)) > 0:  # the root may lie a hair on the wrong side
        sigma *= 1.00005
    return float(sigma)


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
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415 - 25 MB a node's watcher spares

    second = math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)))
    return float(ndtr(mu / 2 - epsilon / mu)) - second


def _checked_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise SettingsError("delta must lie between 0 and 1, both excluded.", field="delta")
    return delta


def endless(events: Events) -> bool:
    """Return whether a release among the events, which are merged, has no noise to speak of."""
    return any(event.noise_multiplier < LEAST_NOISE for event in events)


# Rounds ask for t = 1, 2, 3, ... of the same event, and eight merchants ask for the same list.
@lru_cache(maxsize=4096)
def _epsilon_pld(events: Events, delta: float) -> float:
    if endless(events):
        return math.inf
    from common.privacy.accounting.pld import epsilon_of_losses  # noqa: PLC0415 - loads dp_accounting

    return epsilon_of_losses(map(astuple, events), delta)


@lru_cache(maxsize=256)
def _epsilon_replaced(events: Events, delta: float) -> float:
    if endless(events):
        return math.inf
    from common.privacy.accounting.replacement import epsilon_of_replacement  # noqa: PLC0415 - loads dp_accounting

    return epsilon_of_replacement(map(astuple, events), delta)


@lru_cache(maxsize=4096)
def _epsilon_prv(events: Events, delta: float) -> float:
    if not events:
        return 0.0
    if endless(events):
        return math.inf
    from common.privacy.accounting.prv import epsilon_of_variables, grid_width  # noqa: PLC0415 - loads scipy

    def bound(some: tuple[tuple[float, float, int], ...], at: float) -> float:
        return _rdp(tuple(MechanismEvent(*one) for one in some), at)

    plain = [astuple(event) for event in events]
    return epsilon_of_variables(plain, delta, width=grid_width(plain, delta, bound))


@lru_cache(maxsize=1024)
def _one_rdp(sample_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    from common.privacy.accounting.rdp import renyi_divergences  # noqa: PLC0415 - loads scipy

    return renyi_divergences(sample_rate, noise_multiplier, _ORDERS)


@lru_cache(maxsize=1024)
def _one_replaced(sample_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    from common.privacy.accounting.replacement import replacement_divergences  # noqa: PLC0415 - loads dp_accounting

    return replacement_divergences(sample_rate, noise_multiplier, _ORDERS)


def _divergences(events: Events, *, replaced: bool = False) -> NDArray[np.float64]:
    """Return the summed Rényi divergence of all releases at each of the orders."""
    if endless(events):
        return np.full(len(_ORDERS), math.inf)
    total = np.zeros(len(_ORDERS))
    for event in events:
        one = _one_replaced if replaced else _one_rdp
        total += event.count * one(event.sample_rate, event.noise_multiplier)
    return total


def _rdp(events: Events, delta: float) -> float:
    if not events or endless(events):
        return math.inf if events else 0.0
    from dp_accounting.rdp import rdp_privacy_accountant  # noqa: PLC0415 - 60 MB a node's watcher spares

    epsilon, _ = rdp_privacy_accountant.compute_epsilon(_ORDERS, _divergences(events), delta)
    return float(epsilon)


@lru_cache(maxsize=4096)
def _epsilon_rdp(events: Events, delta: float) -> float:
    return _rdp(events, delta)


@lru_cache(maxsize=64)
def _filter_order(ceiling: float, delta: float) -> float:
    """Return the order that is best, or nearly, for what just fills `ceiling`.

    For a Gaussian of parameter mu, the order a costs a * mu^2 / 2, and its conversion about
    log(1/delta) / (a - 1); at the best order both are near ceiling / 2. Poisson sampling moves
    the best order down a little, hence 0.8 of the way from 1.
    """
    gaussian = 1 + 2 * math.log(1 / delta) / ceiling
    best = 1 + 0.8 * (gaussian - 1)
    return min(_ORDERS, key=lambda order: abs(math.log(order / best)))
