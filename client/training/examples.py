"""From a shopper's purchases to its one training example: a history, and what it bought later.

A shopper is one example, however many rows it has. Each time it is drawn, its purchases are cut at
a random basket: what lies before is the history, what is bought for the first time after it is the
target. The cut uses that shopper's rows and its own id only, so no shopper's example depends on
another's, nor on how many others there are.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.shop.histories import pooled_history
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


@dataclass(frozen=True, eq=False)
class _Example:
    history: NDArray[np.int64]
    weight: NDArray[np.float64]
    target: NDArray[np.int64]
    value: NDArray[np.float32]


_EMPTY = _Example(
    np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0, np.float32)
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
        return _batch(
            [self._one(one, np.random.default_rng((seed, self._streams[one]))) for one in shoppers]
        )

    def _one(self, shopper: np.integer, rng: np.random.Generator) -> _Example:
        rows = slice(self._starts[shopper], self._starts[shopper + 1])
        items, baskets = self._rows.item[rows].astype(np.int64), self._rows.basket[rows]
        if len(np.unique(items)) < 2:
            return _EMPTY
        steps = np.unique(baskets)
        if len(steps) == 1:  # one basket only: half of it stands for the history
            order = rng.permutation(len(items))
            before = np.zeros(len(items), dtype=bool)
            before[order[: max(1, len(items) // 2)]] = True
            after, age = ~before, np.zeros(len(items))
        else:
            cut = int(rng.integers(1, len(steps)))
            before = baskets < steps[cut]
            after = baskets == steps[cut] if self._settings.target_baskets == "next" else ~before
            age = (cut - 1 - np.searchsorted(steps, baskets)).astype(np.float64)
        return self._example(items, self._rows.value[rows], before, after, age=age, rng=rng)

    def _example(
        self,
        items: NDArray[np.int64],
        values: NDArray[np.float32],
        before: NDArray[np.bool_],
        after: NDArray[np.bool_],
        *,
        age: NDArray[np.floating],
        rng: np.random.Generator,
    ) -> _Example:
        history, weight = pooled_history(
            items[before], age[before], self._settings.history_decay, self._settings.max_history
        )
        new = np.flatnonzero(after & ~np.isin(items, items[before]))
        _, first = np.unique(items[new], return_index=True)
        new = new[np.sort(first)]
        if len(new) > self._settings.max_targets:
            new = np.sort(rng.choice(new, self._settings.max_targets, replace=False))
        if not len(new):
            return _EMPTY
        return _Example(history, weight, items[new], values[new])


def _stream(shopper_id: str) -> int:
    """Return a number of 128 bits that stands for a shopper whatever its place in the data."""
    return int.from_bytes(hashlib.sha256(shopper_id.encode()).digest()[:16], "big")


def _batch(examples: list[_Example]) -> ExampleBatch:
    histories = [len(one.history) for one in examples]
    targets = [len(one.target) for one in examples]
    numbers = np.arange(len(examples))
    joined = [_EMPTY, *examples]
    return ExampleBatch(
        shoppers=len(examples),
        history_item=np.concatenate([one.history for one in joined]),
        history_shopper=np.repeat(numbers, histories),
        history_weight=np.concatenate([one.weight for one in joined]).astype(np.float32),
        target_item=np.concatenate([one.target for one in joined]),
        target_shopper=np.repeat(numbers, targets),
        target_value=np.concatenate([one.value for one in joined]),
    )
