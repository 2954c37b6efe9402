"""Import a shop: raw tables in, a clean `MerchantData` and its quality report out.

`read_shop` reads, cleans and counts, and writes nothing. `import_shop` also saves, and only once
everything has passed, so a failed import leaves the data set of the last good one as it was.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from client.importing import cleaning, labels_and_reviews
from client.importing.assembly import assemble, summarise
from client.importing.columns import event_columns, item_columns, label_columns, review_columns
from client.importing.mapping import (
    CleanRules,
    LabelsTable,
    Mapping,
    ReviewsTable,
    load_mapping,
    microseconds,
)
from client.importing.mapping_detection import detect_mapping
from client.importing.quality_report import QualityReport, TableQuality, Tally, require_clean
from client.importing.sources import ShopSource
from client.shop.dataset import MerchantData, dataset_digest, save_merchant_data
from common.errors import InputError
from common.files import PRIVATE_MODE, write_atomic

MAX_DROPPED_SHARE = 0.35  # the raw Online Retail file loses 28% of its rows, and rightly
QUALITY_FILE = "quality.json"
_CLOCK_SLACK = timedelta(days=1)  # local times read as UTC may lie up to a day ahead


def import_shop(
    source: Path | None,
    mapping: Mapping | str | Path | None,
    out: Path,
    *,
    database_url: str | None = None,
    encoding: str | None = None,
    max_dropped_share: float = MAX_DROPPED_SHARE,
    name: str | None = None,
) -> tuple[MerchantData, QualityReport]:
    """Read a shop as `read_shop` does, and save the data set and `quality.json` in `out`.

    Raises:
        InputError: as `read_shop`, or if `out` is the shop's own folder; `out` is then as it was.
    """
    if source is not None and out.resolve() == source.resolve():
        raise InputError(
            f"{out.name}: is the shop's own folder; import into another one.", field="out"
        )
    data, report = read_shop(
        source,
        mapping,
        database_url=database_url,
        encoding=encoding,
        max_dropped_share=max_dropped_share,
        name=name,
    )
    save_merchant_data(data, out)
    # Written last: after a crash between the two, its digest shows that it is not of this set.
    quality = report.to_json(dataset_digest(out))
    write_atomic(out / QUALITY_FILE, quality, mode=PRIVATE_MODE)
    return data, report


def read_shop(
    source: Path | None,
    mapping: Mapping | str | Path | None = None,
    *,
    database_url: str | None = None,
    encoding: str | None = None,
    max_dropped_share: float = MAX_DROPPED_SHARE,
    name: str | None = None,
    now: datetime | None = None,
) -> tuple[MerchantData, QualityReport]:
    """Read, clean and count one shop, and write nothing.

    Args:
        source: The shop's folder, or one file with both items and events, or None for a database.
        mapping: A mapping, the name of a ready-made one, or a mapping file. None guesses from the
            column names in `source`.
        database_url: A SQLAlchemy address, for a mapping with `table` or `query`.
        encoding: The files' encoding, over what the mapping says.
        max_dropped_share: The import fails when a larger share of a table's rows is dropped.
        name: The data set's name; by default the folder's, else the mapping's.
        now: Later events are refused; by default a day from now.

    Raises:
        InputError: if a file, row, column, mapping or database is not as expected, too much is
            dropped, or nothing is left. The message names the place and what to do.
    """
    if not 0 <= max_dropped_share <= 1:
        raise InputError(
            f"max_dropped_share is {max_dropped_share}; it must be from 0 to 1.",
            field="max_dropped_share",
        )
    if mapping is None:
        if source is None:
            raise InputError(
                "A database needs a mapping; give one by name or file.", field="mapping"
            )
        mapping = detect_mapping(source, encoding=encoding)
    elif not isinstance(mapping, Mapping):
        mapping = load_mapping(mapping)
    shop = ShopSource(source, database_url, encoding)
    latest = microseconds(now or datetime.now(UTC) + _CLOCK_SLACK)
    items, events, qualities = _clean_tables(shop, mapping, latest, max_dropped_share)
    folder = source.resolve().name.split(".")[0] if source is not None else ""
    given = name or folder or mapping.name
    data = assemble(given, items, events, mapping)
    return data, summarise(data, tuple(qualities), max_dropped_share)


@dataclass(frozen=True)
class _Bounds:
    """What events are held against: the rules, the catalogue's ids and the latest possible time."""

    rules: CleanRules
    item_ids: pl.Series
    latest: int
    timed: bool
    value_is_quantity: bool


def _clean_tables(
    shop: ShopSource, mapping: Mapping, latest: int, max_dropped_share: float
) -> tuple[pl.DataFrame, pl.DataFrame, list[TableQuality]]:
    """Return clean items and events, and the quality of each table read."""
    raw_items, raw_events = shop.items_and_events(mapping)
    tally = Tally("items", raw_items.height)
    items = _clean_items(item_columns(raw_items, mapping.items), mapping.clean, tally)
    qualities = [tally.finish(items.height)]
    require_clean(qualities[0], max_dropped_share)
    item_ids = items["item_id"]
    labels = None
    if mapping.labels is not None:
        labels, quality = _read_labels(shop, mapping, mapping.labels, item_ids)
        require_clean(quality, max_dropped_share)
        qualities.append(quality)
        if "category" in labels.columns:
            items = labels_and_reviews.label_items(items, labels)
    if mapping.reviews is not None:
        reviews, quality = _read_reviews(shop, mapping, mapping.reviews, item_ids)
        qualities.append(quality)
        items = labels_and_reviews.add_reviews(items, reviews, mapping.clean.max_text_length)
    tally = Tally("events", raw_events.height)
    table = mapping.events
    bounds = _Bounds(
        mapping.clean,
        item_ids,
        latest,
        timed=table.time is not None,
        value_is_quantity=table.value is not None and table.value == table.quantity,
    )
    events = _clean_events(event_columns(raw_events, table), labels, bounds, tally)
    qualities.insert(1, tally.finish(events.height))
    require_clean(qualities[1], max_dropped_share)
    return items, events, qualities


def _read_labels(
    shop: ShopSource, mapping: Mapping, table: LabelsTable, item_ids: pl.Series
) -> tuple[pl.DataFrame, TableQuality]:
    raw = shop.table(mapping, "labels", table.place, table.columns())
    tally = Tally("labels", raw.height)
    labels = labels_and_reviews.clean_labels(label_columns(raw, table), item_ids, tally)
    return labels, tally.finish(labels.height)


def _read_reviews(
    shop: ShopSource, mapping: Mapping, table: ReviewsTable, item_ids: pl.Series
) -> tuple[pl.DataFrame, TableQuality]:
    raw = shop.table(mapping, "reviews", table.place, table.columns())
    tally = Tally("reviews", raw.height)
    reviews = labels_and_reviews.clean_reviews(review_columns(raw, table), item_ids, table, tally)
    return reviews, tally.finish(reviews.height)


def _clean_items(items: pl.DataFrame, rules: CleanRules, tally: Tally) -> pl.DataFrame:
    filled = cleaning.drop_blank_rows(items, items.columns)
    items = tally.drop("blank_rows", items, filled)
    items = cleaning.weigh_repeated_rows(items)
    items = tally.change("tidy_ids", items, cleaning.tidy_ids(items, ["item_id"]))
    items = tally.drop("missing_ids", items, cleaning.drop_missing_ids(items, ["item_id"]))
    if rules.product_code is not None:
        products = cleaning.drop_non_products(items, rules.product_code)
        items = tally.drop("non_product_codes", items, products)
    words = ["title", "text", "category", "merchant"]
    items = labels_and_reviews.clean_text(items, words, rules.max_text_length, tally)
    items = tally.drop("missing_text", items, cleaning.drop_missing_text(items))
    items = tally.change("title_from_text", items, cleaning.title_from_text(items))
    return tally.merge("same_item", items, cleaning.merge_same_item(items))


def _clean_events(
    events: pl.DataFrame, labels: pl.DataFrame | None, bounds: _Bounds, tally: Tally
) -> pl.DataFrame:
    ids = ["shopper_id", "item_id"]
    optional_ids = [name for name in ("order_id",) if name in events.columns]
    given = [name for name in events.columns if name != "cancelled"]
    events = tally.drop("blank_rows", events, cleaning.drop_blank_rows(events, given))
    events = tally.change("tidy_ids", events, cleaning.tidy_ids(events, ids + optional_ids))
    events = tally.drop("missing_ids", events, cleaning.drop_missing_ids(events, ids))
    distinct = cleaning.drop_exact_duplicates(events, events.columns)
    events = tally.drop("exact_duplicates", events, distinct)
    if "cancelled" in events.columns:
        events = tally.drop("cancelled_orders", events, cleaning.drop_cancelled(events))
    if bounds.rules.product_code is not None:
        products = cleaning.drop_non_products(events, bounds.rules.product_code)
        events = tally.drop("non_product_codes", events, products)
    for name in ("quantity", "price"):
        if name in events.columns:
            positive = cleaning.drop_not_positive(events, name)
            events = tally.drop(f"non_positive_{name}", events, positive)
    events = _clean_times(events, bounds, tally)
    events = tally.drop(
        "unknown_items", events, cleaning.drop_unknown_items(events, bounds.item_ids)
    )
    events = _clean_quantities(events, bounds.rules, tally)
    if bounds.value_is_quantity:
        events = events.with_columns(pl.col("quantity").alias("value"))
    if labels is not None and "value" in labels.columns:
        if "value" not in events.columns:
            events = events.with_columns(pl.lit(1.0).alias("value"))
        events = tally.change(
            "labelled_values", events, labels_and_reviews.label_events(events, labels)
        )
    if "value" in events.columns:
        events = tally.drop("missing_value", events, cleaning.drop_unreadable(events, "value"))
    if "merchant" in events.columns:
        events = tally.change("white_space", events, cleaning.fold_spaces(events, ["merchant"]))
    events = cleaning.number_baskets(events)
    return tally.merge("same_basket_item", events, cleaning.merge_basket_rows(events))


def _clean_times(events: pl.DataFrame, bounds: _Bounds, tally: Tally) -> pl.DataFrame:
    what = "time" if bounds.timed else "position"
    readable = cleaning.drop_unreadable(events, "time")
    events = tally.drop(f"malformed_{what}", events, readable)
    if bounds.timed:
        possible = cleaning.drop_impossible_times(events, bounds.latest)
        events = tally.drop("impossible_time", events, possible)
    return events


def _clean_quantities(events: pl.DataFrame, rules: CleanRules, tally: Tally) -> pl.DataFrame:
    if "quantity" not in events.columns or rules.outlier_quantity == "keep":
        return events
    if rules.outlier_quantity == "drop":
        usual = cleaning.drop_outlier_quantities(events)
        return tally.drop("outlier_quantity", events, usual)
    return tally.change("outlier_quantity", events, cleaning.cap_outlier_quantities(events))
