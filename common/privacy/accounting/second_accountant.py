"""A second accountant for what a ledger holds, whichever this machine has.

The claim is by PLD. Where torch is installed, Opacus's PRV reads the same events on its own; where
it is not, the package prv-accountant does, which needs numpy and scipy only; where that is missing
too, Rényi accounting gives a bound from above, which PLD must not exceed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from common.privacy.accounting.accountants import (
    AGREEMENT,
    Events,
    MechanismEvent,
    endless,
    epsilon_prv,
    epsilon_rdp,
    merge,
)

_PRV_EPSILON_ERROR = 0.005  # PRV returns its upper bound, which lies this much above its estimate
_ROUNDING = 1e-6  # two computations of one number may differ by this much


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Epsilon by a second accountant.

    Attributes:
        accountant: Which, with its version.
        epsilon: Its value.
        numerical: Whether it must agree with PLD within `AGREEMENT`; else it bounds from above.
    """

    accountant: str
    epsilon: float
    numerical: bool

    def accepts(self, epsilon: float) -> bool:
        """Return whether this accountant lets PLD's value stand."""
        if epsilon == self.epsilon:  # also two infinities
            return True
        if not self.numerical:
            return epsilon <= self.epsilon + _ROUNDING
        return abs(epsilon - self.epsilon) <= AGREEMENT


def second_opinion(events: Iterable[MechanismEvent], delta: float) -> SecondOpinion:
    """Return epsilon at `delta` by the best second accountant that is installed.

    Raises:
        SettingsError: if delta does not lie between 0 and 1.
    """
    merged = merge(events)
    try:
        import opacus.accountants  # noqa: F401, PLC0415 - is it here? It brings torch with it

        value = epsilon_prv(merged, delta)
        return SecondOpinion(f"PRV by {package_version('opacus')}", value, numerical=True)
    except ImportError:  # no torch here
        pass
    try:
        value = _prv_without_torch(merged, delta)
        return SecondOpinion(f"PRV by {package_version('prv-accountant')}", value, numerical=True)
    except ImportError:
        bound = epsilon_rdp(merged, delta)
        return SecondOpinion(f"RDP by {package_version('dp-accounting')}", bound, numerical=False)


def _prv_without_torch(events: Events, delta: float) -> float:
    """Return the upper bound of Gopi, Lee, Wutschitz 2021 by its authors' own package."""
    from prv_accountant import (  # noqa: PLC0415 - an extra that few need
        GaussianMechanism,
        PoissonSubsampledGaussianMechanism,
        PRVAccountant,
    )

    if not events or endless(events):
        return math.inf if events else 0.0
    mechanisms = [
        GaussianMechanism(event.noise_multiplier)
        if event.sample_rate == 1
        else PoissonSubsampledGaussianMechanism(
            noise_multiplier=event.noise_multiplier, sampling_probability=event.sample_rate
        )
        for event in events
    ]
    counts = [event.count for event in events]
    accountant = PRVAccountant(
        prvs=mechanisms,
        max_self_compositions=counts,
        eps_error=_PRV_EPSILON_ERROR,
        delta_error=delta / 1000,
    )
    _, _, upper = accountant.compute_epsilon(delta, counts)
    return float(upper)


def package_version(package: str) -> str:
    """Return a package's name and version; without a version where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
