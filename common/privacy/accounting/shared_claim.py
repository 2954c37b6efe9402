"""What a plan with distributed noise costs, by how many merchants are missing or with the server.

A ledger is charged the plan's events, whose noise is that of the fewest merchants a sum may have.
Shares are for `KEPT_FOR_SHARES` more, so that the small terms by which a sum of discrete shares is
no Gaussian are paid for: what is charged is never below what is told here for `plan.spared`.

The terms are taken for vectors of `MOST_NUMBERS` and a grid of 2^-30 of the bound, the coarsest:
both are bounds for all runs, so that neither the model's size nor the bound is asked for.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Final

from common.errors import SettingsError
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.accounting.shared_noise import (
    SharedReleases,
    checked_drift,
    epsilon_shared,
    epsilon_shared_renyi,
    share_noise,
)

MOST_NUMBERS: Final = 2**24  # of one vector that is summed
_LEAST_SENSITIVITY: Final = Fraction(2**30)  # in units of `common.privacy.mechanism.clipping.grid`


def check_shared(plan: PrivacyPlan) -> None:
    """Refuse a plan whose shared noise is no Gaussian to the accountants' digits; any other passes.

    Raises:
        PrivacyError: field `noise_multiplier`.
    """
    if plan.dp_model == "distributed":
        checked_drift(_releases(plan), plan.spared)


@lru_cache(maxsize=256)
def epsilon_with_absent(plan: PrivacyPlan, absent: int) -> float:
    """Return epsilon of a whole run, at the plan's delta, by PLD.

    Args:
        plan: With distributed noise.
        absent: How many merchants are missing from each sum or with the server, together. More
            than `plan.spared` is no claim of the plan: it says what was lost.

    Raises:
        SettingsError: if the plan's noise is not shared, or nobody's share counts.
        PrivacyError: as `epsilon_shared`.

    Formal guarantee:
        An upper bound for one shopper at one of the other merchants, added or removed, against
        the server, the absent merchants and everybody who sees the sums, if the secure sum shows
        them its sums alone.
    """
    return epsilon_shared(_releases(plan), delta=plan.delta, absent=absent)


@lru_cache(maxsize=256)
def renyi_with_absent(plan: PrivacyPlan, absent: int) -> float:
    """Return the same by the second route, which costs more and must never be the lower one.

    Raises:
        SettingsError: if the plan's noise is not shared.
    """
    return epsilon_shared_renyi(_releases(plan), delta=plan.delta, absent=absent)


def epsilon_by_absent(plan: PrivacyPlan) -> tuple[float, ...]:
    """Return epsilon for 0, 1, ..., `plan.spared` absent, rising; nothing where none is shared."""
    if plan.dp_model != "distributed":
        return ()
    return tuple(epsilon_with_absent(plan, absent) for absent in range(plan.spared + 1))


def _releases(plan: PrivacyPlan) -> tuple[SharedReleases, ...]:
    if plan.dp_model != "distributed":
        raise SettingsError("The plan's noise is not shared.", field="dp_model")
    counts: dict[EventKind, int] = {"train": plan.steps} if plan.trains else {}
    if plan.takes_histogram:
        counts["popularity"] = 1
    if plan.takes_season:
        counts["season"] = 1
    return tuple(
        SharedReleases(
            share_noise(
                plan.shared_multiplier(kind),
                _LEAST_SENSITIVITY,
                parties=plan.merchants,
                spared=plan.spared,
                width=MOST_NUMBERS,
            ),
            plan.event(kind).sample_rate,
            count,
        )
        for kind, count in counts.items()
    )
