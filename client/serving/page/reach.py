"""The catalogue from head to tail: what sells, and what the lists reach of it.

Where lists were served, they say it. Where there are none yet, lists are made for some of the
model's own shoppers, who are spread evenly over all; only counts by product leave this module.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.recommending.filters import best_eligible
from client.serving.feedback.reach import ServedItems
from client.serving.live_shop import Snapshot
from client.serving.messages import Bucket
from client.shop.histories import histories

BUCKETS: tuple[Bucket, ...] = ("head", "tail", "new")
SAMPLE = 200  # shoppers whose lists stand for all where none were served
FEWEST_LISTS = 50  # served lists below which the sample says more
BINS = 40
_LIST = 10
_AT_ONCE = 20  # shoppers scored together: a large catalogue stays in bounds


@dataclass(frozen=True)
class BucketReach:
    """One part of the catalogue.

    Attributes:
        items: Products in it.
        reached: Of these, how many stand in a list.
        sales_share: Its share of all purchases.
        slots_share: Its share of the places of lists.
    """

    items: int
    reached: int
    sales_share: float
    slots_share: float

    @property
    def share(self) -> float:
        """Reached products over products; 0 without any."""
        return self.reached / self.items if self.items else 0.0


@dataclass(frozen=True)
class Bin:
    """Neighbours in the order of sales.

    Attributes:
        items: How many.
        sales: Their mean number of purchases.
        reached: The share of them that stands in a list.
        bucket: Of most of them.
    """

    items: int
    sales: float
    reached: float
    bucket: Bucket


@dataclass(frozen=True)
class Reach:
    """What the lists reach.

    Attributes:
        source: Whether lists that were served say it, or lists made for a sample of shoppers.
        lists: How many lists it rests on.
        buckets: By part of the catalogue.
        bins: From the best seller to what never sold.
    """

    source: Literal["served", "sample"]
    lists: int
    buckets: Mapping[Bucket, BucketReach]
    bins: tuple[Bin, ...]

    @property
    def whole(self) -> BucketReach:
        """All of the catalogue."""
        parts = self.buckets.values()
        return BucketReach(sum(p.items for p in parts), sum(p.reached for p in parts), 1.0, 1.0)


class ReachOfLists:
    """Measures once for each model and change of the catalogue, and remembers the last."""

    def __init__(self, served: Callable[[str], ServedItems]) -> None:
        """`served` counts the lists of a model, by its digest."""
        self._served = served
        self._sampled: tuple[tuple[str, int], NDArray[np.int64], int] | None = None
        self._measuring = Lock()

    def measure(self, snapshot: Snapshot) -> Reach:
        """Return what lists reach of the catalogue now.

        Raises:
            StorageError: if the lists cannot be read.
        """
        served = self._served(snapshot.model.digest)
        if served.lists >= FEWEST_LISTS:
            catalogue = snapshot.model.catalogue
            counts = np.zeros(len(catalogue), np.int64)
            for name, count in served.counts.items():
                if name in catalogue:
                    counts[catalogue.index_of(name)] = count
            return _reach(snapshot, counts, served.lists, "served")
        with self._measuring:
            key = (snapshot.model.digest, snapshot.version)
            if self._sampled is None or self._sampled[0] != key:
                self._sampled = (key, *_sampled_counts(snapshot))
            _, counts, lists = self._sampled
        return _reach(snapshot, counts, lists, "sample")


def buckets_of(snapshot: Snapshot) -> NDArray[np.int8]:
    """Return where each item stands, as its place in BUCKETS: int8 [items]."""
    sold = snapshot.model.ranker.sales > 0
    return np.where(~sold, 2, np.where(snapshot.model.tail, 1, 0)).astype(np.int8)


def _sampled_counts(snapshot: Snapshot) -> tuple[NDArray[np.int64], int]:
    """Return how often each item stands in lists of sampled shoppers, and how many lists."""
    model = snapshot.model
    shoppers = len(model.purchases.shopper_ids)
    chosen = np.unique(np.linspace(0, shoppers - 1, min(SAMPLE, shoppers)).astype(np.int64))
    counts = np.zeros(len(model.catalogue), np.int64)
    for start in range(0, len(chosen), _AT_ONCE):
        some = chosen[start : start + _AT_ONCE]
        scores = model.ranker.score(histories(model.purchases, some))
        for shopper, scored in zip(some.tolist(), scores, strict=True):
            eligible = snapshot.rankable.copy()
            eligible[model.bought_by(shopper)] = False
            counts[best_eligible(scored, eligible, _LIST)] += 1
    return counts, len(chosen)


def _reach(
    snapshot: Snapshot, counts: NDArray[np.int64], lists: int, source: Literal["served", "sample"]
) -> Reach:
    kept = snapshot.rankable
    sales, where = snapshot.model.ranker.sales[kept].astype(np.int64), buckets_of(snapshot)[kept]
    counts = counts[kept]
    sold, slots = max(int(sales.sum()), 1), max(int(counts.sum()), 1)
    buckets = {}
    for place, name in enumerate(BUCKETS):
        mine = where == place
        buckets[name] = BucketReach(
            int(mine.sum()),
            int((counts[mine] > 0).sum()),
            float(sales[mine].sum() / sold),
            float(counts[mine].sum() / slots),
        )
    order = np.lexsort((where, -sales))
    bins = []
    for part in np.array_split(order, min(BINS, len(order))) if len(order) else ():
        most = int(np.bincount(where[part], minlength=len(BUCKETS)).argmax())
        reached = float((counts[part] > 0).mean())
        bins.append(Bin(len(part), float(sales[part].mean()), reached, BUCKETS[most]))
    return Reach(source, lists, buckets, tuple(bins))
