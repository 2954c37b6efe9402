"""What sells of late against what sold before, as one vector in text space.

A purchase of age a days before a public moment counts

    k(a) = 2^(-a / HALF_LIFE_DAYS) / m(HALF_LIFE_DAYS) - 2^(-a / BEFORE_DAYS) / m(BEFORE_DAYS)

where m(h) = h / ln 2 is what an exponential of half-life h adds up to. Sales that flow evenly give
0, whatever is sold: so no mean over shoppers has to be known, and a shopper's row is a sum over its
own purchases alone. The sum of all rows points to what sells more than it used to. Its product with
an item's text is a trend for any item, also one that never sold and one of another catalogue: what
`ItemSeason` holds, with mean 0 and deviation 1 over the catalogue. A shop has one of its own sales,
which never leaves the node, and one of a release, if the federation made one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.validation import FloatMatrix
from client.shop.interactions import Interactions
from common.errors import InputError

HALF_LIFE_DAYS = 15.0
BEFORE_DAYS = 180.0

_DAY = 86_400 * 10**6  # microseconds
_ROUNDING = 2.0**-20  # of the largest number: items that differ by less do not differ


@dataclass(frozen=True)
class SeasonWindows:
    """The moments at which the season is asked for. Public: they come from the plan's settings.

    Attributes:
        ends: Microseconds since 1970 UTC, at least one; a purchase at or after an end is not in it.
    """

    ends: tuple[int, ...]


def season_rows(
    interactions: Interactions, vectors: FloatMatrix, windows: SeasonWindows
) -> FloatMatrix:
    """Return each shopper's part in the season: float32 [shoppers, ends * d], not yet clipped.

    Args:
        interactions: The shop's purchases, with a clock.
        vectors: float32 [items, d], the frozen item vectors. Their mean over the catalogue, which
            is public, is taken off: a season is what differs within a shop's own goods.
        windows: The moments.

    Raises:
        InputError: if the purchases have an order and no clock, or the vectors are of another
            catalogue.

    Formal guarantee:
        A row depends on that shopper's purchases, on public vectors and on public moments alone.
    """
    if not interactions.timed:
        raise InputError("A season needs purchases with a clock.", field="time")
    if len(vectors) != interactions.item_count:
        raise InputError(
            f"{len(vectors)} vectors for {interactions.item_count} items.", field="vectors"
        )
    centred = vectors - vectors.mean(axis=0, keepdims=True)
    shape = (interactions.shopper_count, interactions.item_count)
    rows = []
    for end in windows.ends:
        age = (end - interactions.time) / _DAY
        counts = np.where(age > 0, kernel(np.maximum(age, 0.0)), 0.0)
        bought = csr_matrix((counts, (interactions.shopper, interactions.item)), shape=shape)
        rows.append(np.asarray(bought @ centred, dtype=np.float32))
    return np.hstack(rows)


def kernel(age: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a purchase of an age in days, at least 0, counts; its integral is 0."""
    recent = np.exp2(-age / HALF_LIFE_DAYS) / HALF_LIFE_DAYS
    before = np.exp2(-age / BEFORE_DAYS) / BEFORE_DAYS
    return np.asarray((recent - before) * np.log(2))


@dataclass(frozen=True, eq=False)
class ItemSeason:
    """What one season vector says of a shop's items.

    Attributes:
        direction: float32 [d], the vector over the deviation; zeros if it says nothing.
        offset: What the catalogue's mean item has in that direction.
        scores: float32 [items], mean 0 and deviation 1 over the catalogue it was made for.
    """

    direction: FloatMatrix
    offset: float
    scores: FloatMatrix

    @classmethod
    def of(cls, vector: FloatMatrix, candidates: FloatMatrix) -> "ItemSeason":
        """Return what `vector` [d] says of items whose frozen vectors [items, d] are known."""
        along = candidates.astype(np.float64) @ vector.astype(np.float64)
        deviation = float(along.std())
        if not deviation > _ROUNDING * float(np.abs(along).max(initial=0.0)):
            nothing = np.zeros(len(vector), np.float32)
            return cls(nothing, 0.0, np.zeros(len(candidates), np.float32))
        direction = (vector / deviation).astype(np.float32)
        offset = float(np.float32(along.mean() / deviation))
        return cls(direction, offset, _along(candidates, direction, offset))

    def with_items(self, candidates: FloatMatrix, placed: Sequence[int]) -> "ItemSeason":
        """Return what it says of a catalogue that grew, as `Seasons.with_items`."""
        scores = np.zeros(len(candidates), np.float32)
        scores[: len(self.scores)] = self.scores
        scores[list(placed)] = _along(candidates[list(placed)], self.direction, self.offset)
        return replace(self, scores=scores)


@dataclass(frozen=True, eq=False)
class Seasons:
    """The seasons that a shop's ranker knows.

    Attributes:
        own: Of the shop's own sales.
        federated: Of the release.
    """

    own: ItemSeason
    federated: ItemSeason

    def with_items(self, candidates: FloatMatrix, placed: Sequence[int]) -> "Seasons":
        """Return the seasons of a catalogue that grew, or some of whose texts are new.

        Args:
            candidates: float32 [items, d], the old items' vectors first.
            placed: Which have a vector that is new; others that were added score 0.
        """
        return Seasons(
            self.own.with_items(candidates, placed), self.federated.with_items(candidates, placed)
        )


@dataclass(frozen=True, eq=False)
class FederatedSeason:
    """The sum of many shops' season rows, as a release has it.

    Attributes:
        ends: Microseconds since 1970 UTC, the moments it was asked for, in order.
        vectors: float32 [ends, d], the sum of all shoppers' clipped rows, with its noise.
        noise_std: The deviation of that noise in each number. Public.
    """

    ends: tuple[int, ...]
    vectors: FloatMatrix
    noise_std: float

    def at(self, moment: int) -> FloatMatrix | None:
        """Return the latest vector [d] that nothing sold after `moment` is in; None if none is."""
        known = [place for place, end in enumerate(self.ends) if end <= moment]
        return self.vectors[known[-1]] if known else None


def own_season(past: Interactions, candidates: FloatMatrix) -> FloatMatrix:
    """Return the season of a shop's own sales just after the last: float32 [d], not clipped.

    Zeros where the data has an order and no clock, or nothing sold.
    """
    if not past.timed or not len(past):
        return np.zeros(candidates.shape[1], np.float32)
    windows = SeasonWindows((int(past.time.max()) + 1,))
    rows = season_rows(past, candidates, windows)
    return np.asarray(rows.sum(axis=0, dtype=np.float64), dtype=np.float32)


def seasons(
    past: Interactions, candidates: FloatMatrix, federated: FloatMatrix | None = None
) -> Seasons:
    """Return what the shop's own sales, and a release's vector [d], say of its items."""
    known = no_season(len(candidates), candidates.shape[1])
    own = ItemSeason.of(own_season(past, candidates), candidates)
    if federated is None:
        return Seasons(own, known.federated)
    return Seasons(own, ItemSeason.of(federated, candidates))


def no_season(items: int, width: int) -> Seasons:
    """Return seasons that say nothing of any item."""
    nothing = ItemSeason(np.zeros(width, np.float32), 0.0, np.zeros(items, np.float32))
    return Seasons(nothing, nothing)


def _along(candidates: FloatMatrix, direction: FloatMatrix, offset: float) -> FloatMatrix:
    """Return float32 [items]; row by row, where a matrix product would round by their number."""
    along = np.einsum("ij,j->i", candidates, direction)
    return np.asarray(along - np.float32(offset), dtype=np.float32)
