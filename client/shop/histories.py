"""Shoppers' histories in order of time, and their weighted means of item vectors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.interactions import Interactions

MAX_HISTORY = 100  # items of a history that ranking looks at


@dataclass(frozen=True, eq=False)
class Histories:
    """What some shoppers bought, end to end.

    Attributes:
        item: int64 [n], in order of time within a shopper, distinct, the latest MAX_HISTORY.
        age: float64 [n], baskets since the purchase; 0 is the latest.
        starts: int64 [shoppers + 1].
        item_count: Items in the catalogue.
    """

    item: NDArray[np.int64]
    age: NDArray[np.float64]
    starts: NDArray[np.int64]
    item_count: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: slice) -> "Histories":
        """Return the histories of some shoppers in a row."""
        starts = self.starts[rows.start : min(rows.stop, len(self)) + 1]
        part = slice(starts[0], starts[-1])
        return Histories(self.item[part], self.age[part], starts - starts[0], self.item_count)

    def only(self, rows: NDArray[np.integer]) -> "Histories":
        """Return the histories at `rows`, in that order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        place = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Histories(self.item[place], self.age[place], starts, self.item_count)

    def weights(self, decay: float) -> csr_matrix:
        """Return weights that sum to 1 over each shopper: float32 CSR [shoppers, items]."""
        weight = np.power(decay, self.age)
        shopper = np.repeat(np.arange(len(self)), np.diff(self.starts))
        weight /= np.bincount(shopper, weights=weight, minlength=len(self))[shopper]
        data = (weight.astype(np.float32), self.item, self.starts)
        return csr_matrix(data, shape=(len(self), self.item_count))

    def bought(self) -> csr_matrix:
        """Return float32 ones, CSR [shoppers, items]."""
        data = (np.ones(len(self.item), np.float32), self.item, self.starts)
        return csr_matrix(data, shape=(len(self), self.item_count))


def histories(interactions: Interactions, shoppers: NDArray[np.integer]) -> Histories:
    """Return the histories of `shoppers`, in that order."""
    wanted = np.asarray(shoppers, interactions.shopper.dtype)  # else the column would be copied
    starts = np.searchsorted(interactions.shopper, wanted, side="left")
    ends = np.searchsorted(interactions.shopper, wanted, side="right")
    items: list[NDArray[np.int64]] = []
    ages: list[NDArray[np.float64]] = []
    for rows in map(slice, starts, ends):
        item, age = latest(interactions.item[rows], interactions.basket[rows])
        items.append(item)
        ages.append(age)
    edges = np.cumsum([0, *(len(item) for item in items)]).astype(np.int64)
    joined_items = np.concatenate([np.empty(0, np.int64), *items])
    return Histories(
        joined_items, np.concatenate([np.empty(0), *ages]), edges, interactions.item_count
    )


def typed_history(items: list[int], item_count: int) -> Histories:
    """Return one history of items typed in by a person, the latest last."""
    item, age = latest(np.array(items, np.int64), np.arange(len(items)))
    return Histories(item, age, np.array([0, len(item)], np.int64), item_count)


def latest(
    items: NDArray[np.integer], baskets: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return distinct items at their latest purchase, oldest first, and each one's age."""
    if not len(items):
        return np.empty(0, np.int64), np.empty(0)
    steps, place = np.unique(baskets, return_inverse=True)
    age = (len(steps) - 1 - place).astype(np.float64)
    kept, _ = pooled_history(items, age, 1.0, MAX_HISTORY)
    ages = dict(zip(items.tolist(), age.tolist(), strict=True))  # the last one wins: the latest
    oldest_first = kept[::-1]
    return oldest_first, np.array([ages[item] for item in oldest_first.tolist()])


def pooled_history(
    items: NDArray[np.integer], age: NDArray[np.floating], decay: float, max_history: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a history's distinct items and their weights.

    An item counts once, at its latest purchase; the `max_history` latest stay.

    Args:
        items: [n], in order of time.
        age: [n], baskets since the purchase; 0 is the latest.
        decay: The weight of a basket one older, in (0, 1].
        max_history: At least 1.

    Returns:
        Items, latest first, and weights that sum to 1.
    """
    latest_first = items[::-1]
    _, first = np.unique(latest_first, return_index=True)
    kept = np.sort(first)[:max_history]
    weight = np.power(decay, age[::-1][kept].astype(np.float64))
    return latest_first[kept].astype(np.int64), weight / weight.sum()
