"""A shop of three items and two shoppers as raw files, and how it is read."""

import sqlite3

import numpy as np
import polars as pl

from client.importing.mapping import Mapping, parse_mapping

ITEMS = "sku,name,brand\nt1,Green tea,Leaf\nt2,Black tea,Leaf\nc1,Tea cup,Clay\n"
EVENTS = (
    "customer,sku,when,order,qty,price\n"
    "ann,t1,2024-01-05 10:00:00,o1,1,4.5\n"
    "ann,c1,2024-01-05 10:00:00,o1,2,9\n"
    "ann,t2,2024-02-01 09:30:00,o2,1,4\n"
    "bob,c1,2024-03-01 12:00:00,o3,1,9\n"
)
MAPPING = """
[items]
file = "items.csv"
item_id = "sku"
title = "name"
merchant = "brand"
[events]
file = "events.csv"
shopper_id = "customer"
item_id = "sku"
time = "when"
order_id = "order"
quantity = "qty"
price = "price"
"""


def tea_shop(folder, *, items=ITEMS, events=EVENTS):
    (folder / "items.csv").write_bytes(items if isinstance(items, bytes) else items.encode())
    (folder / "events.csv").write_bytes(events if isinstance(events, bytes) else events.encode())
    return folder


def tea_mapping(*, change=(), add="") -> Mapping:
    text = MAPPING
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    return parse_mapping(text + add, "tea.toml")


def assert_same(one, other):
    assert one.catalogue.items == other.catalogue.items
    assert one.interactions.shopper_ids == other.interactions.shopper_ids
    for name in ("shopper", "item", "time", "basket", "value"):
        assert np.array_equal(getattr(one.interactions, name), getattr(other.interactions, name))


def tea_database(folder):
    path = folder / "shop.db"
    with sqlite3.connect(path) as connection:
        for name in ("items", "events"):
            frame = pl.read_csv(folder / f"{name}.csv")
            columns = ", ".join(f'"{column}"' for column in frame.columns)
            marks = ", ".join("?" * frame.width)
            connection.execute(f'CREATE TABLE "{name}" ({columns})')
            connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', frame.rows())  # noqa: S608 - our own names
    connection.close()
    return f"sqlite:///{path}"
