"""A made-up shop of any size: python -m simulations.benchmarks.made_shop ROWS FOLDER."""

import sys
from pathlib import Path

import numpy as np
import polars as pl

START = 1_700_000_000  # seconds since 1970, of the first purchase
TWICE = 0.01  # of the lines
_CHUNK = 1_000_000
_WORDS = ("Oak", "Steel", "Blue", "Garden", "Kitchen", "Travel", "Wool", "Paper", "Glass", "Cotton")


def make_shop(rows: int, folder: Path) -> None:
    """Write items.csv and events.csv: one shopper for 20 rows, some popular items, 1% twice.

    Ids are of eight characters as shops have them, times go by the second, and an order has one
    line or a few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    items = max(rows // 200, 1000)
    named = pl.DataFrame({"item": np.arange(items)}).select(
        _id("P", pl.col("item")).alias("item_id"),
        pl.format(
            "{} {} {}", _word(pl.col("item")), _word(pl.col("item") // 10), pl.col("item")
        ).alias("title"),
        _word(pl.col("item") // 100).alias("category"),
    )
    named.write_csv(folder / "items.csv")
    with (folder / "events.csv").open("wb") as file:
        for first in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - first)
            events = _events(random, first, count, max(rows // 20, 10), items)
            events.write_csv(file, include_header=first == 0)


def _events(
    random: np.random.Generator, first: int, count: int, shoppers: int, items: int
) -> pl.DataFrame:
    order = first + np.sort(random.integers(0, count, count))  # lines of an order lie together
    frame = pl.DataFrame(
        {
            "order": order,
            "shopper": (order * 2_654_435_761) % shoppers,
            "item": (items * random.random(count) ** 3).astype(np.int64),
            "time": START + 7 * order,
            "quantity": random.geometric(0.6, count),
            "price": np.round(random.gamma(2.0, 8.0, count) + 0.5, 2),
        }
    )
    lines = frame.select(
        _id("C", pl.col("shopper")).alias("customer_id"),
        _id("P", pl.col("item")).alias("item_id"),
        _id("O", pl.col("order")).alias("order_id"),
        pl.from_epoch("time").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time"),
        "quantity",
        "price",
    )
    again = np.arange(count)
    twice = random.random(count) < TWICE
    again[1:][twice[1:]] -= 1  # equal to the line before
    return lines[again]


def _id(letter: str, number: pl.Expr) -> pl.Expr:
    return letter + number.cast(pl.String).str.zfill(8)


def _word(number: pl.Expr) -> pl.Expr:
    return (number % len(_WORDS)).replace_strict(dict(enumerate(_WORDS)), return_dtype=pl.String)


if __name__ == "__main__":
    make_shop(int(sys.argv[1]), Path(sys.argv[2]))
