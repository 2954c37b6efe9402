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


def decoded(total: SecureSum, plan: PrivacyPlan, kind: EventKind) -> FloatVector:
    """Return a sum over its survivors as numbers: float64 [k].

    Raises:
        FederationError: `update_norm`, `update_coordinate` or those of `popularity` or `season` if
            it is beyond what honest parties give but with a chance of 1e-9.
    """
    vector = share_form(plan, kind, total.vector.size).form.decode(total.vector)
    name = "update" if kind == "train" else kind
    honest_sum_bounds(plan, kind, vector.size, len(total.survivors)).check(vector, name)
    return vector


def mean_gradient(total: SecureSum, plan: PrivacyPlan, framing: Framing) -> FloatVector:
    """Return the mean of the survivors' updates: float64 [d].

    Raises:
        FederationError: as `decoded`.
    """
    vector = decoded(total, plan, "train")
    return framing.frame(vector / (plan.divisor * len(total.survivors)))


def summed_popularity(total: SecureSum, plan: PrivacyPlan, index: NDArray[np.uint64]) -> Popularity:
    """Return the popularity of the items with these text keys, ascending: uint64 [k].

    Raises:
        FederationError: as `decoded`.
    """
    counts = decoded(total, plan, "popularity")
    spread = plan.noise_std("popularity") * math.sqrt(len(total.survivors))
    return popularity_of(index, counts, spread)


def summed_season(total: SecureSum, plan: PrivacyPlan, ends: tuple[int, ...]) -> Season:
    """Return the season of the survivors' shoppers.

    Raises:
        FederationError: as `decoded`.
    """
    vector, survivors = decoded(total, plan, "season"), len(total.survivors)
    return Season(
        vectors=vector.reshape(len(ends), -1).astype(np.float32),
        ends=ends,
        noise_std=plan.noise_std("season") * math.sqrt(survivors),
        merchants=survivors,
    )
