"""What is in stock, from a merchant's table."""

from pathlib import Path

from client.importing.files import ROW, read_files
from client.importing.mapping import TableSource
from common.errors import InputError

_STOCK_COLUMNS = ("item_id", "quantity")


def read_stock(path: Path) -> frozenset[str]:
    """Return the ids in stock, from a table with the columns item_id and quantity.

    A row with a quantity of 0 or less is out of stock, and so is an item without a row. An id in
    several rows (warehouses) is in stock if one of them has some.

    Raises:
        InputError: if the table cannot be read, lacks a column, or a quantity is no number.
    """
    rows = read_files([path], TableSource(), _STOCK_COLUMNS, "utf-8")
    stocked = set()
    for item_id, quantity, row in rows.select(*_STOCK_COLUMNS, ROW).iter_rows():
        try:
            has_some = float(quantity) > 0
        except (TypeError, ValueError):
            raise InputError(
                f"{path.name}: quantity in row {row} is not a number.", field="stock"
            ) from None
        if has_some:
            stocked.add(str(item_id))
    return frozenset(stocked)
