"""Recommendations at a merchant: a verified release, the shop's own data, and a history."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.collaborative import EASE_STRENGTHS, choose_ease, fit_ease
from client.dataset import MerchantData
from client.histories import Histories, histories, typed_history
from client.ranking import FusedRanker, Validation, fit_decay, fit_gate
from client.splitting import evaluation_cases, split_interactions
from common.catalogue import Catalogue, Item
from common.encoder.encoding import cached_base_model, encode_catalogue
from common.encoder.packaging import released_model
from common.errors import InputError, ReleaseError
from common.release.verifying import VerifiedRelease


@dataclass(frozen=True)
class Recommended:
    """One item of a list.

    Attributes:
        item: What is recommended.
        score: The sum of both parts.
        from_shop: What this shop's own purchases say.
        from_text: What the titles in the history say.
    """

    item: Item
    score: float
    from_shop: float
    from_text: float


class Recommender:
    """Ranks one merchant's catalogue with one verified release."""

    def __init__(self, release: VerifiedRelease, data: MerchantData, cache: Path) -> None:
        """Encode the catalogue, or find it in `cache`, and fit what is the merchant's own.

        Decay and gate are fitted on the shop's validation period; the shop's EASE then uses all
        its purchases. Nothing of it leaves this machine.

        Raises:
            ReleaseError: if the base model at hand is not the release's.
        """
        model = released_model(release)
        base = cached_base_model(model.settings.base_model)
        if base.digest != release.manifest.base_model.weights_sha256:
            raise ReleaseError(
                f"The release was trained on other weights of {model.settings.base_model}.",
                field="base_model",
            )
        self._data = data
        encoded = encode_catalogue(data.catalogue, model.basis, model.settings, cache)
        encoded.tower.load_adapter(model.adapter)
        vectors = encoded.tokens.vectors(encoded.tower)
        split = split_interactions(data.interactions, data.split_rule)
        cases = evaluation_cases(split.train, split.valid)
        validation = Validation(histories(split.train, cases.shoppers), cases.seen, cases.relevant)
        ease = choose_ease(split.train.matrix(), cases, EASE_STRENGTHS)
        text = fit_decay(vectors, encoded.vectors, validation)
        gate = fit_gate(text, ease.model, split.train.item_counts(), validation)
        self._ranker = FusedRanker(
            text,
            fit_ease(data.interactions.matrix(), ease.model.l2),
            gate,
            data.interactions.item_counts(),
        )

    def for_shopper(self, shopper_id: str, top: int) -> list[Recommended]:
        """Return the `top` best items that the shopper has not bought.

        Raises:
            InputError: if the shop has no such shopper.
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
        return self._best(histories(rows, np.array([shopper])), bought, top)

    def for_history(self, names: list[str], top: int) -> list[Recommended]:
        """Return the `top` best items for a history of item ids or titles, the latest last.

        Raises:
            InputError: if the catalogue has no such item, or none is named.
        """
        if not names:
            raise InputError("A history needs at least one item.", field="history")
        items = [find_item(self._data.catalogue, name) for name in names]
        history = typed_history(items, len(self._data.catalogue))
        return self._best(history, np.array(items), top)

    def _best(self, history: Histories, seen: NDArray[np.integer], top: int) -> list[Recommended]:
        own, told = (part[0] for part in self._ranker.parts(history))
        total = own + told
        return [
            Recommended(
                self._data.catalogue.items[item],
                float(total[item]),
                float(own[item]),
                float(told[item]),
            )
            for item in best_unseen(total, seen, top)
        ]


def best_unseen(
    scores: NDArray[np.float32], seen: NDArray[np.integer], top: int
) -> NDArray[np.int64]:
    """Return the `top` best items that are not in `seen`; ties go to the lower index."""
    allowed = np.setdiff1d(np.arange(len(scores)), seen)
    return allowed[np.argsort(-scores[allowed], kind="stable")[:top]]


def find_item(catalogue: Catalogue, name: str) -> int:
    """Return the item with that id, or the first whose title is that, in any case.

    Raises:
        InputError: if there is none.
    """
    if name not in catalogue:
        wanted = name.casefold()
        for place, item in enumerate(catalogue.items):
            if item.title.casefold() == wanted:
                return place
    return catalogue.index_of(name)
