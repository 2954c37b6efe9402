"""Make a served list again from its row, and say whether it is the same, score by score."""

import json
from pathlib import Path
from typing import Any

from client.recommending.model_history import model_named
from client.recommending.shop_model import load_shop_model
from client.serving.experiments.arms import Assigned, with_arm
from client.serving.feedback.store import Store
from client.serving.lists import request_of, serve_list
from client.serving.live_shop import snapshot_of
from common.errors import InputError


def replay(store: Store, recommendation_id: str, model: Path) -> dict[str, Any]:
    """Return a list's release, inputs and exact parts.

    Args:
        store: That the list was written to.
        recommendation_id: Its id.
        model: The folder of the shop model that served it, or that keeps it.

    Returns:
        A JSON object: `same` is whether items and scores are those that were served.

    Raises:
        InputError: if there is no such list, or the model is another one.
    """
    row = store.find_list(recommendation_id)
    if row is None:
        raise InputError(
            "The store has no list of that id; a shopper's lists go when they are forgotten.",
            field="recommendation_id",
        )
    kept = load_shop_model(model, manifest=model_named(model, row["model_digest"]))
    if kept.digest != row["model_digest"]:
        raise InputError(
            f"The list was served from the model {row['model_digest']}, and {model.name} holds "
            f"{kept.digest}; give the folder of the former.",
            field="model",
        )
    snapshot = snapshot_of(kept, store.changes(until=row["catalogue_version"]))
    snapshot = with_arm(snapshot, row["variant"])
    request, shown = request_of(row)
    explained = request.model_copy(update={"explain": True})
    forgotten = row["fallback"] == "unknown_shopper"
    again = serve_list(
        snapshot,
        explained,
        row["time"],
        is_erased=lambda _: forgotten,
        shown=shown,
        assigned=Assigned(row["variant"]),
    )
    same = json.loads(again.row["items"]) == row["items"]
    names = ("time", "surface", "variant", "fallback", "release", "release_digest", "model_digest")
    return {
        "recommendation_id": recommendation_id,
        "same": same,
        **{name: row[name] for name in names},
        "catalogue_version": row["catalogue_version"],
        "inputs": row["inputs"],
        "items": [one.model_dump(mode="json") for one in again.answer.items],
    }
