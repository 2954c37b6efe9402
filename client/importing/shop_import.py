"""Import a shop: raw tables in, a clean `MerchantData` and its quality report out.

`read_shop` reads, cleans and counts, and writes nothing. `import_shop` also saves, and only once
everything has passed, so a failed import leaves the data set of the last good one as it was.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl

from client.importing import labels_and_reviews
from client.importing.assembly import assemble, no_events, summarise
from client.importing.coded.ids import OddIds
from client.importing.coded.raw_tables import items_and_events
from client.importing.columns import item_columns, label_columns, review_columns
from client.importing.feedback import EVENTS_FILE, read_feedback, with_feedback
from client.importing.formats.encodings import known_encoding
from client.importing.look import ImportLook
from client.importing.mapping import (
    LabelsTable,
    Mapping,
    ReviewsTable,
    load_mapping,
    microseconds,
)
from client.importing.mapping_detection import detect_mapping, find_catalogue_mapping
from client.importing.parts.csv_parts import Watch
from client.importing.quality_report import QualityReport, TableQuality, Tally, require_clean
from client.importing.rules.doubts import doubts
from client.importing.rules.ids import has_fractions
from client.importing.rules.table import Bounds, event_rules, id_rules, item_rules, run_rules
from client.importing.sources import ShopSource
from client.shop.dataset import MerchantData, save_merchant_data
from client.shop.pointer import dataset_digest
from client.shop.splitting import usual_rule
from common.errors import InputError
from common.files import PRIVATE_MODE, write_atomic

MAX_DROPPED_SHARE = 0.35  # the raw Online Retail file loses 28% of its rows, and rightly
QUALITY_FILE = "quality.json"
_CLOCK_SLACK = timedelta(days=1)  # local times read as UTC may lie up to a day ahead


@contextlib.contextmanager
def _what_the_system_refuses() -> Iterator[None]:
    """Say it in a sentence, such as that a folder may not be read."""
    try:
        yield
    except OSError as error:
        name = Path(str(error.filename)).name if error.filename else "The shop"
        raise InputError(
            f"{name}: cannot be read: {error.strerror or error}. Let whoever runs this read it.",
            field="source",
        ) from None


@_what_the_system_refuses()
def import_shop(
    source: Path | None,
    mapping: Mapping | str | Path | None,
    out: Path,
    *,
    database_url: str | None = None,
    encoding: str | None = None,
    max_dropped_share: float = MAX_DROPPED_SHARE,
    name: str | None = None,
    catalogue_only: bool = False,
    watch: Watch | None = None,
) -> tuple[MerchantData, QualityReport]:
    """Read a shop as `read_shop` does, and save the data set and `quality.json` in `out`.

    Purchases that the shop's service has events of, in `out`, join those of the tables.

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
        catalogue_only=catalogue_only,
        watch=watch,
    )
    events = out / EVENTS_FILE
    if events.is_file():
        data = with_feedback(data, read_feedback(f"sqlite:///{events.resolve()}"))
        if catalogue_only and data.split_rule.kind == "leave_last_out":
            data = replace(data, split_rule=usual_rule(data.interactions))
    try:
        save_merchant_data(data, out)
        # Written last: after a crash between the two, its digest shows that it is not of this set.
        quality = report.to_json(dataset_digest(out))
        write_atomic(out / QUALITY_FILE, quality, mode=PRIVATE_MODE)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written: {error.strerror or error}. The last data set there, if "
            "any, is as it was.",
            field="out",
        ) from None
    return data, report


@_what_the_system_refuses()
def look_at_shop(
    source: Path | None,
    mapping: Mapping | str | Path | None = None,
    *,
    database_url: str | None = None,
    encoding: str | None = None,
    catalogue_only: bool = False,
) -> ImportLook:
    """Read a shop as an import would, whatever share is dropped, and write nothing.

    Raises:
        InputError: as `read_shop`.
    """
    find = find_catalogue_mapping if catalogue_only else find_mapping
    found = find(source, mapping, encoding)
    data, report = read_shop(
        source,
        found,
        database_url=database_url,
        encoding=encoding,
        max_dropped_share=1.0,
        catalogue_only=catalogue_only,
    )
    report = replace(report, max_dropped_share=MAX_DROPPED_SHARE)
    return ImportLook(ShopSource(source, database_url, encoding).with_variants(found), data, report)


def find_mapping(
    source: Path | None, mapping: Mapping | str | Path | None, encoding: str | None
) -> Mapping:
    """Return the mapping itself, by its name or file, or the one that fits the shop's files.

    Raises:
        InputError: if there is none, or the encoding is unknown.
    """
    if encoding is not None:
        known_encoding(encoding)
    if isinstance(mapping, Mapping):
        return mapping
    if mapping is not None:
        return load_mapping(mapping)
    if source is None:
        raise InputError("A database needs a mapping; give one by name or file.", field="mapping")
    return detect_mapping(source, encoding=encoding)


@_what_the_system_refuses()
def read_shop(
    source: Path | None,
    mapping: Mapping | str | Path | None = None,
    *,
    database_url: str | None = None,
    encoding: str | None = None,
    max_dropped_share: float = MAX_DROPPED_SHARE,
    name: str | None = None,
    now: datetime | None = None,
    catalogue_only: bool = False,
    watch: Watch | None = None,
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
        catalogue_only: Read the items and no purchase, for a shop that has not sold yet.
        watch: Told how many bytes of how many of the events have been read, where they are CSV.

    Raises:
        InputError: if a file, row, column, mapping or database is not as expected, too much is
            dropped, or nothing is left. The message names the place and what to do.
    """
    if not 0 <= max_dropped_share <= 1:
        raise InputError(
            f"max_dropped_share is {max_dropped_share}; it must be from 0 to 1.",
            field="max_dropped_share",
        )
    find = find_catalogue_mapping if catalogue_only else find_mapping
    mapping = find(source, mapping, encoding)
    shop = ShopSource(source, database_url, encoding)
    mapping = shop.with_variants(mapping)
    latest = microseconds(now or datetime.now(UTC) + _CLOCK_SLACK)
    clean = _clean_items if catalogue_only else partial(_clean_tables, watch=watch)
    raw_items, items, events, qualities = clean(shop, mapping, latest, max_dropped_share)
    folder = source.resolve().name.split(".")[0] if source is not None else ""
    given = name or folder or mapping.name
    data = assemble(given, items, events, mapping)
    events = events.select("shopper_id")
    looks = doubts(raw_items, items, events, data)
    return data, summarise(data, tuple(qualities), max_dropped_share, looks)


def _clean_tables(
    shop: ShopSource,
    mapping: Mapping,
    latest: int,
    max_dropped_share: float,
    *,
    watch: Watch | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[TableQuality]]:
    """Return items as read, clean items and events, and the quality of each table read."""
    raw_items, raw_events = items_and_events(shop, mapping, watch)
    bounds = _bounds(mapping, raw_items, raw_events, latest)
    tally = Tally("items", raw_items.height)
    items = run_rules(raw_items, item_rules(bounds), tally)
    qualities = [tally.finish(items.height)]
    require_clean(qualities[0], max_dropped_share)
    bounds = replace(bounds, item_ids=items["item_id"])
    labels = None
    if mapping.labels is not None:
        labels, quality = _read_labels(shop, mapping, mapping.labels, bounds)
        require_clean(quality, max_dropped_share)
        qualities.append(quality)
        if "category" in labels.columns:
            items = labels_and_reviews.label_items(items, labels)
    if mapping.reviews is not None:
        reviews, quality = _read_reviews(shop, mapping, mapping.reviews, bounds)
        qualities.append(quality)
        items = labels_and_reviews.add_reviews(items, reviews, mapping.clean.max_text_length)
    tally = Tally("events", raw_events.height)
    rules, held = event_rules(raw_events.columns, labels, bounds), [raw_events]
    del raw_events  # the rules hold all that is left of it
    events = run_rules(held.pop(), rules, tally)
    qualities.insert(1, tally.finish(events.height))
    require_clean(qualities[1], max_dropped_share)
    return raw_items, items, events, qualities


def _clean_items(
    shop: ShopSource, mapping: Mapping, latest: int, max_dropped_share: float
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[TableQuality]]:
    """Return the same for a shop without purchases; labels and reviews wait for these."""
    place, names = mapping.items_place, mapping.items.columns()
    raw = item_columns(shop.table(mapping, "items", place, names), mapping.items)
    events = no_events()
    tally = Tally("items", raw.height)
    items = run_rules(raw, item_rules(_bounds(mapping, raw, events, latest)), tally)
    quality = tally.finish(items.height)
    require_clean(quality, max_dropped_share)
    return raw, items, events, [quality]


def _bounds(mapping: Mapping, items: pl.DataFrame, events: pl.DataFrame, latest: int) -> Bounds:
    """Return what rows are held against; an item's id is spelt alike in both tables.

    How it is spelt is read from the items alone: the catalogue is public, and what somebody bought
    must not change a letter of it.
    """
    odd = OddIds()  # a fraction has a point
    fractions: set[str] = {name for name in ("shopper_id", "order_id") if name in events.columns
                 and has_fractions(odd.texts(events, name))}  # fmt: skip
    if has_fractions(items["item_id"]):
        fractions.add("item_id")
    table = mapping.events
    return Bounds(
        mapping.clean,
        latest=latest,
        timed=table.time is not None,
        value_is_quantity=table.value is not None and table.value == table.quantity,
        fractions=fractions,
        types=table.type,
        items_from_events=mapping.items_place == table.place,
    )


def _read_labels(
    shop: ShopSource, mapping: Mapping, table: LabelsTable, bounds: Bounds
) -> tuple[pl.DataFrame, TableQuality]:
    raw = shop.table(mapping, "labels", table.place, table.columns())
    tally = Tally("labels", raw.height)
    labels = label_columns(raw, table)
    keys = [name for name in ("item_id", "shopper_id") if name in labels.columns]
    labels = run_rules(labels, id_rules(keys, bounds, "labels"), tally)
    labels = labels_and_reviews.clean_labels(labels, bounds.known, tally)
    return labels, tally.finish(labels.height)


def _read_reviews(
    shop: ShopSource, mapping: Mapping, table: ReviewsTable, bounds: Bounds
) -> tuple[pl.DataFrame, TableQuality]:
    raw = shop.table(mapping, "reviews", table.place, table.columns())
    tally = Tally("reviews", raw.height)
    reviews = run_rules(review_columns(raw, table), id_rules(["item_id"], bounds, "reviews"), tally)
    reviews = labels_and_reviews.clean_reviews(reviews, bounds.known, table, tally)
    return reviews, tally.finish(reviews.height)
