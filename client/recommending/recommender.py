"""Recommendations at a merchant: a verified release, the shop's own data, and a history."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ranking.purchase_probability import fit_chances, pairs_of
from client.ranking.released_vectors import ReleasedVectors, released_vectors
from client.ranking.shop_fit import ShopFit
from client.recommending.explanation import Explanation, ShopperScores
from client.recommending.filters import Filters, best_eligible
from client.recommending.new_items import with_new_items
from client.shop.dataset import MerchantData
from client.shop.histories import Histories, histories, typed_history
from client.shop.splitting import evaluation_cases, split_interactions
from common.catalogue import Catalogue, Item, popularity_buckets
from common.errors import InputError
from common.release.verify import VerifiedRelease

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


class Recommender:
    """Ranks one merchant's catalogue with one verified release."""

    def __init__(
        self,
        release: VerifiedRelease,
        data: MerchantData,
        cache: Path,
        new_items: Sequence[Item] = (),
        tail_boost: float = 1.0,
    ) -> None:
        """Encode the catalogue, or find it in `cache`, and fit what is the merchant's own.

        `ShopFit` makes the ranker. Nothing of it leaves this machine. A shop that has not trained,
        or has hardly sold, ranks with the release as it is.

        Args:
            release: Verified.
            data: The merchant's own.
            cache: Folder of encoded catalogues.
            new_items: Items that came after the import.
            tail_boost: How much more what sells little counts: 0 head, 1 as fitted, 2 tail.

        Raises:
            ReleaseError: if the base model at hand is not the release's.
            InputError: if the tail boost is not in [0, 2], or a new item is in the catalogue
                already.
        """
        vectors = released_vectors(release, data.catalogue, cache)
        if new_items:
            old, new = data.catalogue, Catalogue(tuple(new_items))
            data = with_new_items(data, new_items)
            parts = [(old, vectors), (new, released_vectors(release, new, cache))]
            vectors = _in_one_order(parts, data)
        self._data = data
        split = split_interactions(data.interactions, data.split_rule)
        cases = evaluation_cases(split.train, split.valid)
        fit = ShopFit(split.train, cases, data.interactions, vectors.frozen)
        text = fit.text_scorer(vectors.adapted, vectors.decay)
        early, self._ranker = fit.fit(text, tail_boost)
        self._tail = popularity_buckets(early.sales).tail
        self._chances = None
        if len(cases):
            self._chances = fit_chances(pairs_of(early.score, split.train, cases, self._tail))

    @property
    def catalogue(self) -> Catalogue:
        """All that can be recommended, new items included."""
        return self._data.catalogue

    def for_shopper(
        self, shopper_id: str, top: int, filters: Filters = NO_RULES
    ) -> list[Recommended]:
        """Return the `top` best items that `filters` let pass, fewer only if fewer do.

        Raises:
            InputError: if the shop has no such shopper, or as `Filters.eligible`.
        """
        try:
            shopper = self._data.interactions.shopper_ids.index(shopper_id)
        except ValueError:
            raise InputError(
                "The shop has no shopper of that id; ids are those of the imported events.",
                field="shopper",
            ) from None
        rows = self._data.interactions
        # All it ever bought: ranking's history is the latest items only.
        bought = np.unique(rows.item[rows.shopper == shopper])
        return self._best(histories(rows, np.array([shopper])), bought, top, filters)

    def for_history(
        self, names: list[str], top: int, filters: Filters = NO_RULES
    ) -> list[Recommended]:
        """Return the `top` best items for a history of item ids or titles, the latest last.

        One click is a history; an empty one gives the shop's best sellers.

        Raises:
            InputError: if the catalogue has no such item, or as `Filters.eligible`.
        """
        items = [find_item(self._data.catalogue, name) for name in names]
        history = typed_history(items, len(self._data.catalogue))
        return self._best(history, np.array(items, np.int64), top, filters)

    def _best(
        self, history: Histories, bought: NDArray[np.integer], top: int, filters: Filters
    ) -> list[Recommended]:
        catalogue = self._data.catalogue
        eligible = filters.eligible(catalogue, bought)
        scored = ShopperScores(self._ranker, history)
        best = best_eligible(scored.scores, eligible, top)
        # The curves know shoppers with a history only.
        chances = None
        if self._chances is not None and len(history.item):
            chances = self._chances.of(scored.scores[best], self._tail[best])
        found = []
        for place, why in enumerate(scored.explain(best)):
            chance = None if chances is None else float(chances[place])
            item = catalogue.items[why.item]
            found.append(Recommended(item, why, why.because(catalogue), chance))
        return found


def _in_one_order(
    parts: Sequence[tuple[Catalogue, ReleasedVectors]], data: MerchantData
) -> ReleasedVectors:
    """Return the vectors of several catalogues by the index of `data`, which holds them all."""
    width = parts[0][1].frozen.shape[1]
    adapted, frozen = (np.empty((len(data.catalogue), width), np.float32) for _ in range(2))
    for catalogue, vectors in parts:
        places = [data.catalogue.index_of(item.item_id) for item in catalogue.items]
        adapted[places], frozen[places] = vectors.adapted, vectors.frozen
    return ReleasedVectors(adapted, frozen, parts[0][1].decay)


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
