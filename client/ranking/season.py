"""What sells of late against what sold before, as one vector in text space.

A purchase of age a days before a public moment counts

    k(a) = 2^(-a / HALF_LIFE_DAYS) / m(HALF_LIFE_DAYS) - 2^(-a / BEFORE_DAYS) / m(BEFORE_DAYS)

where m(h) = h / ln 2 is what an exponential of half-life h adds up to. Sales that flow evenly give
0, whatever is sold: so no mean over shoppers has to be known, and a shopper's row is a sum over its
own purchases alone. The sum of all rows points to what sells more than it used to. Its product with
an item's text is a trend for any item, also one that never sold and one of another catalogue.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.validation import FloatMatrix
from client.shop.interactions import Interactions
from common.errors import InputError

HALF_LIFE_DAYS = 15.0
BEFORE_DAYS = 180.0

_DAY = 86_400 * 10**6  # microseconds


@dataclass(frozen=True)
class SeasonWindows:
    """The moments at which the season is asked for. Public: they come from the plan's settings.

    Attributes:
        ends: Microseconds since 1970 UTC, at least one; a purchase at or after an end is not in it.
    """

    ends: tuple[int, ...]


def season_rows(
    interactions: Interactions, vectors: FloatMatrix, windows: SeasonWindows
) -> FloatMatrix:
    """Return each shopper's part in the season: float32 [shoppers, ends * d], not yet clipped.

    Args:
        interactions: The shop's purchases, with a clock.
        vectors: float32 [items, d], the frozen item vectors. Their mean over the catalogue, which
            is public, is taken off: a season is what differs within a shop's own goods.
        windows: The moments.

    Raises:
        InputError: if the purchases have an order and no clock, or the vectors are of another
            catalogue.

    Formal guarantee:
        A row depends on that shopper's purchases, on public vectors and on public moments alone.
    """
    if not interactions.timed:
        raise InputError("A season needs purchases with a clock.", field="time")
    if len(vectors) != interactions.item_count:
        raise InputError(
            f"{len(vectors)} vectors for {interactions.item_count} items.", field="vectors"
        )
    centred = vectors - vectors.mean(axis=0, keepdims=True)
    shape = (interactions.shopper_count, interactions.item_count)
    rows = []
    for end in windows.ends:
        age = (end - interactions.time) / _DAY
        counts = np.where(age > 0, kernel(np.maximum(age, 0.0)), 0.0)
        bought = csr_matrix((counts, (interactions.shopper, interactions.item)), shape=shape)
        rows.append(np.asarray(bought @ centred, dtype=np.float32))
    return np.hstack(rows)


def kernel(age: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a purchase of an age in days, at least 0, counts; its integral is 0."""
    recent = np.exp2(-age / HALF_LIFE_DAYS) / HALF_LIFE_DAYS
    before = np.exp2(-age / BEFORE_DAYS) / BEFORE_DAYS
    return np.asarray((recent - before) * np.log(2))
