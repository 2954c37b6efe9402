"""From a secure sum's integers to numbers: one body for the server and the auditor.

A summand may be any number of the ring, and nobody sees it: only their sum can be held against what
honest parties' can be. A sum beyond that is used for nothing, and nobody can be named for it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from common.federation.aggregation import Popularity, popularity_of
from common.federation.bounds import FloatVector, Framing, honest_sum_bounds
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.mechanism.shares import share_form
from common.privacy.secagg.server import SecureSum
from common.season import Season


def decoded(
    total: SecureSum, plan: PrivacyPlan, kind: EventKind, columns: int = 0
) -> tuple[FloatVector, FloatVector]:
    """Return a sum over its survivors as numbers, and its canaries: float64 [k - m] and [m].

    Args:
        total: Of `kind`.
        plan: The run's.
        kind: What was summed.
        columns: m, how many numbers at its end are canaries, in which shoppers have zeros.

    Raises:
        FederationError: `update_norm`, `update_coordinate` or those of `popularity` or `season` if
            it is beyond what honest parties give but with a chance of 1e-9.
    """
    whole = share_form(plan, kind, total.vector.size).form.decode(total.vector)
    vector, canaries = np.split(whole, [whole.size - columns])
    name = "update" if kind == "train" else kind
    honest_sum_bounds(plan, kind, vector.size, len(total.survivors)).check(vector, name)
    return vector, canaries


def mean_gradient(
    total: SecureSum, plan: PrivacyPlan, framing: Framing
) -> tuple[FloatVector, FloatVector]:
    """Return the mean of the survivors' updates, float64 [d], and the canaries' sums, [m].

    Raises:
        FederationError: as `decoded`.
    """
    columns = total.vector.size - framing.inner_size
    vector, canaries = decoded(total, plan, "train", columns)
    return framing.frame(vector / (plan.divisor * len(total.survivors))), canaries


def summed_popularity(total: SecureSum, plan: PrivacyPlan, index: NDArray[np.uint64]) -> Popularity:
    """Return the popularity of the items with these text keys, ascending: uint64 [k].

    Raises:
        FederationError: as `decoded`.
    """
    counts, _ = decoded(total, plan, "popularity")
    spread = plan.noise_std("popularity") * math.sqrt(len(total.survivors))
    return popularity_of(index, counts, spread)


def summed_season(total: SecureSum, plan: PrivacyPlan, ends: tuple[int, ...]) -> Season:
    """Return the season of the survivors' shoppers.

    Raises:
        FederationError: as `decoded`.
    """
    vector, survivors = decoded(total, plan, "season")[0], len(total.survivors)
    return Season(
        vectors=vector.reshape(len(ends), -1).astype(np.float32),
        ends=ends,
        noise_std=plan.noise_std("season") * math.sqrt(survivors),
        merchants=survivors,
    )
