"""From a shopper's purchases to its one training example: a history, and what it bought later.

A shopper is one example, however many rows it has. Each time it is drawn, its purchases are cut at
a random basket: what lies before is the history, what is bought for the first time after it is the
target. The cut uses that shopper's rows and its own id only, so no shopper's example depends on
another's, nor on how many others there are.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.shop.interactions import Interactions
from common.settings.run import RunSettings


@dataclass(frozen=True, eq=False)
class ExampleBatch:
    """The examples of some shoppers, numbered 0 to `shoppers` - 1 within the batch.

    Attributes:
        shoppers: How many there are; some may have no history or no target.
        history_item: int64 [h], catalogue indices.
        history_shopper: int64 [h], sorted.
        history_weight: float32 [h], sums to 1 over each shopper that has a history.
        target_item: int64 [t].
        target_shopper: int64 [t], sorted.
        target_value: float32 [t], the rating or label, 1 for a purchase.
    """

    shoppers: int
    history_item: NDArray[np.int64]
    history_shopper: NDArray[np.int64]
    history_weight: NDArray[np.float32]
    target_item: NDArray[np.int64]
    target_shopper: NDArray[np.int64]
    target_value: NDArray[np.float32]

    def part(self, start: int, stop: int) -> "ExampleBatch":
        """Return the examples of shoppers `start` to `stop` - 1, numbered from 0."""
        rows = slice(*np.searchsorted(self.history_shopper, [start, stop]))
        targets = slice(*np.searchsorted(self.target_shopper, [start, stop]))
        return ExampleBatch(
            shoppers=stop - start,
            history_item=self.history_item[rows],
            history_shopper=self.history_shopper[rows] - start,
            history_weight=self.history_weight[rows],
            target_item=self.target_item[targets],
            target_shopper=self.target_shopper[targets] - start,
            target_value=self.target_value[targets],
        )


class ShopperExamples:
    """Every shopper's purchases, ready to be cut into an example of bounded size."""

    def __init__(self, interactions: Interactions, settings: RunSettings) -> None:
        """Index the purchases by shopper.

        Args:
            interactions: The merchant's, sorted as `Interactions` says.
            settings: `max_history`, `max_targets`, `history_decay`, `target_baskets`.
        """
        self._rows = interactions
        self._settings = settings
        shoppers = np.arange(interactions.shopper_count + 1)
        self._starts = np.searchsorted(interactions.shopper, shoppers)
        self._streams = [_stream(name) for name in interactions.shopper_ids]
        self._basket, self._baskets = _basket_places(interactions, self._starts)
        self._first, self._again = _repeats(interactions, self._basket)
        per_shopper = np.bincount(
            interactions.shopper[self._first], minlength=interactions.shopper_count
        )
        self._usable = per_shopper >= 2  # distinct items: one to read, one to find

    def __len__(self) -> int:
        """How many shoppers there are, those without a usable example included."""
        return self._rows.shopper_count

    def without(self, shopper: int) -> "ShopperExamples":
        """Return the examples of a shop that this shopper never entered."""
        stay = np.delete(np.arange(len(self)), shopper)
        return ShopperExamples(self._rows.only_shoppers(stay), self._settings)

    def draw(self, shoppers: NDArray[np.integer], seed: int) -> ExampleBatch:
        """Cut the purchases of `shoppers` [b] and return their examples.

        Each shopper's cut is drawn from a stream of its own, made from `seed` and its id, so it is
        the same whoever else is drawn.

        Formal guarantee:
            For every seed, also one that an observer knows, adding or removing a shopper leaves
            the examples of all others as they are. The index would not do: it is another one for
            everybody behind the shopper that left.
        """
        usable = np.flatnonzero(self._usable[shoppers])
        drawn = np.asarray(shoppers)[usable]
        streams = [np.random.default_rng((seed, self._streams[one])) for one in drawn]
        row, place = self._rows_of(drawn)
        cut, basket = self._cut(drawn, row, place, streams)
        targets = self._targets(basket, cut[place], row, place, streams)
        found = np.isin(place, place[targets])  # nothing to find: nothing to read either
        past = found & (basket < cut[place]) & (self._again[row] >= cut[place])
        kept = self._latest(np.flatnonzero(past), place)
        age = (cut[place] - 1 - basket)[kept]
        # By way of a table: the same bits for an age, wherever it stands in the batch.
        weight = np.power(self._settings.history_decay, np.arange(age.max(initial=0) + 1.0))[age]
        if len(kept):
            begins = np.flatnonzero(np.diff(place[kept], prepend=-1))
            lengths = np.diff(begins, append=len(kept))
            weight /= np.repeat(np.add.reduceat(weight, begins), lengths)
        return ExampleBatch(
            shoppers=len(shoppers),
            history_item=self._rows.item[row[kept]].astype(np.int64),
            history_shopper=usable[place[kept]],
            history_weight=weight.astype(np.float32),
            target_item=self._rows.item[row[targets]].astype(np.int64),
            target_shopper=usable[place[targets]],
            target_value=self._rows.value[row[targets]],
        )

    def _rows_of(
        self, shoppers: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shoppers' rows, one shopper after another, and whose each is: int64 [n]."""
        starts, counts = self._starts[shoppers], self._starts[shoppers + 1] - self._starts[shoppers]
        place = np.repeat(np.arange(len(shoppers)), counts)
        before = np.cumsum(counts) - counts
        return np.arange(len(place)) + (starts - before)[place], place

    def _cut(
        self,
        shoppers: NDArray[np.integer],
        row: NDArray[np.int64],
        place: NDArray[np.int64],
        streams: Sequence[np.random.Generator],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each shopper's first basket after the cut, and each row's basket, from 0.

        Of one basket only, a random half stands for a basket before.
        """
        baskets, basket = self._baskets[shoppers], self._basket[row]
        cut = np.ones(len(shoppers), dtype=np.int64)
        ends = np.searchsorted(place, np.arange(len(shoppers) + 1))
        for one, stream in enumerate(streams):
            if baskets[one] > 1:
                cut[one] = stream.integers(1, baskets[one])
                continue
            order = stream.permutation(ends[one + 1] - ends[one])
            basket[ends[one] + order[max(1, len(order) // 2) :]] = 1
        return cut, basket

    def _targets(
        self,
        basket: NDArray[np.int64],
        cut: NDArray[np.int64],
        row: NDArray[np.int64],
        place: NDArray[np.int64],
        streams: Sequence[np.random.Generator],
    ) -> NDArray[np.int64]:
        """Return the positions in `row` of what is bought for the first time after the cut."""
        after = basket == cut if self._settings.target_baskets == "next" else basket >= cut
        new = np.flatnonzero(after & self._first[row])
        most, counts = self._settings.max_targets, np.bincount(place[new])
        ends = np.cumsum(counts)
        parts = [
            new[end - count : end]
            if count <= most
            else np.sort(streams[one].choice(new[end - count : end], most, replace=False))
            for one, (end, count) in enumerate(zip(ends, counts, strict=True))
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _latest(self, kept: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each shopper's `max_history` latest positions of those kept, latest first."""
        ordered = kept[np.lexsort((-kept, place[kept]))]
        begins = np.searchsorted(place[ordered], np.arange(place.max(initial=-1) + 1))
        number = np.arange(len(ordered)) - begins[place[ordered]]
        return ordered[number < self._settings.max_history]


def _basket_places(
    interactions: Interactions, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's basket, counted from 0 in its shopper, and each shopper's baskets."""
    begins = np.ones(len(interactions), dtype=bool)
    begins[1:] = (np.diff(interactions.basket) != 0) | (np.diff(interactions.shopper) != 0)
    counted = np.concatenate([[0], np.cumsum(begins)])
    return (counted[1:] - 1 - counted[starts[:-1]][interactions.shopper]), np.diff(counted[starts])


def _repeats(
    interactions: Interactions, basket: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return whether a row is its shopper's first of an item, and the basket of the next of it.

    Where there is no next one, the basket is beyond all.
    """
    order = np.lexsort((interactions.item, interactions.shopper))  # stable: in order of time
    shopper, item = interactions.shopper[order], interactions.item[order]
    same = (shopper[1:] == shopper[:-1]) & (item[1:] == item[:-1])
    first = np.ones(len(order), dtype=bool)
    first[order[1:]] = ~same
    again = np.full(len(order), np.iinfo(np.int64).max)
    again[order[:-1][same]] = basket[order[1:]][same]
    return first, again


def _stream(shopper_id: str) -> int:
    """Return a number of 128 bits that stands for a shopper whatever its place in the data."""
    return int.from_bytes(hashlib.sha256(shopper_id.encode()).digest()[:16], "big")
