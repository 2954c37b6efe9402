"""A shop's part in the popularity of items: every shopper's row, clipped and added up."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from client.shop.interactions import Interactions
from common.errors import FederationError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum


def purchases_histogram(
    interactions: Interactions,
    plan: PrivacyPlan,
    places: NDArray[np.int64] | None = None,
    width: int = 0,
) -> ClippedSum:
    """Return how much each item is bought: a shopper with n items adds 1/sqrt(n) to each.

    Args:
        interactions: The shop's purchases.
        plan: The run's.
        places: int64 [items]: where each item is counted; None where each has its own place.
        width: How many places there are then.

    Formal guarantee:
        A shopper's row has L2 norm at most 1, `plan.clip_norm("popularity")`: items that share a
        place are added up in its row before it is clipped.
    """
    bought = interactions.matrix()
    items = np.maximum(np.diff(bought.indptr), 1)
    rows = csr_matrix(diags(1 / np.sqrt(items)) @ bought)
    if places is not None:
        each = (np.ones(len(places)), (np.arange(len(places)), places))
        rows = csr_matrix(rows @ csr_matrix(each, shape=(len(places), width)))
    return clip_and_sum(rows, plan.clip_norm("popularity"))


def places_in(index: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where each of this node's text keys lies in the run's index [k]: int64 [items].

    Raises:
        FederationError: `index` if one is not there.
    """
    places = np.searchsorted(index, keys).clip(max=len(index) - 1)
    if not (index[places] == keys).all():
        raise FederationError("The histogram leaves out an item of this node.", field="index")
    return places.astype(np.int64)
