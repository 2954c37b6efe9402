"""Make a list from a snapshot of the shop, and say in a row how it was made.

A list depends on its request, the model, the version of the catalogue and what was shown before,
and on nothing else: from its row it can be made again, score by score.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client.recommending.filters import Filters
from client.recommending.recommender import Picked, Recommender
from client.serving.experiments.arms import TO_ALL, Assigned
from client.serving.live_shop import Snapshot
from client.serving.messages import (
    Bucket,
    HistoryPart,
    Parts,
    RecommendationRequest,
    Recommendations,
    RecommendedItem,
)
from client.shop.histories import Histories, latest, typed_history
from common.errors import InputError

Fallback = Literal["no_history", "unknown_shopper"]


@dataclass(frozen=True)
class Served:
    """A list and its row of the table of recommendations."""

    answer: Recommendations
    row: Mapping[str, Any]


def serve_list(
    snapshot: Snapshot,
    request: RecommendationRequest,
    time: int,
    *,
    is_erased: Callable[[str], bool] = lambda _: False,
    shown: Sequence[str] = (),
    assigned: Assigned = TO_ALL,
) -> Served:
    """Return the best items for a request.

    Args:
        snapshot: The shop, with the model of the arm.
        request: What is asked for.
        time: In microseconds since 1970 UTC.
        is_erased: Whether a shopper asked to be forgotten: they are nobody then.
        shown: Ids that came before this list and are left out.
        assigned: The arm, and the experiment that the list counts in.

    Raises:
        InputError: if a filter names an item or a category that is not there, or stock is asked
            for and not known.
    """
    recommender = Recommender(snapshot.model, request.tail_boost)
    forgotten = request.shopper_id is not None and is_erased(request.shopper_id)
    history, bought, fallback = history_of(recommender, request, lambda _: forgotten)
    eligible = eligible_items(snapshot, request, bought, shown)
    picked = recommender.picked(history, eligible, request.count)
    items = _items(snapshot, recommender, picked, explain=request.explain)
    source = snapshot.source
    answer = Recommendations(
        recommendation_id=secrets.token_hex(16),
        release=source.release,
        variant=assigned.variant,
        fallback=fallback,
        items=items,
    )
    # Who asked to be forgotten leaves no new row with an id; the list is anybody's all the same.
    kept = request.model_copy(update={"shopper_id": None}) if forgotten else request
    inputs = kept.model_dump(mode="json", exclude_defaults=True)
    listed = [{"item_id": one.item_id, "score": one.score, "bucket": one.bucket} for one in items]
    row = {
        "recommendation_id": answer.recommendation_id,
        "time": time,
        "shopper_id": kept.shopper_id,
        "surface": request.surface,
        "variant": answer.variant,
        "fallback": fallback,
        "release": source.release,
        "release_digest": source.release_digest,
        "model_digest": snapshot.model.digest,
        "catalogue_version": snapshot.version,
        "inputs": json.dumps({"request": inputs, "shown": list(shown)}),
        "items": json.dumps(listed),
        "experiment": assigned.experiment,
    }
    return Served(answer, row)


def request_of(row: Mapping[str, Any]) -> tuple[RecommendationRequest, list[str]]:
    """Return what a list was asked for, and what had been shown before it."""
    inputs = row["inputs"]
    return RecommendationRequest.model_validate(inputs["request"]), list(inputs["shown"])


def bucket_of(snapshot: Snapshot, item: int) -> Bucket:
    """Return where an item stands among the shop's sales."""
    if not snapshot.model.ranker.sales[item]:
        return "new"
    return "tail" if snapshot.model.tail[item] else "head"


def history_of(
    recommender: Recommender, request: RecommendationRequest, is_erased: Callable[[str], bool]
) -> tuple[Histories, NDArray[np.integer], Fallback | None]:
    """Return what ranking reads, all that was bought, and why there is nothing, if so."""
    catalogue = recommender.catalogue
    nobody = typed_history([], len(catalogue))
    nothing = np.empty(0, np.int64)
    if request.shopper_id is not None:
        if is_erased(request.shopper_id) or not recommender.knows(request.shopper_id):
            return nobody, nothing, "unknown_shopper"
        history, bought = recommender.known_shopper(request.shopper_id)
        return history, bought, None if len(history.item) else "no_history"
    # What the shop no longer has says nothing; it is no mistake of the caller's.
    known = [one for one in request.history or () if one.item_id in catalogue]
    known.sort(key=lambda one: one.time.timestamp() if one.time else 0)  # stable
    items = np.array([catalogue.index_of(one.item_id) for one in known], np.int64)
    if not len(items):
        return nobody, nothing, "no_history"
    times = [one.time for one in known]
    baskets = np.arange(len(items))
    if times[0] is not None:
        baskets = np.unique([one.timestamp() for one in times if one], return_inverse=True)[1]
    item, age = latest(items, baskets)
    edges = np.array([0, len(item)], np.int64)
    return Histories(item, age, edges, len(catalogue)), items, None


def eligible_items(
    snapshot: Snapshot,
    request: RecommendationRequest,
    bought: NDArray[np.integer],
    shown: Sequence[str],
) -> NDArray[np.bool_]:
    """Return which items may be listed: bool [items].

    Raises:
        InputError: as `serve_list`.
    """
    rules, catalogue = request.filters, snapshot.model.catalogue
    filters = Filters(
        allow=rules.allow,
        deny=rules.deny,
        categories=rules.categories,
        not_categories=rules.not_categories,
        keep_bought=rules.keep_bought,
    )
    kept = filters.eligible(catalogue, bought) & snapshot.rankable
    if rules.in_stock:
        if snapshot.in_stock is None:
            raise InputError(
                "The shop has not said what is in stock; PUT /v1/stock first.",
                field="filters/in_stock",
            )
        kept &= snapshot.in_stock
    kept[[catalogue.index_of(one) for one in shown if one in catalogue]] = False
    return kept


def _items(
    snapshot: Snapshot, recommender: Recommender, picked: Picked, *, explain: bool
) -> list[RecommendedItem]:
    catalogue = snapshot.model.catalogue
    chances = [None] * len(picked.items) if picked.chances is None else picked.chances.tolist()
    found = [
        RecommendedItem(
            item_id=catalogue.items[item].item_id,
            rank=rank,
            score=score,
            chance=chance,
            bucket=bucket_of(snapshot, item),
        )
        for rank, (item, score, chance) in enumerate(
            zip(picked.items.tolist(), picked.scores.tolist(), chances, strict=True), 1
        )
    ]
    if not explain:
        return found
    for one, told in zip(found, recommender.explained(picked), strict=True):
        why = told.explanation
        history = [
            HistoryPart(
                item_id=catalogue.items[part.item].item_id,
                collaborative=part.collaborative,
                text=part.text,
            )
            for part in why.history
        ]
        one.reason, one.parts = told.because, Parts(**why.parts, history=history)
    return found
