"""Guess a shop's mapping from its files and their column names.

First a `mapping.toml` in the folder itself, then the ready-made mappings, of which the one wins
that names the most columns found; last, common names such as customer_id and 商品编号.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.importing.files import column_names, find_files, style_of
from client.importing.mapping import (
    MAPPING_FILE,
    EventsTable,
    ItemsTable,
    Mapping,
    TableSource,
    load_mapping,
    mapping_names,
    parse_mapping,
)
from client.importing.merchant_column import is_brand, like_merchants, merchant_column, plain
from client.importing.platforms.layouts import event_part, find_section, item_part, platform_names
from common.errors import InputError

_TABLE_ENDINGS = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
    ".pq",
    ".xml",
)
_SEPARATORS = (",", ";", "\t", "|")
_MOST_FILES = 24  # looked into when guessing

# Common names of each column, compared without case, spaces and underscores.
_COMMON = {
    "shopper_id": "shopperid userid customerid user customer buyerid memberid reviewerid 用户编号 "
    "用户id 会员编号 顾客编号 客户编号",
    "item_id": "itemid productid sku asin stockcode articleid item product goodsid 商品编号 商品id "
    "货号 产品编号",
    "title": "title name productname itemname description producttitle 商品名称 名称 标题 品名",
    "time": "timestamp time date datetime orderdate orderedat createdat purchasedat invoicedate "
    "时间 下单时间 日期 购买时间",
    "position": "position sequence step",
    "order_id": "orderid invoiceno invoice basketid transactionid 订单编号 订单号",
    "quantity": "quantity qty units 数量",
    "price": "price unitprice 单价 价格",
    "value": "rating stars score 评分",
    "category": "category categories categorypath department 类别 分类 品类",
}

# Stands where a mapping needs events. Nothing reads it: there is no such file.
NO_EVENTS = EventsTable(file=("-",), shopper_id="-", item_id="-", time="-")


def detect_mapping(source: Path, *, encoding: str | None = None) -> Mapping:
    """Return the mapping that fits the folder, or the one file, at `source`.

    Args:
        source: The shop's folder or file.
        encoding: The files' encoding, over what a mapping says.

    Raises:
        InputError: if none fits, naming the files and columns seen.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.", field="source")
    if (source / MAPPING_FILE).is_file():
        return load_mapping(source / MAPPING_FILE)
    ready = [load_mapping(name) for name in mapping_names()]
    fits = [(_columns_found(source, mapping, encoding), mapping) for mapping in ready]
    best = max(found for found, _ in fits)
    if best:
        return next(mapping for found, mapping in fits if found == best)
    seen = _look_around(source, encoding or "utf-8")
    guess = _from_platforms(source, seen) or _from_common_names(source, seen)
    if guess is not None:
        return guess
    raise InputError(
        f"{source.name}: no ready-made mapping fits and the columns have no common names. Seen: "
        f"{_listed(seen)}. Write a {MAPPING_FILE} (see docs/ref-mapping.md) or name one of: "
        f"{', '.join(mapping_names())}. Exports known without one: {', '.join(platform_names())}. "
        "A shop that has not sold yet: --catalogue-only.",
        field="mapping",
    )


@dataclass(frozen=True)
class MerchantColumns:
    """Which columns of a shop's tables name a merchant.

    Attributes:
        items: The one that the mapping has for items, None without.
        events: The same for events.
        passed_over: File and name of those that look like one and that the mapping does not use.
    """

    items: str | None
    events: str | None
    passed_over: tuple[tuple[str, str], ...]


def merchant_columns(
    source: Path, mapping: Mapping, *, encoding: str | None = None
) -> MerchantColumns:
    """Return which columns name a merchant in the folder, or the one file, at `source`."""
    used = {*mapping.items.columns(), *mapping.events.columns()}
    try:
        seen = _look_around(source, encoding or mapping.encoding)
    except InputError:
        seen = {}  # a table that is no part of the shop, and that no import reads
    passed_over = tuple(
        (path.name, name)
        for path, (_, names) in seen.items()
        for name in like_merchants(names)
        if name not in used
    )
    return MerchantColumns(mapping.items.merchant, mapping.events.merchant, passed_over)


def find_catalogue_mapping(
    source: Path | None, mapping: Mapping | str | Path | None, encoding: str | None
) -> Mapping:
    """Return a mapping whose items are the shop's; a file needs no `[events]` for it.

    Raises:
        InputError: if no table of items is found, or the mapping reads them out of the events.
    """
    found = _catalogue_mapping(source, mapping, encoding)
    if not (found.items.file or found.items.in_database):
        raise InputError(
            f"The mapping {found.name} reads its items out of the events; without purchases name "
            "a table under [items].",
            field="mapping",
        )
    return found


def detect_items(source: Path, *, encoding: str | None = None) -> ItemsTable:
    """Return the table of items in the folder, or the one file, at `source`.

    Raises:
        InputError: if none or more than one fits, naming the files and columns seen.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.", field="source")
    seen = _look_around(source, encoding or "utf-8")
    platforms = {
        path: found for path, (_, names) in seen.items() if (found := find_section("items", names))
    }
    if platforms:
        path, best = max(platforms.items(), key=lambda one: one[1].columns)
        place = {"file": path.name, "separator": seen[path][0] or None}
        return ItemsTable.model_validate(place | best.section)
    common = _common_section(ItemsTable, seen, {"item_id", "title"})
    if common is None:
        raise InputError(
            f"{source.name}: not one table with the ids and titles of items. Seen: "
            f"{_listed(seen)}. Write a {MAPPING_FILE} with [items] (see docs/ref-mapping.md).",
            field="mapping",
        )
    return ItemsTable.model_validate(common)


def _catalogue_mapping(
    source: Path | None, mapping: Mapping | str | Path | None, encoding: str | None
) -> Mapping:
    if isinstance(mapping, Mapping):
        return mapping
    if mapping is None:
        if source is None:
            raise InputError("A database needs a mapping; give one by file.", field="mapping")
        if not (source / MAPPING_FILE).is_file():
            items = detect_items(source, encoding=encoding)
            return Mapping(name=source.name.split(".")[0], items=items, events=NO_EVENTS)
        mapping = source / MAPPING_FILE
    return _loaded_catalogue_mapping(mapping)


def _loaded_catalogue_mapping(mapping: str | Path) -> Mapping:
    path = Path(mapping)
    if mapping in mapping_names() or not path.is_file():
        return load_mapping(mapping)
    text = path.read_text("utf-8")
    try:
        has_events = "events" in tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        has_events = True  # what is wrong is said as for any mapping
    if has_events:
        return parse_mapping(text, path.name)
    stand_in = '\n[events]\nfile = "-"\nshopper_id = "-"\nitem_id = "-"\ntime = "-"\n'
    return parse_mapping(text + stand_in, path.name)


def _listed(seen: dict[Path, tuple[str, list[str]]]) -> str:
    listed = "; ".join(f"{path.name}: {', '.join(names)}" for path, (_, names) in seen.items())
    return listed or "no table"


def _columns_found(source: Path, mapping: Mapping, encoding: str | None) -> int:
    """Return how many columns of `mapping` are in its files, or 0 if any is not."""
    found = 0
    items, events = mapping.items_place, mapping.events.place
    wanted = [(items, mapping.items.columns()), (events, mapping.events.columns())]
    if source.is_file() and items != events:
        return 0
    for place, columns in wanted:
        names = _names_at(source, place, encoding or mapping.encoding)
        if not set(columns) <= set(names):
            return 0
        found += len(columns)
    return found


def _names_at(source: Path, place: TableSource, encoding: str) -> list[str]:
    try:
        path = source if source.is_file() else find_files(source, place.file, "events")[0]
        return column_names(path, style_of(path, place, encoding))
    except InputError:
        return []  # not this mapping's kind of file; the next mapping may read it


def _look_around(source: Path, encoding: str) -> dict[Path, tuple[str, list[str]]]:
    """Return the separator and column names of each table file."""
    files = [source] if source.is_file() else sorted(source.iterdir())
    tables = [path for path in files if _ending(path) in _TABLE_ENDINGS and path.is_file()]
    return {path: _sniff(path, encoding) for path in tables[:_MOST_FILES]}


def _sniff(path: Path, encoding: str) -> tuple[str, list[str]]:
    """Return the separator that gives the most columns, and these."""
    style = style_of(path, TableSource(), encoding)
    if style.kind != "csv":
        return "", column_names(path, style)
    best: tuple[str, list[str]] = (",", [])
    problem: InputError | None = None
    for separator in _SEPARATORS:
        try:
            written = replace(style, csv=replace(style.csv, separator=separator))
            names = column_names(path, written)
        except InputError as error:
            problem = error
            continue
        if len(names) > len(best[1]):
            best = (separator, names)
    if not best[1] and problem is not None:
        raise problem
    return best


def _from_platforms(source: Path, seen: dict[Path, tuple[str, list[str]]]) -> Mapping | None:
    """Return the mapping of a platform's export; the other table may be one of common names."""
    found = {
        kind: {path: one for path, (_, names) in seen.items() if (one := find_section(kind, names))}
        for kind in ("items", "events")
    }
    events_path, events = max(
        found["events"].items(), key=lambda one: one[1].columns, default=(None, None)
    )
    apart = {path: one for path, one in found["items"].items() if path != events_path}
    items_path, items = max(apart.items(), key=lambda one: one[1].columns, default=(None, None))
    rest = {path: one for path, one in seen.items() if path not in (events_path, items_path)}
    if events is None and items is None:
        return None
    named = items or events
    sections: dict[str, object] = {"name": named.platform if named else source.name}
    if events is not None and events_path is not None:
        place = {"file": events_path.name, "separator": seen[events_path][0] or None}
        sections["events"] = place | event_part(events.section)
    elif (common := _common_section(EventsTable, rest, {"shopper_id", "item_id"})) is not None:
        sections["events"] = common
    if items is not None and items_path is not None:
        place = {"file": items_path.name, "separator": seen[items_path][0] or None}
        sections["items"] = place | items.section
    elif (common := _common_section(ItemsTable, rest, {"item_id", "title"})) is not None:
        sections["items"] = common
    elif events is not None and (part := item_part(events.section)) is not None:
        sections["items"] = part
    if not {"items", "events"} <= sections.keys():
        return None
    return Mapping.model_validate(sections)


def _common_section(
    model: type[TableSource], seen: dict[Path, tuple[str, list[str]]], needs: set[str]
) -> dict[str, object] | None:
    """Return the section of the one file whose common column names have all of `needs`."""
    named = {path: (mark, _named(names)) for path, (mark, names) in seen.items()}
    fits = [(path, mark, of) for path, (mark, of) in named.items() if needs <= of.keys()]
    if len(fits) != 1:
        return None
    path, mark, columns = fits[0]
    if "time" in columns:
        columns.pop("position", None)
    return _section(model, path, mark, columns)


def _from_common_names(source: Path, seen: dict[Path, tuple[str, list[str]]]) -> Mapping | None:
    """Return a mapping by common column names: events have shoppers, items have titles."""
    named = {path: (mark, _named(names)) for path, (mark, names) in seen.items()}
    events = [one for one in named.items() if {"shopper_id", "item_id"} <= one[1][1].keys()]
    items = [one for one in named.items() if {"item_id", "title"} <= one[1][1].keys()]
    apart = [one for one in items if one not in events]
    if len(events) != 1 or len(apart or items) != 1:
        return None
    (events_path, (events_mark, of_event)), (items_path, (items_mark, of_item)) = (
        events[0], (apart or items)[0],
    )  # fmt: skip
    if "time" in of_event:
        of_event.pop("position", None)
    elif "position" not in of_event:
        return None
    if is_brand(of_item.get("merchant", "")) and not is_brand(of_event.get("merchant", "brand")):
        of_item.pop("merchant")  # the events name who sold it, and that is the merchant
    sections = {
        "items": _section(ItemsTable, items_path, items_mark, of_item),
        "events": _section(EventsTable, events_path, events_mark, of_event),
    }
    return Mapping.model_validate({"name": source.name.split(".")[0], **sections})


def _section(
    model: type[TableSource], path: Path, separator: str, columns: dict[str, str]
) -> dict[str, object]:
    known = {key: column for key, column in columns.items() if key in model.model_fields}
    return {"file": path.name, "separator": separator or None, **known}


def _named(names: Sequence[str]) -> dict[str, str]:
    """Return which of `names` is which column, by the first common name that is there."""
    there = {plain(name): name for name in reversed(names)}
    found = {}
    for column, words in _COMMON.items():
        hit = next((there[word] for word in words.split() if word in there), None)
        if hit is not None:
            found[column] = hit
    merchant = merchant_column(names)
    if merchant is not None and merchant not in found.values():
        found["merchant"] = merchant
    return found


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix
