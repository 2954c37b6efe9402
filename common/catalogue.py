"""The public side of a shop: its items, their text, and how often each sold in the training period.

A catalogue holds no shopper. It is public by declaration: whatever is computed from it alone
(item vectors, whitening, a LoRA basis) costs no privacy.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.files import write_atomic

LONGEST_TEXT = 1_000_000  # characters of a field
TAIL_SHARE = 0.8  # the tail is all items outside the top 20% by training count


@dataclass(frozen=True, slots=True)
class Item:
    """One product. `text` is what the encoder reads; `title` is what a person reads."""

    item_id: str
    title: str
    text: str
    category: str = ""
    merchant: str = ""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items in a fixed order; an item's place in it is its index everywhere else.

    Raises:
        InputError: if two items share an `item_id`, or the catalogue is empty.
    """

    items: tuple[Item, ...]
    _index: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {item.item_id: place for place, item in enumerate(self.items)}
        if not index:
            raise InputError("The catalogue has no items; at least one is needed.", field="items")
        if len(index) != len(self.items):
            raise InputError("Two items share an item_id; each must be unique.", field="item_id")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.items)

    def index_of(self, item_id: str) -> int:
        """Return an item's index.

        Raises:
            InputError: if the catalogue has no such item.
        """
        try:
            return self._index[item_id]
        except KeyError:
            raise InputError(
                f"The catalogue of {len(self)} items has no item_id {item_id!r}.", field="item_id"
            ) from None

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._index

    @property
    def texts(self) -> list[str]:
        """The text the encoder reads, by item index."""
        return [item.text for item in self.items]

    def take(self, indices: Iterable[int]) -> "Catalogue":
        """Return the catalogue of the items at `indices`, in that order."""
        return Catalogue(tuple(self.items[place] for place in indices))

    @cached_property
    def places_by_category(self) -> Mapping[str, NDArray[np.int64]]:
        """The indices of each category's items; "" is that of items without one."""
        names = np.array([item.category for item in self.items], dtype=object)
        order = np.argsort(names, kind="stable")
        known, starts = np.unique(names[order], return_index=True)
        return dict(zip(known.tolist(), np.split(order, starts[1:]), strict=True))

    @cached_property
    def text_keys(self) -> NDArray[np.uint64]:
        """One number per item that equals another merchant's exactly when their texts are equal."""
        digests = (hashlib.sha256(item.text.encode()).digest()[:8] for item in self.items)
        return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids and texts in order: the key of everything computed from them."""
        hasher = hashlib.sha256()
        for item in self.items:
            for part in (item.item_id, item.text):
                encoded = part.encode()
                hasher.update(len(encoded).to_bytes(4, "big"))
                hasher.update(encoded)
        return hasher.hexdigest()


def merge_catalogues(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return one catalogue with each distinct text once, in order of first sight."""
    seen: dict[str, Item] = {}
    for catalogue in catalogues:
        for item in catalogue.items:
            if item.text not in seen:
                seen[item.text] = Item(
                    f"{len(seen)}", item.title, item.text, item.category, item.merchant
                )
    return Catalogue(tuple(seen.values()))


@dataclass(frozen=True, eq=False)
class Buckets:
    """Which items are head, tail and cold, as boolean arrays by item index.

    head: the top 20% of items by training count. tail: all others, cold ones included.
    cold: no training interaction at all. tail_by_volume: the items that remain once the most
    sold ones, which together make 80% of the interactions, are taken away.
    """

    head: NDArray[np.bool_]
    tail: NDArray[np.bool_]
    cold: NDArray[np.bool_]
    tail_by_volume: NDArray[np.bool_]


def popularity_buckets(counts: NDArray[np.integer]) -> Buckets:
    """Split items by their training `counts` [items]; ties go to the lower item index."""
    order = np.argsort(-counts, kind="stable")
    head = np.zeros(len(counts), dtype=bool)
    head[order[: round(len(counts) * (1 - TAIL_SHARE))]] = True
    volume_before = np.cumsum(counts[order]) - counts[order]
    by_volume = np.zeros(len(counts), dtype=bool)
    by_volume[order] = volume_before >= TAIL_SHARE * max(int(counts.sum()), 1)
    return Buckets(head=head, tail=~head, cold=counts == 0, tail_by_volume=by_volume)


_FIELDS = ("item_id", "title", "text", "category", "merchant")


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write the catalogue, item by item in its order."""
    lines = [
        json.dumps({name: getattr(item, name) for name in _FIELDS}, ensure_ascii=False)
        for item in catalogue.items
    ]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def read_catalogue(path: Path) -> Catalogue:
    """Read what `write_catalogue` wrote.

    Raises:
        InputError: names the file, the line and the field that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{path.name}: the public catalogue cannot be read; it must be a UTF-8 file.",
            field="catalogue",
        ) from None
    # Not splitlines: a title may hold a line separator of Unicode's, which JSON does not escape.
    lines = text.removesuffix("\n").split("\n") if text else []
    return Catalogue(tuple(_item(line, place, path) for place, line in enumerate(lines, 1)))


def _item(line: str, place: int, path: Path) -> Item:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InputError(f"{path.name}: line {place} is not a JSON object.", field="catalogue")
    for name in ("item_id", "title", "text"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise InputError(f"{path.name}: line {place} lacks the text `{name}`.", field=name)
    item = {name: str(fields.get(name, "")) for name in _FIELDS}
    for name, value in item.items():
        if len(value) > LONGEST_TEXT or not _is_whole(value):
            raise InputError(
                f"{path.name}: line {place}: `{name}` is longer than {LONGEST_TEXT:,} characters "
                "or holds half a character.",
                field=name,
            )
    return Item(**item)


def _is_whole(text: str) -> bool:
    """Tell whether each character can be written: JSON may hold one half of a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
