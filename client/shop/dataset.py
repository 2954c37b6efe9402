"""One merchant's clean data on disk, replaced as a whole or not at all.

The tables go to files whose names carry their own digest; `dataset.json` names them and is renamed
into place last. Whatever stops the writer before that leaves the old set, complete.
"""

import contextlib
import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.shop.interactions import Interactions
from client.shop.pointer import POINTER
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from common.errors import InputError
from common.files import PRIVATE_MODE, PUBLIC_MODE, sha256_hex, write_atomic

_FORMAT = 2
_WITHOUT_DECLARATION = 1  # the format before `catalogue_declared`, still read
_POINTER_KEYS = {
    "format", "name", "timed", "split_rule", "merchant_names", "catalogue_declared", "import_id",
    "files",
}  # fmt: skip
_TABLES = ("catalogue", "interactions", "shoppers")
_ITEM_COLUMNS = ("item_id", "title", "text", "category", "merchant")
_catalogues: WeakValueDictionary[str, Catalogue] = WeakValueDictionary()  # by their file's SHA-256


@dataclass(frozen=True, eq=False)
class MerchantData:
    """All that is known of one merchant, or of a data set not yet divided into merchants.

    Attributes:
        name: The data set's or merchant's name.
        catalogue: Its items, sorted by item id.
        interactions: Its clean purchases.
        split_rule: How they are divided into training, validation and test.
        event_merchant: int32 [n] beside the interactions, index into `merchant_names`, where the
            events name a seller or country; else None.
        merchant_names: The names, sorted; "" stands for events that name none.
        catalogue_declared: Whether the items came from an item list of their own, whole. False if
            they were learnt from purchases (read out of the events, or cut to what was sold): such
            a catalogue tells what somebody bought, so it is not public. Itself a public fact.
        import_id: The import that it was read from, 32 hex digits drawn by chance as it was saved,
            so that two imports of the same rows have two; empty for a set that was never saved.

    Raises:
        InputError: if the parts do not fit each other.
    """

    name: str
    catalogue: Catalogue
    interactions: Interactions
    split_rule: SplitRule
    event_merchant: NDArray[np.int32] | None = None
    merchant_names: tuple[str, ...] = ()
    catalogue_declared: bool = False
    import_id: str = ""

    def __post_init__(self) -> None:
        if self.interactions.item_count != len(self.catalogue):
            raise InputError(
                f"The interactions point into {self.interactions.item_count} items; the catalogue "
                f"has {len(self.catalogue)}.",
                field="item_count",
            )
        if self.split_rule.kind == "time" and not self.interactions.timed:
            raise InputError("A split by time needs clock times; these have none.", field="kind")
        names = self.event_merchant
        if names is None:
            return
        if len(names) != len(self.interactions):
            raise InputError("event_merchant and interactions differ in length.", field="merchant")
        if len(names) and not 0 <= names.min() <= names.max() < len(self.merchant_names):
            raise InputError("event_merchant points outside merchant_names.", field="merchant")


def save_merchant_data(data: MerchantData, folder: Path) -> None:
    """Write `data` into `folder` as the set that `load_merchant_data` reads.

    A crash at any moment leaves the old set usable as a whole; files that no set names any more
    are removed by the next save. Only the owner may read purchases and shopper ids.
    """
    contents = {name: _parquet(frame) for name, frame in _frames(data).items()}
    named = {
        name: f"{name}-{sha256_hex(content)[:16]}.parquet" for name, content in contents.items()
    }
    pointer = {
        "format": _FORMAT,
        "name": data.name,
        "timed": data.interactions.timed,
        "split_rule": asdict(data.split_rule),
        "merchant_names": None if data.event_merchant is None else data.merchant_names,
        "catalogue_declared": data.catalogue_declared,
        "import_id": secrets.token_hex(16),
        "files": {
            name: {"name": named[name], "sha256": sha256_hex(content)}
            for name, content in contents.items()
        },
    }
    before = {path.name for path in folder.glob("*.parquet")}
    try:
        for name, content in contents.items():
            mode = PUBLIC_MODE if name == "catalogue" else PRIVATE_MODE
            write_atomic(folder / named[name], content, mode=mode)
        write_atomic(folder / POINTER, json.dumps(pointer, indent=2, ensure_ascii=False).encode())
    except OSError:  # a full disk, say: what is new and no set names goes again
        for name in set(named.values()) - before:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        raise
    _remove_unnamed(folder, set(named.values()))


def load_merchant_data(folder: Path) -> MerchantData:
    """Read the set that `save_merchant_data` wrote last.

    Raises:
        InputError: if there is none, or one of its files is missing, altered or of another format.
    """
    try:
        return _load(folder)
    except FileNotFoundError:
        pass  # a save may have replaced the set between our two reads: look once more
    try:
        return _load(folder)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder.name}: no data set here ({Path(error.filename).name} is missing); import the "
            "shop first.",
            field="dataset",
        ) from None


def _frames(data: MerchantData) -> dict[str, pl.DataFrame]:
    items = data.catalogue.items
    catalogue = pl.DataFrame(
        {name: [getattr(item, name) for item in items] for name in _ITEM_COLUMNS},
        schema=dict.fromkeys(_ITEM_COLUMNS, pl.String),
    )
    rows = data.interactions
    columns: dict[str, NDArray[Any]] = {
        "shopper": rows.shopper,
        "item": rows.item,
        "time": rows.time,
        "basket": rows.basket,
        "value": rows.value,
    }
    if data.event_merchant is not None:
        columns["merchant"] = data.event_merchant
    shoppers = pl.DataFrame({"shopper_id": rows.shopper_ids}, schema={"shopper_id": pl.String})
    return {"catalogue": catalogue, "interactions": pl.DataFrame(columns), "shoppers": shoppers}


def _parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def _remove_unnamed(folder: Path, named: set[str]) -> None:
    for table in _TABLES:
        for path in folder.glob(f"{table}-*.parquet"):
            if path.name not in named:
                with contextlib.suppress(OSError):  # the next save tries again
                    path.unlink()


def _load(folder: Path) -> MerchantData:
    pointer = _read_pointer(folder / POINTER)
    frames = {name: _read_frame(folder, pointer["files"][name]) for name in _TABLES}
    catalogue = _catalogue(pointer["files"]["catalogue"]["sha256"], frames["catalogue"])
    rows = frames["interactions"]
    names = pointer["merchant_names"]
    return MerchantData(
        name=pointer["name"],
        catalogue=catalogue,
        interactions=Interactions(
            shopper_ids=tuple(frames["shoppers"]["shopper_id"]),
            item_count=len(catalogue),
            shopper=rows["shopper"].to_numpy(),
            item=rows["item"].to_numpy(),
            time=rows["time"].to_numpy(),
            basket=rows["basket"].to_numpy(),
            value=rows["value"].to_numpy(),
            timed=pointer["timed"],
        ),
        split_rule=SplitRule(**pointer["split_rule"]),
        event_merchant=None if names is None else rows["merchant"].to_numpy(),
        merchant_names=tuple(names or ()),
        catalogue_declared=pointer["catalogue_declared"],
        import_id=pointer["import_id"],
    )


def _catalogue(sha256: str, frame: pl.DataFrame) -> Catalogue:
    """Return the catalogue of a checked file: a thousand shops of one process hold it once."""
    found = _catalogues.get(sha256)
    if found is None:
        found = Catalogue(tuple(Item(*row) for row in frame.iter_rows()))
        _catalogues[sha256] = found
    return found


def _read_pointer(path: Path) -> dict[str, Any]:
    try:
        pointer = json.loads(path.read_bytes())
    except ValueError:
        pointer = None
    if isinstance(pointer, dict) and pointer.get("format") == _WITHOUT_DECLARATION:
        # Written before the fact was kept: what nobody declared counts as learnt.
        pointer = {**pointer, "format": _FORMAT, "catalogue_declared": False, "import_id": "0" * 32}
    if not isinstance(pointer, dict) or pointer.keys() != _POINTER_KEYS:
        raise InputError(f"{path.name}: not a data set; import the shop again.", field="dataset")
    if pointer["format"] != _FORMAT:
        raise InputError(
            f"{path.name}: format {pointer['format']!r}; this version reads {_FORMAT}. Import the "
            "shop again.",
            field="format",
        )
    return pointer


def _read_frame(folder: Path, entry: Mapping[str, str]) -> pl.DataFrame:
    content = (folder / entry["name"]).read_bytes()
    if sha256_hex(content) != entry["sha256"]:
        raise InputError(
            f"{entry['name']}: was altered since it was imported; import the shop again.",
            field="dataset",
        )
    return pl.read_parquet(io.BytesIO(content))
