"""Items that came after the import: rankable as soon as their text is known.

An item's vector comes from its text and the release alone, so an item that nobody bought yet, and
that no training has seen, is ranked like any other.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.importing.files import ROW, column_names, read_files, style_of
from client.importing.mapping import TableSource
from client.shop.dataset import MerchantData
from common.catalogue import Catalogue, Item
from common.errors import InputError

_NEEDED = ("item_id", "title")
_OPTIONAL = ("text", "category")


def read_new_items(path: Path) -> list[Item]:
    """Return the items of a table with the columns item_id and title.

    Columns text and category are read where they are. Without a text the title is what the encoder
    reads.

    Raises:
        InputError: if the table cannot be read, lacks a column, or an id or title is empty.
    """
    there = column_names(path, style_of(path, TableSource(), "utf-8"))
    columns = [*_NEEDED, *(name for name in _OPTIONAL if name in there)]
    rows = read_files([path], TableSource(), columns, "utf-8").select(*columns, ROW)
    items = []
    for row in rows.iter_rows(named=True):
        cell = {name: " ".join(str(row[name] or "").split()) for name in columns}
        for name in _NEEDED:
            if not cell[name]:
                raise InputError(
                    f"{path.name}: {name} in row {row[ROW]} is empty; each new item needs one.",
                    field=name,
                )
        text = cell.get("text") or cell["title"]
        items.append(Item(cell["item_id"], cell["title"], text, cell.get("category", "")))
    return items


def with_new_items(data: MerchantData, items: Sequence[Item]) -> MerchantData:
    """Return the shop with `items` in its catalogue, sorted by id as before; nobody bought them.

    Raises:
        InputError: if an id is in the catalogue already, or twice among the new ones.
    """
    known = next((item.item_id for item in items if item.item_id in data.catalogue), None)
    if known is not None:
        raise InputError(
            f"The catalogue has item_id {known!r} already; only new items can be added.",
            field="item_id",
        )
    joined = [*data.catalogue.items, *items]
    order = sorted(range(len(joined)), key=lambda place: joined[place].item_id)
    place = np.empty(len(joined), dtype=np.int32)
    place[order] = np.arange(len(joined), dtype=np.int32)
    rows = data.interactions
    item = place[rows.item]
    # A catalogue that was not sorted by id is now, and the rows of one basket follow it.
    again = np.lexsort((item, rows.time, rows.shopper))
    moved = replace(
        rows,
        item_count=len(joined),
        shopper=rows.shopper[again],
        item=item[again],
        time=rows.time[again],
        basket=rows.basket[again],
        value=rows.value[again],
    )
    return replace(
        data,
        catalogue=Catalogue(tuple(joined[place] for place in order)),
        interactions=moved,
        event_merchant=None if data.event_merchant is None else data.event_merchant[again],
    )
