"""Which items sell more lately than they used to: a shop's own clock, read from its own sales.

Shops change with the season, and a model of all past purchases does not. The trend of item j is

    log( (recent_j + strength * share) / (sales_j + strength) / share )

where a sale counts in `recent` as a half for each HALF_LIFE of its age and share is
sum(recent) / sum(sales). It is 0 for an item that moves with the shop or has never sold, above 0
for one on the rise, and shrunk towards 0 where sales are few. It never leaves the node.
"""

import numpy as np
from numpy.typing import NDArray

from client.shop.interactions import Interactions

HALF_LIFE_DAYS = 15.0
STRENGTH = 3.0  # sales that an item is given at the shop's own share before any evidence

_DAY = 86_400 * 10**6  # microseconds


def sales_trend(interactions: Interactions) -> NDArray[np.float32]:
    """Return the trend of each item at the time of the last sale: float32 [items].

    All 0 where the data has an order and no clock, or nothing sold.
    """
    items = interactions.item_count
    if not interactions.timed or not len(interactions):
        return np.zeros(items, np.float32)
    age = (interactions.time.max() - interactions.time) / (_DAY * HALF_LIFE_DAYS)
    recent = np.bincount(interactions.item, weights=np.exp2(-age), minlength=items)
    sales = np.bincount(interactions.item, minlength=items)
    share = recent.sum() / sales.sum()
    trend = np.log((recent + STRENGTH * share) / (sales + STRENGTH) / share)
    return np.asarray(trend, dtype=np.float32)
