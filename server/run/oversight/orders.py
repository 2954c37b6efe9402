"""What an operator asks of a run that goes on: a file in its folder, read before each round.

A command writes it and the run's own process reads it. A file that cannot be read asks nothing new.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.errors import InputError
from common.files import write_atomic

ORDERS_FILE = "orders.json"


@dataclass(frozen=True)
class Orders:
    """An operator's wishes for one run.

    Attributes:
        paused: No round begins.
        evicted: Merchants that are not asked any more, by name.
        readmitted: How often each merchant was taken back; a higher count than before wipes out
            why the run has left it out.
    """

    paused: bool = False
    evicted: frozenset[str] = frozenset()
    readmitted: tuple[tuple[str, int], ...] = ()


_READER: TypeAdapter[Orders] = TypeAdapter(Orders)


def read_orders(folder: Path | None) -> Orders | None:
    """Return the orders in a run's folder; none asked where there is no file, None if it is broken.

    A broken file must not end a run that merchants have paid for.
    """
    if folder is None:
        return Orders()
    try:
        return _READER.validate_json((folder / ORDERS_FILE).read_bytes())
    except FileNotFoundError:
        return Orders()
    except (OSError, ValidationError):
        return None


def write_orders(folder: Path, orders: Orders) -> None:
    """Write the orders for the run in `folder`.

    Raises:
        InputError: if there is no such run.
    """
    if not folder.is_dir():
        raise InputError(f"There is no run {folder.name!r}.", field="run")
    told = {**asdict(orders), "evicted": sorted(orders.evicted)}
    write_atomic(folder / ORDERS_FILE, json.dumps(told, indent=2).encode() + b"\n")
