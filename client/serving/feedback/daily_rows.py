"""What each day's lists were like, added up once the day is over. No row holds an id."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, and_, case, func, insert, select

from client.serving.feedback.database import told_plainly, writing
from client.serving.feedback.online import bought_for_good
from client.serving.feedback.tables import DAILY_FIGURES, EVENTS, RECOMMENDATIONS

DAY = 86_400 * 10**6  # in microseconds
_AT_ONCE = 1000  # rows in memory


@dataclass(frozen=True)
class DailyFigures:
    """One day's sums; see the table."""

    day: int
    lists: int
    listed: int
    tail_listed: int
    different: int
    rankable: int
    seen: int
    clicked: int
    bought: int


def daily_figures(engine: Engine) -> list[DailyFigures]:
    """Return the figures of all days that are over, in order.

    Raises:
        StorageError: if the database cannot be read.
    """
    query = select(DAILY_FIGURES).order_by(DAILY_FIGURES.c.day)
    with told_plainly(), engine.connect() as connection:
        return [DailyFigures(**row) for row in connection.execute(query).mappings()]


def close_days(engine: Engine, until: int, rankable: int) -> Sequence[DailyFigures]:
    """Add up the days that ended before `until` and have no figures yet; return them.

    Args:
        engine: Of the store.
        until: In microseconds since 1970 UTC.
        rankable: How many items can be listed.

    Raises:
        StorageError: if the database cannot be used.
    """
    with told_plainly(), engine.connect() as connection:
        last = connection.execute(select(func.max(DAILY_FIGURES.c.day))).scalar()
        oldest = connection.execute(select(func.min(RECOMMENDATIONS.c.time))).scalar()
        if oldest is None:
            return []
        first = oldest // DAY if last is None else last + 1
        found = [_figures(connection, day, rankable) for day in range(first, until // DAY)]
    if found:
        with told_plainly(), writing(engine) as connection:
            connection.execute(insert(DAILY_FIGURES), [asdict(one) for one in found])
    return found


def _figures(connection: Connection, day: int, rankable: int) -> DailyFigures:
    start, end = day * DAY, (day + 1) * DAY
    time, event = RECOMMENDATIONS.c.time, EVENTS.c
    lists = items = tail = 0
    names: set[str] = set()
    query = select(RECOMMENDATIONS.c["items"]).where(time >= start, time < end)
    for (text,) in connection.execution_options(yield_per=_AT_ONCE).execute(query):
        found = json.loads(text)
        lists += 1
        items += len(found)
        tail += sum(one["bucket"] != "head" for one in found)
        names.update(one["item_id"] for one in found)
    pair = (
        select(
            func.max(case((event.type == "click", 1), else_=0)).label("clicked"),
            func.max(case((bought_for_good(), 1), else_=0)).label("bought"),
        )
        .where(
            and_(event.time >= start, event.time < end),
            event.recommendation_id.is_not(None),
            event.type != "refund",
        )
        .group_by(event.recommendation_id, event.item_id)
        .subquery()
    )
    sums = select(func.count(), func.sum(pair.c.clicked), func.sum(pair.c.bought))
    seen, clicked, bought = connection.execute(sums.select_from(pair)).one()
    return DailyFigures(
        day, lists, items, tail, len(names), rankable, seen, int(clicked or 0), int(bought or 0)
    )
