"""A shop's items and events under the names that the rules use, the events' ids coded.

Events in CSV files of their own are read part by part: of each part only numbers are kept, and of
the ids each text once. So what an import needs of memory goes by the rows and not by the bytes.
"""

import contextlib
import zlib

import polars as pl

from client.importing.coded.ids import NotPackedError, new_spellings, packed, packing
from client.importing.columns import event_columns, item_columns
from client.importing.mapping import Mapping
from client.importing.parts.csv_parts import Watch
from client.importing.sources import ShopSource
from common.errors import InputError

_IDS = ("shopper_id", "item_id", "order_id")


def items_and_events(
    shop: ShopSource, mapping: Mapping, watch: Watch | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both tables as read, once if they are one and the same.

    Args:
        shop: Where they are.
        mapping: What they are called.
        watch: Told of the bytes of events that have been read, where there are parts.

    Raises:
        InputError: if a table cannot be read; the whole is read again to say where.
    """
    with contextlib.suppress(InputError, OSError, EOFError, zlib.error):
        for pack in (True, False):
            parts = shop.csv_parts(mapping, watch)
            if parts is None:
                break
            place, names = mapping.items_place, mapping.items.columns()
            items = item_columns(shop.table(mapping, "items", place, names), mapping.items)
            coding = _Coding(pack=pack)
            try:
                events = [coding.of(event_columns(one, mapping.events)) for one in parts]
            except NotPackedError:  # an order that is unlike those before
                continue
            return items, _joined(events)
    raw_items, raw_events = shop.items_and_events(mapping)
    items = item_columns(raw_items, mapping.items)
    return items, _Coding(pack=False).of(event_columns(raw_events, mapping.events))


class _Coding:
    """How the ids of all parts become numbers.

    Args:
        pack: Pack orders, if the first part's can be.
    """

    def __init__(self, *, pack: bool) -> None:
        self._pack = pack
        self._types = new_spellings(_IDS)
        self._beginning: str | None = None
        self._first = True

    def of(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return a part with numbers for ids.

        Raises:
            NotPackedError: if orders are packed, and one of them cannot be.
        """
        orders = events["order_id"] if self._pack and "order_id" in events.columns else None
        if orders is not None and self._first:
            with contextlib.suppress(NotPackedError):
                self._beginning = packing(orders)
        self._first = False
        if orders is not None and self._beginning is not None:
            events = events.with_columns(packed(orders, self._beginning).alias("order_id"))
        return events.with_columns(
            events[name].cast(self._types[name])
            for name in _IDS
            if name in events.columns and events.schema[name] == pl.String
        )


def _joined(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the parts as one; a part without a blank time has no column for them."""
    if any("no_time" in one.columns for one in parts):
        parts = [
            one if "no_time" in one.columns else one.with_columns(no_time=pl.lit(value=False))
            for one in parts
        ]
    return pl.concat([one.select(sorted(one.columns)) for one in parts])
