"""Experiments in the store, and what came of their lists, shopper by shopper and without an id."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Integer, and_, case, cast, func, insert, select, update

from client.serving.feedback.database import told_plainly, writing
from client.serving.feedback.online import bought_for_good
from client.serving.feedback.tables import EVENTS, EXPERIMENTS, RECOMMENDATIONS


class CountedShoppers(NamedTuple):
    """What came of the lists of one arm's shoppers: int64 [shoppers] each; who they are is not in.

    Attributes:
        seen: Items of lists that were seen.
        clicked: Of them, how many were clicked.
        bought: How many were bought and not given back.
        tail: How many were outside the head.
    """

    seen: NDArray[np.int64]
    clicked: NDArray[np.int64]
    bought: NDArray[np.int64]
    tail: NDArray[np.int64]


def all_experiments(engine: Engine) -> Sequence[Mapping[str, Any]]:
    """Return the rows of all experiments: the running one, then the latest first.

    Raises:
        StorageError: if the database cannot be read.
    """
    table = EXPERIMENTS.c
    query = select(EXPERIMENTS).order_by(
        table.stopped.is_not(None), table.started.desc(), table.stopped.desc(), table.name
    )
    with told_plainly(), engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def add_experiment(engine: Engine, name: str, design: str, started: int) -> None:
    """Add one that runs.

    Raises:
        StorageError: if the database refuses.
        RowExistsError: if there is one of that name.
    """
    with told_plainly(), writing(engine) as connection:
        values = {"name": name, "design": design, "started": started}
        connection.execute(insert(EXPERIMENTS).values(values))


def end_experiment(engine: Engine, name: str, **ended: Any) -> None:
    """Write how one ended: `stopped`, `winner`, `reason`, `result`.

    Raises:
        StorageError: if the database refuses.
    """
    with told_plainly(), writing(engine) as connection:
        mine = EXPERIMENTS.c.name == name
        connection.execute(update(EXPERIMENTS).where(mine).values(**ended))


def counted_shoppers(
    engine: Engine, name: str, window: int, until: int
) -> dict[str, CountedShoppers]:
    """Return what came of an experiment's lists by arm, of shoppers whose window is over.

    A shopper's window starts with their first list; lists and events count that are in it.

    Args:
        engine: Of the store.
        name: The experiment's.
        window: In microseconds.
        until: The time now.

    Raises:
        StorageError: if the database cannot be read.
    """
    listed, event = RECOMMENDATIONS, EVENTS
    mine = listed.c.experiment == name
    first = func.min(listed.c.time).label("first")
    over = (
        select(listed.c.shopper_id, first)
        .where(mine)
        .group_by(listed.c.shopper_id)
        .having(first + window <= until)
        .subquery()
    )
    pair = (
        select(
            listed.c.shopper_id,
            listed.c.variant,
            func.max(case((event.c.type == "click", 1), else_=0)).label("clicked"),
            func.max(case((bought_for_good(), 1), else_=0)).label("bought"),
            func.max(case((event.c.bucket != "head", 1), else_=0)).label("tail"),
        )
        .join(event, event.c.recommendation_id == listed.c.recommendation_id)
        .join(over, over.c.shopper_id == listed.c.shopper_id)
        .where(
            mine,
            event.c.type != "refund",
            and_(listed.c.time < over.c.first + window, event.c.time < over.c.first + window),
        )
        .group_by(listed.c.shopper_id, listed.c.variant, event.c.recommendation_id, event.c.item_id)
        .subquery()
    )
    sums = [
        cast(func.sum(pair.c[column]), Integer).label(column)
        for column in ("clicked", "bought", "tail")
    ]
    query = select(pair.c.variant, func.count().label("seen"), *sums).group_by(
        pair.c.shopper_id, pair.c.variant
    )
    with told_plainly(), engine.connect() as connection:
        rows = connection.execute(query).all()
    arms = sorted({row.variant for row in rows})
    return {arm: _counted([row[1:] for row in rows if row.variant == arm]) for arm in arms}


def _counted(rows: Sequence[Any]) -> CountedShoppers:
    table = np.array(rows, np.int64).reshape(-1, 4)
    return CountedShoppers(*table.T)
