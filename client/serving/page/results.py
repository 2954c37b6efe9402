"""What came of the lists, by head, tail and new, as the page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass

from client.serving.feedback.online import Online, Where, measure_online
from client.serving.feedback.store import Store
from client.serving.messages import Bucket
from client.serving.page.reach import BUCKETS

DAYS = (7, 30, 90)  # spans that can be asked for; 0 is all time
_DAY = 86_400 * 10**6


@dataclass(frozen=True)
class Results:
    """Rates of a span of days, for all products and by part of the catalogue.

    Attributes:
        days: The span; 0 is all time.
        whole: Of all products.
        buckets: By part.
    """

    days: int
    whole: Online
    buckets: Mapping[Bucket, Online]


def measure_results(store: Store, now: int, days: int) -> Results:
    """Count impressions, clicks and conversions of the last `days` days; 0 is all time.

    Args:
        store: Of events.
        now: In microseconds since 1970 UTC.
        days: The span.

    Raises:
        StorageError: if the database cannot be read.
    """
    since = now - days * _DAY if days else None
    found = {name: measure_online(store.engine, Where(since, bucket=name)) for name in BUCKETS}
    return Results(days, measure_online(store.engine, Where(since)), found)
