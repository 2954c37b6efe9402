"""From the merchants' noised season vectors to one: one body for the server and the auditor."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError
from common.federation.aggregation import Aggregator, sum_updates
from common.season import Season


def sum_seasons(
    vectors: Mapping[str, NDArray[np.float32]],
    ends: Sequence[int],
    noise_std: float,
    aggregate: Aggregator,
) -> Season:
    """Return the season of all merchants: their sum, or a robust rule's mean times their number.

    It is post-processing of what the nodes have noised, so it costs no privacy. Sums run in float64
    in order of the merchants' names, so whoever has the vectors comes to the same bits.

    Args:
        vectors: By merchant, float32 [ends * d] as each sent it.
        ends: The moments, microseconds since 1970 UTC.
        noise_std: Of the noise in each number of one merchant's vector.
        aggregate: The run's rule.

    Raises:
        FederationError: if there is no vector, two differ in length, or the ends do not divide it.
    """
    plain = aggregate.rule == "mean"
    total = sum_updates(vectors) if plain else aggregate(vectors) * len(vectors)
    if not ends or total.size % len(ends):
        raise FederationError("A season vector has not as many numbers an end.", field="season")
    return Season(
        vectors=total.reshape(len(ends), -1).astype(np.float32),
        ends=tuple(ends),
        noise_std=noise_std * math.sqrt(len(vectors)),
        merchants=len(vectors),
    )
