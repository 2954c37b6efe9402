"""Put clean tables together: the catalogue, the interactions and the split rule."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from client.importing.coded.ids import places, texts
from client.importing.mapping import Mapping
from client.importing.quality_report import Doubt, QualityReport, TableQuality
from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from client.shop.splitting import SplitRule, split_interactions, usual_rule
from common.catalogue import Catalogue, Item
from common.errors import InputError

HEAD_SHARES = (0.01, 0.05, 0.2, 0.5)  # of items, for the curve of head and tail


def assemble(
    name: str, items: pl.DataFrame, events: pl.DataFrame, mapping: Mapping
) -> MerchantData:
    """Return the data of clean `items`, sorted by id, and clean `events` with numbered baskets.

    Items that nobody bought stay, as cold items, unless the mapping says otherwise: new goods are
    what a recommender for the long tail is for, and the catalogue is public.

    Raises:
        InputError: if no purchase lies before the validation period.
    """
    if not mapping.clean.keep_unsold_items:
        items = items.filter(pl.col("item_id").is_in(texts(events["item_id"]).implode()))
    wording = items.select("item_id", "title", "text", pl.col("category", "merchant").fill_null(""))
    catalogue = Catalogue(tuple(Item(*row) for row in wording.iter_rows()))
    shoppers = texts(events["shopper_id"]).sort()
    has_value = "value" in events.columns
    interactions = Interactions(
        shopper_ids=tuple(shoppers),
        item_count=len(catalogue),
        shopper=places(events["shopper_id"], shoppers),
        item=places(events["item_id"], items["item_id"]),
        time=events["time"].to_numpy(),
        basket=events["basket"].to_numpy(),
        value=(
            events["value"].cast(pl.Float32).to_numpy()
            if has_value
            else np.ones(events.height, dtype=np.float32)
        ),
        timed=mapping.events.time is not None,
    )
    rule = mapping.split.rule() if mapping.split else usual_rule(interactions)
    _require_training(interactions, rule)
    declared = mapping.declares_catalogue
    if "merchant" not in events.columns:
        return MerchantData(name, catalogue, interactions, rule, catalogue_declared=declared)
    named = events["merchant"].fill_null("")
    names = texts(named).sort()
    merchant = places(named, names)
    return MerchantData(name, catalogue, interactions, rule, merchant, tuple(names), declared)


def no_events() -> pl.DataFrame:
    """Return clean events, of which there are none."""
    return pl.DataFrame(
        schema={
            "shopper_id": pl.String,
            "item_id": pl.String,
            "time": pl.Int64,
            "basket": pl.Int32,
        }
    )


def summarise(
    data: MerchantData,
    tables: tuple[TableQuality, ...],
    max_dropped_share: float,
    doubts: Sequence[Doubt] = (),
) -> QualityReport:
    """Return the report of an import that ended in `data`."""
    rows = data.interactions
    sold = len(np.unique(rows.item))
    return QualityReport(
        name=data.name,
        tables=tables,
        shoppers=len(np.unique(rows.shopper)),
        items=len(data.catalogue),
        unsold_items=len(data.catalogue) - sold,
        interactions=len(rows),
        pairs=rows.matrix().nnz,
        catalogue_declared=data.catalogue_declared,
        periods=_by_month(rows),
        parts=_parts(data),
        head=_head(rows),
        doubts=tuple(doubts),
        max_dropped_share=max_dropped_share,
    )


def _by_month(rows: Interactions) -> dict[str, int]:
    if not rows.timed:
        return {}
    months, counts = np.unique(rows.time.astype("M8[us]").astype("M8[M]"), return_counts=True)
    return dict(zip(np.datetime_as_string(months).tolist(), counts.tolist(), strict=True))


def _parts(data: MerchantData) -> dict[str, int]:
    split = split_interactions(data.interactions, data.split_rule)
    parts = {"to train": split.train, "to validate": split.valid, "to test": split.test}
    return {name: len(part) for name, part in parts.items()}


def _head(rows: Interactions) -> dict[str, float]:
    """Return which share of purchases the best-sold items have, by their share of all items."""
    sold = np.sort(np.bincount(rows.item, minlength=rows.item_count))[::-1]
    return {
        f"{top:.0%}": float(sold[: max(round(top * len(sold)), 1)].sum() / max(len(rows), 1))
        for top in HEAD_SHARES
    }


def _require_training(interactions: Interactions, rule: SplitRule) -> None:
    if not len(interactions):
        return  # a shop that has not sold yet
    if rule.kind == "time" and int(interactions.time.min()) >= rule.valid_from:
        first, start = (
            datetime.fromtimestamp(moment / 1e6, UTC).date()
            for moment in (int(interactions.time.min()), rule.valid_from)
        )
        raise InputError(
            f"[split] leaves nothing to train on: valid_from is {start} and the first event is of "
            f"{first}; set later dates.",
            field="valid_from",
        )
