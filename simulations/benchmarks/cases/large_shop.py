"""A shop of 200,000 items and 1,000,000 shoppers from its tables to a list: memory of each step.

The shop is made up: titles of a kind and a style, shoppers who like two kinds each, sales as
unequal as in real shops. It says what import, fit and lists cost, and nothing of how good the
lists are. Encoding the titles takes most of an hour.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.benchmarks.children import python_spent
from simulations.benchmarks.rows import Row
from simulations.data.titles import COLOURS, FAMILIES, MATERIALS, STYLE_WORDS

LONG = True
ITEMS, SHOPPERS = 200_000, 1_000_000
LIMIT = 8000.0  # MB, of each command
PURCHASES = 10  # of a shopper, on average
KINDS = 2  # that a shopper likes
LIKED = 0.8  # of purchases that are of them
ZIPF = 0.8
DAYS = 365
OPENING = np.datetime64("2024-01-01T00:00:00", "us")
_ROWS = 100_000  # written at a time


def rows() -> Iterator[Row]:
    """Yield what the largest shop costs."""
    with tempfile.TemporaryDirectory() as folder:
        yield from shop_rows(Path(folder), ITEMS, SHOPPERS)


def shop_rows(folder: Path, items: int, shoppers: int) -> Iterator[Row]:
    """Yield what import, fit and a list of a shop cost, each a process of its own.

    Args:
        folder: For all that is written: some gigabytes.
        items: Of the catalogue.
        shoppers: Of the shop.
    """
    write_large_shop(folder / "raw", items, shoppers)
    run, shop = folder / "run", folder / "shop"
    python_spent(
        "fedtail", "simulate", "--marketplace", "--fast", "--quiet", "--merchants", "2",
        "--rounds", "1", "--out", str(run),
    )  # fmt: skip
    signed = ("--release", f"{run / 'release'}", "--key", f"{run / 'operator.pub'}")
    commands: dict[str, Sequence[str]] = {
        "import": ("--source", str(folder / "raw"), "--out", str(shop)),
        "fit": (*signed, "--shop", str(shop)),
        "recommend": (*signed, "--shop", str(shop), "--shopper", "7", "--explain"),
    }
    for name, words in commands.items():
        cost = python_spent("fedtail", "client", name, *words)
        what = f"{name}, {items:,} items, {shoppers:,} shoppers"
        yield Row(what=f"{what}: memory", figure=cost.megabytes, unit="MB", target=LIMIT)
        yield Row(what=f"{what}: processor", figure=cost.seconds, unit="s")


def write_large_shop(folder: Path, items: int, shoppers: int, seed: int = 0) -> None:
    """Write `items.csv` and `events.csv` of a made-up shop; the same seed gives the same rows."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    family = random.integers(len(FAMILIES), size=items)
    with (folder / "items.csv").open("w", encoding="utf-8") as file:
        file.write("item_id,title,category\n")
        file.writelines(_items(family, random))
    with (folder / "events.csv").open("w", encoding="utf-8") as file:
        file.write("shopper_id,item_id,time\n")
        file.writelines(_events(family, shoppers, random))


def _items(family: NDArray[np.int64], random: np.random.Generator) -> Iterator[str]:
    def words(of: Sequence[str]) -> NDArray[np.str_]:
        return np.array(of)[random.integers(len(of), size=len(family))]

    parts = (words(STYLE_WORDS), words(COLOURS), words(MATERIALS), np.array(FAMILIES)[family])
    for number, (style, colour, material, kind) in enumerate(zip(*parts, strict=True)):
        yield f"{number:07},{style} {colour} {material} {kind} {number % 1000},{kind}\n"


def _events(family: NDArray[np.int64], shoppers: int, random: np.random.Generator) -> Iterator[str]:
    counts = random.poisson(PURCHASES - 2, shoppers) + 2
    shopper = np.repeat(np.arange(shoppers), counts)
    liked = random.integers(len(FAMILIES), size=(shoppers, KINDS))
    kind = liked[shopper, random.integers(KINDS, size=len(shopper))]
    item = _drawn(family, np.where(random.random(len(shopper)) < LIKED, kind, -1), random)
    time = OPENING + random.integers(DAYS * 86_400, size=len(shopper)).astype("m8[s]")
    for some in np.array_split(np.arange(len(shopper)), max(len(shopper) // _ROWS, 1)):
        texts = np.datetime_as_string(time[some], unit="s")
        columns = (shopper[some].tolist(), item[some].tolist(), texts.tolist())
        for who, what, when in zip(*columns, strict=True):
            yield f"{who},{what:07},{when}\n"


def _drawn(
    family: NDArray[np.int64], kind: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return an item of each kind [n], of any where it is -1; some sell much more than others."""
    pull = 1.0 / np.arange(1, len(family) + 1) ** ZIPF
    random.shuffle(pull)
    order = np.argsort(family, kind="stable")
    above = np.concatenate([[0.0], np.cumsum(pull[order])])
    edges = above[np.searchsorted(family[order], np.arange(len(FAMILIES) + 1))]
    low = np.where(kind < 0, 0.0, edges[kind])
    high = np.where(kind < 0, above[-1], edges[kind + 1])
    place = np.searchsorted(above, low + random.random(len(kind)) * (high - low), side="right") - 1
    return np.asarray(order[np.minimum(place, len(order) - 1)])
