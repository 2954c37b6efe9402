"""What came of the lists: click-through and conversion, with intervals.

One shown item of one list is one trial. Whatever was done with it (a click, a purchase, a
dismissal) says that it was seen, also where no impression was sent.
"""

from dataclasses import dataclass
from math import sqrt

from sqlalchemy import ColumnElement, Engine, Select, and_, exists, func, not_, select

from client.serving.feedback.database import told_plainly
from client.serving.feedback.tables import EVENTS

_Z = 1.959963984540054  # of 95%, two-sided


@dataclass(frozen=True)
class Rate:
    """A share of trials, and the 95% interval of Wilson (1927).

    Trials are taken as independent. Those of one shopper are not quite, so the truth may lie
    outside a little more often than once in twenty.
    """

    count: int
    rate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, count: int, trials: int) -> "Rate":
        """Return the rate of `count` in `trials`; no numbers without a trial."""
        if not trials:
            return cls(count, None, None, None)
        share, grown = count / trials, 1 + _Z**2 / trials
        middle = (share + _Z**2 / (2 * trials)) / grown
        half = _Z / grown * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
        return cls(count, share, max(middle - half, 0.0), min(middle + half, 1.0))


@dataclass(frozen=True)
class Online:
    """How many items were seen, and what came of it."""

    impressions: int
    clicks: Rate
    conversions: Rate


@dataclass(frozen=True)
class Where:
    """Which events count: times in microseconds since 1970 UTC, `until` excluded; None is all."""

    since: int | None = None
    until: int | None = None
    surface: str | None = None
    variant: str | None = None
    bucket: str | None = None


def measure_online(engine: Engine, where: Where) -> Online:
    """Count the items of lists that were seen, clicked and bought. A refunded purchase is none.

    Raises:
        StorageError: if the database cannot be read.
    """
    wanted: list[ColumnElement[bool]] = [EVENTS.c.recommendation_id.is_not(None)]
    if where.since is not None:
        wanted.append(EVENTS.c.time >= where.since)
    if where.until is not None:
        wanted.append(EVENTS.c.time < where.until)
    named = {name: getattr(where, name) for name in ("surface", "variant", "bucket")}
    wanted += [EVENTS.c[name] == value for name, value in named.items() if value is not None]
    with told_plainly(), engine.connect() as connection:
        seen, clicked, converted = (
            connection.execute(_pairs([*wanted, more])).scalar_one()
            for more in (EVENTS.c.type != "refund", EVENTS.c.type == "click", bought_for_good())
        )
    return Online(seen, Rate.of(clicked, seen), Rate.of(converted, seen))


def bought_for_good() -> ColumnElement[bool]:
    """Return whether an event is a purchase that was not refunded."""
    refund = EVENTS.alias("refund")
    refunded = exists().where(
        refund.c.type == "refund",
        refund.c.item_id == EVENTS.c.item_id,
        refund.c.order_id == EVENTS.c.order_id,
    )
    return and_(EVENTS.c.type == "purchase", not_(refunded))


def _pairs(wanted: list[ColumnElement[bool]]) -> Select[int]:
    """Count the distinct items of lists among the events that are wanted."""
    pairs = select(EVENTS.c.recommendation_id, EVENTS.c.item_id).where(*wanted).distinct()
    return select(func.count()).select_from(pairs.subquery())
