"""What sells of late, and what sells more of late than before, as vectors in text space.

A purchase adds its item's text, as it differs from the mean of the catalogue, which is public, to
its shopper's row: by how much depends on its age a in days alone. For the season of a federation

    k(a) = 2^(-a / HALF_LIFE_DAYS) - (HALF_LIFE_DAYS / BEFORE_DAYS) * 2^(-a / BEFORE_DAYS)

Sales that flow evenly add up to 0, whatever is sold: so no mean over shoppers has to be known, and
the sum of all rows points to what sells more than it used to. For a shop's own season

    k(a) = OWN_SCALE * 2^(-a / HALF_LIFE_DAYS)

which points to what sells there of late. A shop of sixty shoppers knows that of itself well; what
changes it cannot tell from chance, and its own vector of change is worth less to it. Each row is
clipped to norm 1, so that nobody speaks for many.

A vector's product with an item's text says something of any item, also of one that never sold and
of one of another catalogue: what `ItemSeason` holds, with mean 0 and deviation 1 over the
catalogue. The own season never leaves the node. See docs/adr/0052-the-season.md.

What it counts in a score is `SeasonForm`: less the more the shop has sold of an item, whose own
trend then says it better, and nobody's text can say more than `MOST`. Else a season lifts what
sells anyway, at the cost of what seldom does. See docs/adr/0065-a-season-by-evidence.md. That of a
release counts as far as it can be told from its noise, and half for each HALF_LIFE_DAYS since it
was taken: see docs/adr/0071-a-season-less-its-noise.md.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.validation import FloatMatrix
from client.shop.interactions import Interactions
from common.errors import InputError
from common.season import NoisedVector

HALF_LIFE_DAYS = 15.0
BEFORE_DAYS = 180.0
OWN_SCALE = 8.0  # one purchase makes a whole row for three half-lives
MOST = 1.5  # deviations that a season counts for an item at the most
OWN_SALES = 10.0  # at so many sales of an item the own season counts half
FEDERATED_SALES = 40.0  # and that of a release: it knows what the shop does not
SHOPPERS = 65_536  # whose rows are made at a time

Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]

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
    """Return each shopper's part in the season: float32 [shoppers, ends * d].

    Of norm 1 at most for each moment; a sum that is to be private clips the whole row once more.

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
    return np.hstack([_rows(interactions, vectors, end, change) for end in windows.ends])


def change(age: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a purchase of an age in days counts in a federation's season."""
    before = np.exp2(-age / BEFORE_DAYS) * (HALF_LIFE_DAYS / BEFORE_DAYS)
    return np.asarray(np.exp2(-age / HALF_LIFE_DAYS) - before)


def level(age: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a purchase of an age in days counts in a shop's own season."""
    return np.asarray(OWN_SCALE * np.exp2(-age / HALF_LIFE_DAYS))


def _rows(
    interactions: Interactions, vectors: FloatMatrix, end: int, kernel: Kernel
) -> FloatMatrix:
    """Return each shopper's row before `end`, of norm 1 at most: float32 [shoppers, d]."""
    found = np.empty((interactions.shopper_count, vectors.shape[1]), np.float32)
    start = 0
    for rows in _some_rows(interactions, vectors, end, kernel):
        found[start : start + len(rows)] = rows
        start += len(rows)
    return found


def _some_rows(
    interactions: Interactions, vectors: FloatMatrix, end: int, kernel: Kernel
) -> Iterator[FloatMatrix]:
    """Yield the rows of SHOPPERS at a time: in float64 a million shoppers' would take gigabytes."""
    centred = vectors - vectors.mean(axis=0, keepdims=True)
    age = (end - interactions.time) / _DAY
    counts = np.where(age > 0, kernel(np.maximum(age, 0.0)), 0.0)
    shape = (interactions.shopper_count, interactions.item_count)
    bought = csr_matrix((counts, (interactions.shopper, interactions.item)), shape=shape)
    for start in range(0, shape[0], SHOPPERS):
        product = bought[start : start + SHOPPERS] @ centred
        yield _clipped(np.asarray(product, dtype=np.float32))


def _clipped(rows: FloatMatrix) -> FloatMatrix:
    """Return each row with a norm of at most 1."""
    norm = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(norm, np.float32(1)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ItemSeason:
    """What one season vector says of a shop's items.

    Attributes:
        direction: float32 [d], the vector over the deviation; zeros if it says nothing.
        offset: What the catalogue's mean item has in that direction.
        scores: float32 [items], mean 0 and deviation 1 over the catalogue it was made for.
        reliability: How much of them counts, 0 to 1. Just after its end it is their correlation
            with the scores of the vector without its noise, as far as deviations tell:
            sqrt(1 - noise's variance / theirs). So they are what a season without noise is expected
            to say.
    """

    direction: FloatMatrix
    offset: float
    scores: FloatMatrix
    reliability: float = 1.0

    @classmethod
    def of(
        cls, vector: FloatMatrix, candidates: FloatMatrix, noise_std: float = 0.0
    ) -> "ItemSeason":
        """Return what `vector` [d] says of items whose frozen vectors [items, d] are known.

        Args:
            vector: float32 [d].
            candidates: float32 [items, d].
            noise_std: Deviation of the independent noise in each number of `vector`.
        """
        along = candidates.astype(np.float64) @ vector.astype(np.float64)
        deviation = float(along.std())
        if not deviation > _ROUNDING * float(np.abs(along).max(initial=0.0)):
            nothing = np.zeros(len(vector), np.float32)
            return cls(nothing, 0.0, np.zeros(len(candidates), np.float32))
        direction = (vector / deviation).astype(np.float32)
        offset = float(np.float32(along.mean() / deviation))
        # A product, which may be infinite; a power of what a release says may raise.
        noise = noise_std * float(np.sqrt(candidates.var(axis=0, dtype=np.float64).sum()))
        share = noise / deviation
        reliability = float(np.float32(np.sqrt(max(0.0, 1 - share * share))))
        return cls(direction, offset, _along(candidates, direction, offset), reliability)

    def with_items(self, candidates: FloatMatrix, placed: Sequence[int]) -> "ItemSeason":
        """Return what it says of a catalogue that grew, as `Seasons.with_items`."""
        scores = np.zeros(len(candidates), np.float32)
        scores[: len(self.scores)] = self.scores
        scores[list(placed)] = _along(candidates[list(placed)], self.direction, self.offset)
        return replace(self, scores=scores)


class SeasonForm(NamedTuple):
    """How much of a season counts for an item.

        reliability * min(z, most) * sales / (sales + what the shop sold of the item)

    Attributes:
        most: As above.
        own_sales: `sales` of the own season.
        federated_sales: `sales` of the release's.
    """

    most: float = MOST
    own_sales: float = OWN_SALES
    federated_sales: float = FEDERATED_SALES


BY_EVIDENCE = SeasonForm()
PLAIN = SeasonForm(np.inf, np.inf, np.inf)  # all of it for every item, as in models of before


@dataclass(frozen=True, eq=False)
class Seasons:
    """The seasons that a shop's ranker knows.

    Attributes:
        own: Of the shop's own sales.
        federated: Of the release.
        form: How much of them counts.
    """

    own: ItemSeason
    federated: ItemSeason
    form: SeasonForm = BY_EVIDENCE

    def counted(self, sales: NDArray[np.integer]) -> tuple[FloatMatrix, FloatMatrix]:
        """Return what counts of the own and of the release's season: float32 [items] each.

        Args:
            sales: int [items], what the shop has sold of each item.
        """
        most, own, federated = self.form
        return _counted(self.own, most, own, sales), _counted(
            self.federated, most, federated, sales
        )

    def with_items(self, candidates: FloatMatrix, placed: Sequence[int]) -> "Seasons":
        """Return the seasons of a catalogue that grew, or some of whose texts are new.

        Args:
            candidates: float32 [items, d], the old items' vectors first.
            placed: Which have a vector that is new; others that were added score 0.
        """
        return replace(
            self,
            own=self.own.with_items(candidates, placed),
            federated=self.federated.with_items(candidates, placed),
        )


def own_season(past: Interactions, candidates: FloatMatrix) -> FloatMatrix:
    """Return the sum of a shop's own rows of `level` just after its last sale: float32 [d].

    Zeros where the data has an order and no clock, or nothing sold.
    """
    if not past.timed or not len(past):
        return np.zeros(candidates.shape[1], np.float32)
    found = np.zeros(candidates.shape[1])
    for rows in _some_rows(past, candidates, int(past.time.max()) + 1, level):
        found += rows.sum(axis=0, dtype=np.float64)
    return found.astype(np.float32)


def seasons(
    past: Interactions, candidates: FloatMatrix, federated: NoisedVector | None = None
) -> Seasons:
    """Return what the shop's own sales, and a release's vector, say of its items.

    Nothing where the shop's data has an order and no clock: nobody knows when it is there.
    """
    known = no_season(len(candidates), candidates.shape[1])
    own = ItemSeason.of(own_season(past, candidates), candidates)
    if federated is None or not past.timed:
        return Seasons(own, known.federated)
    return Seasons(own, released_season(past, candidates, federated))


def released_season(
    past: Interactions, candidates: FloatMatrix, federated: NoisedVector
) -> ItemSeason:
    """Return what a release's vector says of items when the shop has sold `past` and no more.

    What sells of late is soon other things: at so many days as a purchase's half-life it counts
    half. The shop's last sale is what tells the day, not the machine's clock.
    """
    season = ItemSeason.of(federated.numbers, candidates, federated.noise_std)
    age = max(0.0, (int(past.time.max(initial=0)) - federated.end) / _DAY)
    fresh = season.reliability * 2.0 ** (-age / HALF_LIFE_DAYS)
    return replace(season, reliability=float(np.float32(fresh)))


def no_season(items: int, width: int) -> Seasons:
    """Return seasons that say nothing of any item."""
    nothing = ItemSeason(np.zeros(width, np.float32), 0.0, np.zeros(items, np.float32))
    return Seasons(nothing, nothing)


def _counted(
    season: ItemSeason, most: float, half: float, sales: NDArray[np.integer]
) -> FloatMatrix:
    share = season.reliability / (1 + sales / half)
    return np.asarray(np.minimum(season.scores, most) * share, dtype=np.float32)


def _along(candidates: FloatMatrix, direction: FloatMatrix, offset: float) -> FloatMatrix:
    """Return float32 [items]; row by row, where a matrix product would round by their number."""
    along = np.einsum("ij,j->i", candidates, direction)
    return np.asarray(along - np.float32(offset), dtype=np.float32)
