"""Which products the served lists reached: counts by product, and no shopper among them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, select

from client.serving.feedback.database import told_plainly
from client.serving.feedback.tables import RECOMMENDATIONS

MOST_LISTS = 5000  # the latest: enough to say what today's lists reach, and read at once


@dataclass(frozen=True)
class ServedItems:
    """How often each product stood in the latest lists.

    Attributes:
        lists: How many lists were looked at.
        since: When the first of them was served, in microseconds since 1970 UTC; 0 without one.
        counts: By item id.
    """

    lists: int
    since: int
    counts: Mapping[str, int]


def count_served(engine: Engine, model_digest: str, most: int = MOST_LISTS) -> ServedItems:
    """Count the products of the latest lists that a model served.

    Raises:
        StorageError: if the database cannot be read.
    """
    query = (
        select(RECOMMENDATIONS.c.time, RECOMMENDATIONS.c["items"])
        .where(RECOMMENDATIONS.c.model_digest == model_digest)
        .order_by(RECOMMENDATIONS.c.time.desc())
        .limit(most)
    )
    counts: Counter[str] = Counter()
    lists, since = 0, 0
    with told_plainly(), engine.connect() as connection:
        for time, items in connection.execute(query):
            counts.update(one["item_id"] for one in json.loads(items))
            lists, since = lists + 1, time
    return ServedItems(lists, since, counts)
