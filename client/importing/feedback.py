"""Purchases that came back as events of the shop's service, as interactions of the next import.

The service keeps them in a database whose view `feedback_interactions` says who bought what,
without what was refunded, and how much each kind of event counts. Ranking takes every interaction
as a whole purchase, so only those that count as one are read; a click stays a click.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from client.importing.databases import read_database
from client.importing.mapping import TableSource
from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from common.errors import InputError

EVENTS_FILE = Path("node") / "events.db"  # in the shop's folder: where `client serve` keeps them
WHOLE = 1.0  # the weight of a purchase
_SAME = 86_400 * 10**6  # a purchase within so many microseconds is the shop's own row of it
_COLUMNS = ("shopper_id", "item_id", "time", "order_id", "event_id", "weight")


class FedBack(NamedTuple):
    """One purchase that an event told of."""

    shopper_id: str
    item_id: str
    time: int
    order_id: str


def read_feedback(address: str) -> list[FedBack]:
    """Return the purchases in a service's store, in order of time.

    Raises:
        InputError: if the database cannot be read, or is no such store.
    """
    source = TableSource(query="SELECT * FROM feedback_interactions ORDER BY time, event_id")
    try:
        rows = read_database(address, source, _COLUMNS)
    except InputError as error:
        if error.field == "row":  # there is none yet
            return []
        raise
    return [
        FedBack(row["shopper_id"], row["item_id"], row["time"], row["order_id"] or row["event_id"])
        for row in rows.iter_rows(named=True)
        if row["weight"] >= WHOLE
    ]


def with_feedback(data: MerchantData, events: Sequence[FedBack]) -> MerchantData:
    """Return the shop with purchases that its own tables do not have yet.

    Left out are items that are not in the catalogue, and a purchase of an item that the same
    shopper bought by the tables, too, within a day of it. Data without a clock, or with several
    sellers, stays as it is: such an event has no place in it.
    """
    rows = data.interactions
    if not rows.timed or data.event_merchant is not None:
        return data
    shoppers = {name: place for place, name in enumerate(rows.shopper_ids)}
    own = sorted(zip(rows.shopper.tolist(), rows.item.tolist(), rows.time.tolist(), strict=True))
    bought: dict[tuple[int, int], list[int]] = {}
    for shopper, item, time in own:
        bought.setdefault((shopper, item), []).append(time)
    added: dict[tuple[int, str, int], int] = {}
    for one in events:
        if one.item_id not in data.catalogue:
            continue
        shopper = shoppers.setdefault(one.shopper_id, len(shoppers))
        item = data.catalogue.index_of(one.item_id)
        if all(abs(time - one.time) > _SAME for time in bought.get((shopper, item), ())):
            added.setdefault((shopper, one.order_id, item), one.time)
    if not added:
        return data
    return replace(data, interactions=_joined(data, shoppers, added))


def _joined(
    data: MerchantData, shoppers: dict[str, int], added: dict[tuple[int, str, int], int]
) -> Interactions:
    """Return the interactions with `added` (shopper, order, item: time), baskets numbered anew."""
    rows = data.interactions
    orders = {key[:2]: place for place, key in enumerate(sorted({one[:2] for one in added}))}
    starts: dict[tuple[int, str], int] = {}
    for (shopper, order, _), time in added.items():
        key = (shopper, order)
        starts[key] = min(time, starts.get(key, time))
    new = np.array(
        [
            (shopper, item, starts[shopper, order], orders[shopper, order])
            for shopper, order, item in added
        ],
        dtype=np.int64,
    )
    old = np.stack([rows.shopper, rows.item, rows.time, rows.basket]).T.astype(np.int64)
    first = len(orders)
    new[:, 3] -= first  # below 0: never the number of an old basket
    table = np.concatenate([old, new])
    value = np.concatenate([rows.value, np.ones(len(new), np.float32)])
    # A basket's place is that of its first row; an old one comes before a new one of its time.
    keys = table[:, [0, 3]]
    unique, place = np.unique(keys, axis=0, return_inverse=True)
    begins = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(begins, place, table[:, 2])
    order_of = np.lexsort((unique[:, 1], unique[:, 1] < 0, begins, unique[:, 0]))
    shopper_of = unique[order_of, 0]
    number = np.empty(len(unique), np.int64)
    number[order_of] = np.arange(len(unique)) - np.searchsorted(shopper_of, shopper_of)
    table[:, 3] = number[place]
    again = np.lexsort((table[:, 1], table[:, 2], table[:, 0]))
    table = table[again]
    return replace(
        rows,
        shopper_ids=tuple(shoppers),
        shopper=table[:, 0].astype(np.int32),
        item=table[:, 1].astype(np.int32),
        time=table[:, 2],
        basket=table[:, 3].astype(np.int32),
        value=value[again].astype(np.float32),
    )
