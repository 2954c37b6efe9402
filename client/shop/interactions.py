"""Clean purchases of one merchant: what cleaning makes and everything after it reads."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.errors import InputError


@dataclass(frozen=True, eq=False)
class Interactions:
    """Purchases sorted by shopper, then time, then item; one row per shopper, basket and item.

    Attributes:
        shopper_ids: The merchant's own names for its shoppers. They never leave the node.
        item_count: Items in the catalogue that `item` points into.
        shopper: int32 [n], index into `shopper_ids`.
        item: int32 [n], index into the catalogue.
        time: int64 [n], microseconds since 1970 UTC, or the position in the shopper's sequence.
        basket: int32 [n], numbers the baskets of each shopper from 0 in order of time.
        value: float32 [n], a rating or label where the data has one, else 1.
        timed: Whether `time` is a clock time.
    """

    shopper_ids: tuple[str, ...]
    item_count: int
    shopper: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    basket: NDArray[np.int32]
    value: NDArray[np.float32]
    timed: bool

    def __post_init__(self) -> None:
        columns = (self.shopper, self.item, self.time, self.basket, self.value)
        if len({len(column) for column in columns}) != 1:
            raise InputError("The columns of interactions differ in length.", field="interactions")
        if len(self.item) and not 0 <= self.item.min() <= self.item.max() < self.item_count:
            raise InputError("An item index lies outside the catalogue.", field="item")

    def __len__(self) -> int:
        return len(self.shopper)

    @property
    def shopper_count(self) -> int:
        """How many shoppers `shopper_ids` names, also those with no row left."""
        return len(self.shopper_ids)

    def where(self, keep: NDArray[np.bool_]) -> "Interactions":
        """Return the rows where `keep` is true; shoppers keep their indices."""
        return replace(
            self,
            shopper=self.shopper[keep],
            item=self.item[keep],
            time=self.time[keep],
            basket=self.basket[keep],
            value=self.value[keep],
        )

    def only_shoppers(self, chosen: NDArray[np.integer]) -> "Interactions":
        """Return the rows of the shoppers at `chosen` (sorted indices), renumbered from 0."""
        place = np.full(self.shopper_count, -1, dtype=np.int32)
        place[chosen] = np.arange(len(chosen), dtype=np.int32)
        kept = self.where(place[self.shopper] >= 0)
        return replace(
            kept,
            shopper_ids=tuple(self.shopper_ids[one] for one in chosen),
            shopper=place[kept.shopper],
        )

    def matrix(self) -> csr_matrix:
        """Return which shopper bought which item: float32 ones, CSR [shoppers, items]."""
        ones = np.ones(len(self), dtype=np.float32)
        shape = (self.shopper_count, self.item_count)
        bought = csr_matrix((ones, (self.shopper, self.item)), shape=shape)
        bought.data[:] = 1.0  # a repeat purchase counts once
        return bought

    def item_counts(self) -> NDArray[np.int64]:
        """Return how many shoppers bought each item: int64 [items]."""
        return np.asarray(self.matrix().sum(axis=0)).ravel().astype(np.int64)
