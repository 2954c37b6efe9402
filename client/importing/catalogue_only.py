"""A shop on its first day: items and no purchase yet. It ranks by titles and a release."""

import tomllib
from pathlib import Path

import polars as pl

from client.importing.mapping import (
    MAPPING_FILE,
    EventsTable,
    Mapping,
    load_mapping,
    mapping_names,
    parse_mapping,
)
from client.importing.mapping_detection import detect_items
from common.errors import InputError

# Stands where a mapping needs events. Nothing reads it: there is no such file.
NO_EVENTS = EventsTable(file=("-",), shopper_id="-", item_id="-", time="-")


def find_catalogue_mapping(
    source: Path | None, mapping: Mapping | str | Path | None, encoding: str | None
) -> Mapping:
    """Return a mapping whose items are the shop's; a file needs no `[events]` for it.

    Raises:
        InputError: if no table of items is found, or the mapping reads them out of the events.
    """
    found = _found(source, mapping, encoding)
    if not (found.items.file or found.items.in_database):
        raise InputError(
            f"The mapping {found.name} reads its items out of the events; without purchases name "
            "a table under [items].",
            field="mapping",
        )
    return found


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


def _found(
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
    return _loaded(mapping)


def _loaded(mapping: str | Path) -> Mapping:
    path = Path(mapping)
    if mapping in mapping_names() or not path.is_file():
        return load_mapping(mapping)
    text = path.read_text("utf-8")
    try:
        has_events = "events" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        has_events = True  # what is wrong is said as for any mapping
    if has_events:
        return parse_mapping(text, path.name)
    stand_in = '\n[events]\nfile = "-"\nshopper_id = "-"\nitem_id = "-"\ntime = "-"\n'
    return parse_mapping(text + stand_in, path.name)
