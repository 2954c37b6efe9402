"""Which sums a run has, and in which round of the protocol each is taken: from the plan alone.

Histogram and season come first, where the plan takes them; training round n comes n after them. So
a sum that is taken again, after a stop, has the round that it had, under keys that are new.
"""

from common.errors import FederationError
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.secagg.messages import Terms


def terms_of(
    plan: PrivacyPlan,
    run_id: str,
    *,
    train: int,
    histogram: int = 0,
    season: int = 0,
    setup: str = "",
) -> Terms:
    """Return what all parties of a run agree on.

    Args:
        plan: The run's.
        run_id: Flower's number of it.
        train: How many numbers a training round sums.
        histogram: How many items the histogram counts, where the plan takes one.
        season: How many numbers a season vector has, where the plan takes one.
        setup: Digest of the run's settings and basis (`common.settings.run.run_digest`).

    Raises:
        SettingsError: if a length is out of bounds.
    """
    lengths = {"popularity": histogram, "season": season}
    first = tuple(lengths[kind] for kind in _first(plan))
    return Terms(run_id, plan.digest, len(first) + plan.rounds, train, first, setup)


def slot_of(plan: PrivacyPlan, kind: EventKind, number: int) -> int:
    """Return the protocol's round for a training round, or for what comes before the first.

    Args:
        plan: The run's.
        kind: What is summed.
        number: The training round, from 1; 0 for histogram and season.

    Raises:
        FederationError: `round` if the plan takes no such sum.
    """
    first = _first(plan)
    if kind in first and number == 0:
        return first.index(kind) + 1
    if kind != "train" or not 1 <= number <= plan.rounds:
        raise FederationError("The plan takes no such sum.", field="round")
    return len(first) + number


def _first(plan: PrivacyPlan) -> tuple[EventKind, ...]:
    taken: dict[EventKind, bool] = {
        "popularity": plan.takes_histogram,
        "season": plan.takes_season,
    }
    return tuple(kind for kind, is_taken in taken.items() if is_taken)
