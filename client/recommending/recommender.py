"""Recommendations at a merchant: a fitted shop model and a history."""

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.recommending.explanation import Explanation, ShopperScores
from client.recommending.filters import Filters, Mask, best_eligible
from client.recommending.shop_model import ShopModel
from client.shop.histories import Histories, histories, typed_history
from common.catalogue import Catalogue, Item
from common.errors import InputError

NO_RULES = Filters()


@dataclass(frozen=True)
class Recommended:
    """One item of a list.

    Attributes:
        item: What is recommended.
        explanation: Its score's exact parts.
        because: The chief reason, in words for the shopper.
        chance: The chance that the shopper buys it within a period as long as the validation
            period; None if that period has too little to tell.
    """

    item: Item
    explanation: Explanation
    because: str
    chance: float | None

    @property
    def score(self) -> float:
        """The sum of all parts."""
        return self.explanation.score


@dataclass(frozen=True, eq=False)
class Picked:
    """The best items for one history, before anybody asks why.

    Attributes:
        items: int64 [k], indices, best first.
        scores: float32 [k].
        chances: float64 [k], see `Recommended.chance`; None if there are none.
        scored: What explains them.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    chances: NDArray[np.float64] | None
    scored: ShopperScores


class Recommender:
    """Ranks one merchant's catalogue with a fitted model."""

    def __init__(self, model: ShopModel, tail_boost: float = 1.0) -> None:
        """Rank with `model` at a tail boost: 0 head, 1 as fitted, 2 tail.

        Raises:
            InputError: if the tail boost is not in [0, 2].
        """
        self._model = model
        self._ranker = model.ranker
        if tail_boost != 1:
            self._ranker = self._ranker.with_weights(self._ranker.weights.boosted(tail_boost))
        self._chances = model.chances.get(tail_boost)

    @property
    def catalogue(self) -> Catalogue:
        """All that can be recommended, new items included."""
        return self._model.catalogue

    @property
    def shopper_ids(self) -> tuple[str, ...]:
        """All shoppers of the import."""
        return self._model.purchases.shopper_ids

    def for_shopper(
        self, shopper_id: str, top: int, filters: Filters = NO_RULES
    ) -> list[Recommended]:
        """Return the `top` best items that `filters` let pass, fewer only if fewer do.

        Raises:
            InputError: if the shop has no such shopper, or as `Filters.eligible`.
        """
        history, bought = self.known_shopper(shopper_id)
        return self.explained(self.picked(history, filters.eligible(self.catalogue, bought), top))

    def knows(self, shopper_id: str) -> bool:
        """Whether the import has such a shopper."""
        return shopper_id in self._model.place_of_shopper

    def known_shopper(self, shopper_id: str) -> tuple[Histories, NDArray[np.int32]]:
        """Return a shopper's history as ranking reads it, and the indices of all it ever bought.

        Raises:
            InputError: if the shop has no such shopper.
        """
        shopper = self._model.place_of_shopper.get(shopper_id)
        if shopper is None:
            raise InputError(
                "The shop has no shopper of that id; ids are those of the imported events.",
                field="shopper",
            )
        history = histories(self._model.purchases, np.array([shopper]))
        return history, self._model.bought_by(shopper)

    def for_history(
        self, names: list[str], top: int, filters: Filters = NO_RULES
    ) -> list[Recommended]:
        """Return the `top` best items for a history of item ids or titles, the latest last.

        One click is a history; an empty one gives the shop's best sellers.

        Raises:
            InputError: if the catalogue has no such item, or as `Filters.eligible`.
        """
        items = [find_item(self.catalogue, name) for name in names]
        history = typed_history(items, len(self.catalogue))
        eligible = filters.eligible(self.catalogue, np.array(items, np.int64))
        return self.explained(self.picked(history, eligible, top))

    def picked(self, history: Histories, eligible: Mask, top: int) -> Picked:
        """Return the `top` best of the `eligible` items (bool [items]), fewer only if fewer are.

        Raises:
            InputError: if `top` is below 1, or `history` is not that of one shopper.
        """
        scored = ShopperScores(self._ranker, history)
        best = best_eligible(scored.scores, eligible, top)
        scores, chances = scored.scores[best], None
        # The curves know shoppers with a history only.
        if self._chances is not None and len(history.item):
            chances = self._chances.of(scores, self._model.tail[best])
        return Picked(best, scores, chances, scored)

    def explained(self, picked: Picked) -> list[Recommended]:
        """Return the items with their reasons."""
        found = []
        for place, why in enumerate(picked.scored.explain(picked.items)):
            chance = None if picked.chances is None else float(picked.chances[place])
            item = self.catalogue.items[why.item]
            found.append(Recommended(item, why, why.because(self.catalogue), chance))
        return found


def find_item(catalogue: Catalogue, name: str) -> int:
    """Return the item with that id, or the first whose title is that, in any case.

    Raises:
        InputError: if there is none; the message names the nearest title.
    """
    if name in catalogue:
        return catalogue.index_of(name)
    titles = [item.title.casefold() for item in catalogue.items]
    if name.casefold() in titles:
        return titles.index(name.casefold())
    near = difflib.get_close_matches(name.casefold(), titles, n=1)
    hint = f" Did you mean {catalogue.items[titles.index(near[0])].title!r}?" if near else ""
    raise InputError(
        f"history: none of the {len(catalogue)} items has the id or title {name!r}.{hint}",
        field="history",
    )
