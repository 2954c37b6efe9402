"""Say by which column a data set is divided into merchants, and which one was passed over."""

from collections.abc import Iterator
from pathlib import Path

from client.importing.mapping_detection import MerchantColumns, merchant_columns
from client.importing.shop_import import find_mapping
from client.shop.dataset import MerchantData
from client.shop.pointer import POINTER
from common.errors import InputError
from simulations.data.partition import PartitionKind

_NONE = MerchantColumns(None, None, ())


def merchant_notes(
    path: Path | None, mapping: str | None, data: MerchantData, how: PartitionKind
) -> Iterator[str]:
    """Yield what to know of the columns that name a merchant: one sentence each, often none.

    Args:
        path: The raw shop or saved data set; None is the marketplace, of which nothing is said.
        mapping: As for `load_dataset`.
        data: What was read from it.
        how: The partition that is used.
    """
    if path is None:
        return
    columns = _columns(path, mapping)
    of_items = {item.merchant for item in data.catalogue.items} - {""}
    of_events = set(data.merchant_names) - {""}
    item_column, event_column = _named(columns.items), _named(columns.events)
    if how == "column" and of_items:
        yield f"Merchants are divided by {item_column} of the items, {len(of_items)} names."
    elif how == "column" and of_events:
        yield f"Merchants are divided by {event_column} of the purchases, {len(of_events)} names."
    elif of_items:
        yield _unused(item_column, "items", len(of_items))
    elif of_events:
        yield _unused(event_column, "purchases", len(of_events))
    if not of_items and not of_events:
        for file, name in columns.passed_over:
            yield (
                f"The column {name!r} of {file} looks like merchants and was not used. To divide "
                f'by it, say merchant = "{name}" in a mapping (docs/ref-mapping.md), and give it '
                "with --mapping."
            )


def _unused(column: str, table: str, names: int) -> str:
    return (
        f"{column[:1].upper()}{column[1:]} of the {table} has {names} names of merchants and was "
        "not used. To divide by it: --partition column"
    )


def _named(column: str | None) -> str:
    return "the merchant column" if column is None else f"the column {column!r}"


def _columns(path: Path, mapping: str | None) -> MerchantColumns:
    """Return the columns, none of a saved data set: it keeps names of merchants, not of columns."""
    if (path / POINTER).is_file():
        return _NONE
    try:
        return merchant_columns(path, find_mapping(path, mapping, None))
    except InputError:
        return _NONE  # it was imported before; its files have gone or changed
