"""Which items sell more lately than they used to: a shop's own clock, read from its own sales.

Shops change with the season, and a model of all past purchases does not. The trend of item j is

    log( (recent_j + strength * share) / (sales_j + strength) / share )

where a sale counts in `recent` as a half for each HALF_LIFE of its age and share is
sum(recent) / sum(sales). It is 0 for an item that moves with the shop or has never sold, above 0
for one on the rise, and shrunk towards 0 where sales are few. It never leaves the node.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.shop.interactions import Interactions

HALF_LIFE_DAYS = 15.0
STRENGTH = 3.0  # sales that an item is given at the shop's own share before any evidence

_DAY = 86_400 * 10**6  # microseconds


class SalesTrend(NamedTuple):
    """What a shop's own sales say of each item of late: float32 [items] each.

    Attributes:
        trend: As above.
        recent: recent / share, so that `STRENGTH` can be added to it.
    """

    trend: NDArray[np.float32]
    recent: NDArray[np.float32]

    def shifted_by(self, prior: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a prior mean of each item's trend, float32 [items], adds to its trend.

        The sales that an item is given before any evidence are then at exp(prior) times the shop's
        share: all of it for an item that never sold, little for one that sells much.
        """
        strength = np.float32(STRENGTH)
        shifted = np.log((self.recent + strength * np.exp(prior)) / (self.recent + strength))
        return np.asarray(shifted, dtype=np.float32)


def sales_trend(interactions: Interactions) -> SalesTrend:
    """Return the trend of each item at the time of the last sale.

    All 0 where the data has an order and no clock, or nothing sold.
    """
    items = interactions.item_count
    if not interactions.timed or not len(interactions):
        return SalesTrend(np.zeros(items, np.float32), np.zeros(items, np.float32))
    age = (interactions.time.max() - interactions.time) / (_DAY * HALF_LIFE_DAYS)
    recent = np.bincount(interactions.item, weights=np.exp2(-age), minlength=items)
    sales = np.bincount(interactions.item, minlength=items)
    share = recent.sum() / sales.sum()
    trend = np.log((recent + STRENGTH * share) / (sales + STRENGTH) / share)
    return SalesTrend(trend.astype(np.float32), (recent / share).astype(np.float32))
