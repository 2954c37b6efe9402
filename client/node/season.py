"""A shop's part in the federation's season: every shopper's row, clipped and added up."""

import numpy as np
from numpy.typing import NDArray

from client.ranking.season import SeasonWindows, season_rows
from client.shop.interactions import Interactions
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum

_BLOCK_SHOPPERS = 2**15  # whose rows are in memory at a time


def season_sum(
    interactions: Interactions,
    vectors: NDArray[np.float32],
    ends: tuple[int, ...],
    plan: PrivacyPlan,
) -> ClippedSum:
    """Return the sum of the shoppers' rows, each clipped over all ends together: [ends * d].

    Purchases that have an order and no clock add nothing: the sum is 0. It is noised and sent like
    any other, so that nobody is told whether a shop's purchases carry times.

    Args:
        interactions: The shop's purchases.
        vectors: float32 [items, d], the frozen item vectors; public.
        ends: The moments, from the run's settings.
        plan: The run's.

    Formal guarantee:
        A row is of one shopper and of L2 norm at most 1, `plan.clip_norm("season")`, and the sum is
        exact: a shopper more or less moves it by that row alone, whatever the blocks are.
    """
    bound = plan.clip_norm("season")
    total = clip_and_sum(np.zeros((0, len(ends) * vectors.shape[1])), bound)
    if not interactions.timed:
        return total
    windows = SeasonWindows(ends)
    for start in range(0, interactions.shopper_count, _BLOCK_SHOPPERS):
        last = min(start + _BLOCK_SHOPPERS, interactions.shopper_count)
        block = interactions
        if last - start < interactions.shopper_count:
            block = interactions.only_shoppers(np.arange(start, last))
        total = total + clip_and_sum(season_rows(block, vectors, windows), bound)
    return total
