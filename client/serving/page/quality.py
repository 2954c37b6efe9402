"""The data behind the lists: what the import dropped and why, and what the catalogue lacks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.serving.live_shop import Snapshot

QUALITY_FILE = "quality.json"  # in the shop's folder, as `client import` wrote it


@dataclass(frozen=True)
class RuleCount:
    """What one rule did to a table: `kind` is dropped, merged, changed or left_out."""

    kind: str
    rule: str
    rows: int
    share: float


@dataclass(frozen=True)
class TableCounts:
    """Rows of one table, read and kept, and each rule that found some."""

    table: str
    read: int
    kept: int
    rules: tuple[RuleCount, ...]


@dataclass(frozen=True)
class Quality:
    """An import's counts.

    Attributes:
        tables: One for each table read.
        doubts: What to look at, as the import said it.
        shoppers: Shoppers with a purchase.
        interactions: Purchases.
        of_this_model: Whether the model was fitted on just this import; False: fit again.
    """

    tables: tuple[TableCounts, ...]
    doubts: tuple[str, ...]
    shoppers: int
    interactions: int
    of_this_model: bool


@dataclass(frozen=True)
class CatalogueCounts:
    """What the catalogue in use lacks.

    Attributes:
        items: Products.
        title_only: Those whose text says no more than the title.
        no_category: Those without a category.
        unsold: Those that nobody bought yet.
    """

    items: int
    title_only: int
    no_category: int
    unsold: int


def read_quality(shop: Path, data_digest: str) -> Quality | None:
    """Return the report of the shop's last import; None if there is none, or it cannot be read."""
    try:
        found = json.loads((shop / QUALITY_FILE).read_bytes())
        return Quality(
            tuple(_table(one) for one in found["tables"]),
            tuple(str(one) for one in found["doubts"]),
            int(found["shoppers"]),
            int(found["interactions"]),
            found["dataset_sha256"] == data_digest,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def count_catalogue(snapshot: Snapshot) -> CatalogueCounts:
    """Return what the catalogue in use lacks."""
    items = snapshot.model.catalogue.items
    return CatalogueCounts(
        len(items),
        sum(one.text.strip() in {"", one.title.strip()} for one in items),
        sum(not one.category for one in items),
        int((snapshot.model.ranker.sales == 0).sum()),
    )


def _table(found: Mapping[str, Any]) -> TableCounts:
    read = int(found["rows_read"])
    rules = [
        RuleCount(kind, rule, int(rows), int(rows) / max(read, 1))
        for kind in ("dropped", "merged", "changed", "left_out")
        for rule, rows in found.get(kind, {}).items()
        if rows
    ]
    return TableCounts(str(found["table"]), read, int(found["rows_kept"]), tuple(rules))
