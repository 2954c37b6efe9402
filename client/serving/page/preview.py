"""A list for one shopper or history as the page shows it, with why, and what the tail boost costs.

A preview is served to nobody: it is in no log and counts in no measure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from client.ranking.fusion import ScoreParts
from client.recommending.explanation import Reason
from client.recommending.recommender import Picked, Recommender
from client.serving.lists import bucket_of, eligible_items, history_of
from client.serving.live_shop import Snapshot
from client.serving.messages import Bucket, HistoryItem, RecommendationRequest
from common.catalogue import Catalogue, Item

BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0)  # those that a fit has click curves for
COUNT = 10
SHOWN_HISTORY = 12
SHOWN_BECAUSE = 3
_MOST_FOUND = 6


@dataclass(frozen=True)
class Because:
    """What one bought product adds to a score: together and by text."""

    title: str
    collaborative: float
    text: float


@dataclass(frozen=True)
class Shown:
    """One product of a list.

    Attributes:
        rank: From 1.
        item: The product.
        bucket: Where it stands among the shop's sales.
        score: Of the model.
        chance: That this shopper buys it, within about the validation period; None if not known.
        reason: The chief one.
        reason_title: The bought product that it names; "" if none.
        parts: The score's parts by name; they add up to it.
        history: The largest of the history's.
        others: The sum of the rest, and how many they are.
    """

    rank: int
    item: Item
    bucket: Bucket
    score: float
    chance: float | None
    reason: Reason
    reason_title: str
    parts: dict[str, float]
    history: tuple[Because, ...]
    others: tuple[int, float]


@dataclass(frozen=True)
class BoostCost:
    """A list's character at one tail boost.

    Attributes:
        boost: From 0 (head) to 2 (tail).
        beyond_head: How many of its products are of the tail or new.
        count: How many products it has.
        expected: Purchases to expect of the list, the sum of the chances; None if not known.
    """

    boost: float
    beyond_head: int
    count: int
    expected: float | None


@dataclass(frozen=True)
class Preview:
    """A list, the history it is made from, and its costs at each boost.

    Attributes:
        items: Best first.
        bought: Titles of what ranking looked at, the latest first.
        bought_count: How many products that history has.
        fallback: Why the best sellers stand here; None if the list is personal.
        costs: One for each of BOOSTS.
        boost: The boost of `items`.
    """

    items: tuple[Shown, ...]
    bought: tuple[str, ...]
    bought_count: int
    fallback: Literal["no_history", "unknown_shopper"] | None
    costs: tuple[BoostCost, ...]
    boost: float

    def cost_at(self, boost: float) -> BoostCost:
        """Return the cost at one of BOOSTS."""
        return next(one for one in self.costs if one.boost == boost)


def make_preview(
    snapshot: Snapshot,
    shopper_id: str | None,
    history: Sequence[str],
    boost: float,
    is_erased: Callable[[str], bool],
) -> Preview:
    """Return the list of a shopper, or of a history of item ids, the latest last.

    Args:
        snapshot: The shop.
        shopper_id: Of the import; None where a history is given.
        history: Item ids; those the shop does not have say nothing.
        boost: One of BOOSTS.
        is_erased: Whether a shopper asked to be forgotten.
    """
    request = RecommendationRequest(
        shopper_id=shopper_id,
        history=None if shopper_id else [HistoryItem(item_id=one) for one in history],
        count=COUNT,
    )
    costs: list[BoostCost] = []
    shown: tuple[Shown, ...] = ()
    picked_history = None
    for one in BOOSTS:
        recommender = Recommender(snapshot.model, one)
        read, bought, fallback = history_of(recommender, request, is_erased)
        eligible = eligible_items(snapshot, request, bought, ())
        picked = recommender.picked(read, eligible, COUNT)
        costs.append(_cost(snapshot, picked, one))
        if one == boost:
            shown, picked_history = _shown(snapshot, recommender, picked), (read, fallback)
    assert picked_history is not None  # noqa: S101 -- `boost` is one of BOOSTS
    read, fallback = picked_history
    items = snapshot.model.catalogue.items
    titles = [items[item].title for item in read.item[::-1][:SHOWN_HISTORY].tolist()]
    return Preview(shown, tuple(titles), len(read.item), fallback, tuple(costs), boost)


def some_shopper(snapshot: Snapshot, place: int, is_erased: Callable[[str], bool]) -> str | None:
    """Return a shopper with a history, by a number that a die gives; None if the shop has none.

    Who asked to be forgotten is in the model until the next fit, and is passed over.
    """
    names = snapshot.model.purchases.shopper_ids
    dealt = (names[(place + step) % len(names)] for step in range(len(names)))
    return next((one for one in dealt if not is_erased(one)), None)


def find_products(catalogue: Catalogue, words: str, most: int = _MOST_FOUND) -> list[Item]:
    """Return the product with that id or title, alone; else those whose titles have the words."""
    words = words.strip()
    if not words:
        return []
    if words in catalogue:
        return [catalogue.items[catalogue.index_of(words)]]
    wanted = words.casefold()
    parts = wanted.split()
    found: list[Item] = []
    for item in catalogue.items:
        title = item.title.casefold()
        if title == wanted:
            return [item]
        if len(found) < most and all(part in title for part in parts):
            found.append(item)
    return found


def _cost(snapshot: Snapshot, picked: Picked, boost: float) -> BoostCost:
    beyond = sum(bucket_of(snapshot, item) != "head" for item in picked.items.tolist())
    expected = None if picked.chances is None else float(np.sum(picked.chances))
    return BoostCost(boost, beyond, len(picked.items), expected)


def _shown(snapshot: Snapshot, recommender: Recommender, picked: Picked) -> tuple[Shown, ...]:
    items = snapshot.model.catalogue.items
    found = []
    for rank, one in enumerate(recommender.explained(picked), 1):
        why = one.explanation
        parts = [Because(items[p.item].title, p.collaborative, p.text) for p in why.history]
        rest = parts[SHOWN_BECAUSE:]
        found.append(
            Shown(
                rank,
                one.item,
                bucket_of(snapshot, why.item),
                one.score,
                one.chance,
                why.reason,
                parts[0].title if parts else "",
                {name: why.parts[name] for name in ScoreParts._fields},
                tuple(parts[:SHOWN_BECAUSE]),
                (len(rest), sum(p.collaborative + p.text for p in rest)),
            )
        )
    return tuple(found)
