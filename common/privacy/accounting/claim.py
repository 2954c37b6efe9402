"""Which epsilon may be claimed of a ledger: by PLD of one fixed plan, by the filter of a life."""

from collections.abc import Iterable

from common.privacy.accounting.accountants import (
    MechanismEvent,
    ceiling_for,
    epsilon_pld,
    merge,
)


def fixed_beforehand(plan: Iterable[MechanismEvent], spent: Iterable[MechanismEvent]) -> bool:
    """Return whether `spent` is a plan's events or fewer: then nothing was chosen on the way."""
    allowed = {(one.sample_rate, one.noise_multiplier): one.count for one in merge(plan)}
    return all(
        one.count <= allowed.get((one.sample_rate, one.noise_multiplier), 0) for one in merge(spent)
    )


def epsilon_claimed(
    plan: Iterable[MechanismEvent], spent: Iterable[MechanismEvent], delta: float
) -> float:
    """Return the epsilon to claim for all that a ledger has spent.

    Args:
        plan: The events of the run that is told of.
        spent: All on the ledger.
        delta: Beside it.

    Returns:
        By PLD where the ledger holds nothing but this one plan; else by the filter, since whoever
        chose a later run, or repeated a round, may have seen what came before.
    """
    merged = merge(spent)
    if fixed_beforehand(plan, merged):
        return epsilon_pld(merged, delta)
    return ceiling_for(merged, delta)
