"""What a sum of integers costs when each party adds its share of discrete Gaussian noise.

A sum of discrete Gaussians is not one. It is close to one, and that is close to a Gaussian rounded
to integers, and a rounded Gaussian costs what the Gaussian does: so the accountants of a Gaussian
hold for it but for two small terms. Integers are counted in units of the vectors' grid.

**One to the other.** Let m shares have the parameter v = s^2 each, s >= 1/2, and V = m v.

1. Each probability of their sum is within a factor of exp(tau) of the discrete Gaussian's of
   parameter V, where tau = 10 sum_{k=1}^{m-1} exp(-2 pi^2 v k / (k + 1)): Kairouz, Liu, Steinke
   2021, whose bound for adding share k + 1 to k is half of that term.
2. Each of that one's at x, |x| <= B sqrt(V), is within a factor of exp(kappa) of the rounded
   Gaussian's: over the density at x the latter is E[exp(-(2xu + u^2) / 2V)], u uniform in
   [-1/2, 1/2], which lies in [exp(-1 / 8V), exp(x^2 / 8V^2)]; the former is 1 over
   sum exp(-2 pi^2 j^2 V). So kappa = B^2 / 8V + 3 exp(-2 pi^2 V).
3. Beyond B sqrt(V) lies at most 2 exp(-(B - 1/2)^2 / 2) of either, for V >= 1.

So for d numbers and T releases, each event has a probability of at most exp(eta) times that with
rounded Gaussians, plus beta, and the other way round: eta = T d (tau + kappa), and beta is T d
times the third. If the Gaussian is (epsilon, delta'), the sum is (epsilon + 2 eta, exp(eta) delta'
+ beta (1 + exp(epsilon + eta))): also when rows are sampled, and later releases depend on earlier
ones.

**A second route** knows nothing of rounded Gaussians: Rényi divergence of the sum by proposition
14 of Kairouz, Liu, Steinke 2021, sampled by theorem 5 of Zhu, Wang 2019, and converted by
proposition 12 of Canonne, Kamath, Steinke 2020. It costs more, and must never be the lower one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld

_BOUND: Final = 16.0  # B
_ORDERS: Final = (*range(2, 65), 72, 80, 96, 128, 192, 256, 384, 512)
# The part of delta that is kept for what the sum is not a rounded Gaussian.
_KEPT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class SharedNoise:
    """The noise on one sum, from the parties' shares of it.

    Attributes:
        parties: N, who add a share.
        spared: How many of them may be missing, or with the server, at the plan's epsilon.
        variance: Parameter of one share, in squared units.
        sensitivity: The L2 norm, in units, by which one shopper changes the sum.
        width: How many numbers the sum has.
    """

    parties: int
    spared: int
    variance: int
    sensitivity: Fraction
    width: int

    def multiplier(self, absent: int) -> float:
        """Return the noise over the sensitivity, without the shares of `absent` parties."""
        total = Fraction((self.parties - absent) * self.variance)
        return math.sqrt(total / self.sensitivity**2) * (1 - 2.0**-50)  # rounded down

    def tau(self, absent: int) -> float:
        """Return tau of the remaining shares: 0 for one."""
        count = self.parties - absent
        terms = (math.exp(-2 * math.pi**2 * self.variance * k / (k + 1)) for k in range(1, count))
        return 10 * sum(terms)

    def kappa(self, absent: int) -> float:
        """Return kappa of the remaining shares' discrete Gaussian."""
        total = float((self.parties - absent) * self.variance)
        return _BOUND**2 / (8 * total) + 3 * math.exp(-2 * math.pi**2 * total)


def share_noise(
    noise_multiplier: float,
    sensitivity: Fraction,
    *,
    parties: int,
    spared: int,
    width: int,
) -> SharedNoise:
    """Return each party's share of a plan's noise.

    Args:
        noise_multiplier: sigma of the whole, over the sensitivity.
        sensitivity: In units.
        parties: N, at least 2.
        spared: Of how many the noise may be missing or known, below N. The others carry all of it:
            where it is floor(rho N), the deviation on a sum that nobody is missing from is at most
            1 / sqrt(1 - rho) of what it has to be.
        width: How many numbers.

    Raises:
        SettingsError: if a value is out of bounds.
    """
    if parties < 2:
        raise SettingsError("Noise is shared by at least two parties.", field="merchants")
    if not 0 <= spared < parties:
        raise SettingsError("Fewer parties may be spared than there are.", field="spared")
    if noise_multiplier <= 0 or sensitivity <= 0:
        raise SettingsError("Noise to share must be above 0.", field="noise_multiplier")
    whole = (Fraction(noise_multiplier) * sensitivity) ** 2
    return SharedNoise(
        parties, spared, math.ceil(whole / (parties - spared)), Fraction(sensitivity), width
    )


@dataclass(frozen=True, slots=True)
class SharedReleases:
    """`count` sums with the same noise, each shopper in each with a chance of `sample_rate`."""

    noise: SharedNoise
    sample_rate: float
    count: int


def epsilon_shared(releases: Sequence[SharedReleases], *, delta: float, absent: int) -> float:
    """Return epsilon at `delta` of all releases, by privacy loss distributions (dp_accounting).

    Args:
        releases: All of them, by the same parties.
        delta: Of the claim.
        absent: How many parties' shares do not count: they are missing, or with the server.

    Raises:
        PrivacyError: if the grid is too coarse for the noise, so that the small terms are not; or
            if epsilon is far above 50.
        SettingsError: if nobody's share counts.

    Formal guarantee:
        An upper bound, for one shopper added or removed, by the argument above.
    """
    drift = checked_drift(releases, absent)
    numbers = sum(one.count * one.noise.width for one in releases)
    beyond = numbers * 2 * math.exp(-((_BOUND - 0.5) ** 2) / 2)
    events = [
        MechanismEvent(one.sample_rate, one.noise.multiplier(absent), one.count) for one in releases
    ]
    within = delta * (1 - _KEPT)
    epsilon = epsilon_pld(events, within) + 2 * drift
    if math.exp(drift) * within + beyond * (1 + math.exp(min(epsilon, 100.0))) > delta:
        raise _too_coarse()
    return epsilon


def checked_drift(releases: Sequence[SharedReleases], absent: int) -> float:
    """Return eta of all releases: what their sums are no rounded Gaussians, in epsilon.

    Raises:
        PrivacyError: if it is more than the accountants' digits.
        SettingsError: if nobody's share counts.
    """
    if any(not 0 <= absent < one.noise.parties for one in releases):
        raise SettingsError("Somebody's share of the noise must count.", field="absent")
    if any(one.noise.variance < 1 for one in releases):
        raise _too_coarse()
    drift = sum(
        one.count * one.noise.width * (one.noise.tau(absent) + one.noise.kappa(absent))
        for one in releases
    )
    if drift >= _KEPT:
        raise _too_coarse()
    return drift


def _too_coarse() -> PrivacyError:
    return PrivacyError(
        "The grid is too coarse for this noise: a sum of shares is no Gaussian to the "
        "accountant's digits.",
        field="noise_multiplier",
    )


def epsilon_shared_renyi(releases: Sequence[SharedReleases], *, delta: float, absent: int) -> float:
    """Return epsilon at `delta` by the second route: see the module. Arguments as before."""
    total = np.zeros(len(_ORDERS))
    for one in releases:
        whole = np.array([_renyi(one.noise, absent, order) for order in range(1, 513)])
        total += one.count * _sampled(whole, one.sample_rate)
    order = np.array(_ORDERS, dtype=float)
    epsilon = total + np.log1p(-1 / order) - (math.log(delta) + np.log(order)) / (order - 1)
    return float(max(0.0, epsilon.min()))


def _renyi(noise: SharedNoise, absent: int, order: float) -> float:
    """Return the divergence of one release of all rows (proposition 14).

    A vector of L2 norm D has an L1 norm of at most sqrt(d) D, with which the proposition's middle
    bound lies above its last.
    """
    ratio, tau, width = 1 / noise.multiplier(absent), noise.tau(absent), noise.width
    if noise.variance < Fraction(1, 4):
        raise PrivacyError("Shares need a deviation of half a unit.", field="noise_multiplier")
    return min(
        order / 2 * ratio**2 + tau * width, order / 2 * (ratio + math.sqrt(width) * tau) ** 2
    )


def _sampled(divergence: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """Return the divergence with sampling at each of `_ORDERS`, from that at 1, 2, ..., 512."""
    from scipy.special import gammaln, logsumexp  # noqa: PLC0415 - 25 MB that a node spares

    whole = np.array(_ORDERS)
    if q == 1:
        return np.asarray(divergence[whole - 1])
    found = []
    for order in _ORDERS:
        taken = np.arange(2, order + 1)
        ways = gammaln(order + 1) - gammaln(taken + 1) - gammaln(order - taken + 1)
        terms = ways + (order - taken) * math.log1p(-q) + taken * math.log(q)
        terms += (taken - 1) * divergence[taken - 1] + np.where(taken > 2, math.log(3), 0.0)
        first = (order - 1) * math.log1p(-q) + math.log(order * q - q + 1)
        found.append(np.logaddexp(first, logsumexp(terms)) / (order - 1))
    return np.asarray(np.minimum(np.array(found), divergence[whole - 1]))
