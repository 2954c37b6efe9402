"""Rows for tests of the store: lists as the service writes them."""

import json


def list_row(name, time=0, shopper=None, *, variant="release", experiment=None, items=10):
    """A list's row; items take turns in head and tail."""
    listed = [
        {
            "item_id": f"item-{place}",
            "score": 1.0 - place / 100,
            "bucket": ("head", "tail")[place % 2],
        }
        for place in range(items)
    ]
    return {
        "recommendation_id": name,
        "time": time,
        "shopper_id": shopper,
        "surface": "home",
        "variant": variant,
        "fallback": None,
        "release": "2026.11.24",
        "release_digest": "a" * 64,
        "model_digest": "b" * 64,
        "catalogue_version": 0,
        "inputs": json.dumps({"request": {}, "shown": []}),
        "items": json.dumps(listed),
        "experiment": experiment,
    }
