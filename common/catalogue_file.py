"""A public catalogue as a file that people can read: one JSON object a line."""

import json
from pathlib import Path

from common.catalogue import Catalogue, Item
from common.errors import InputError
from common.files import write_atomic

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
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise InputError(f"{path.name}: line {place} is not a JSON object.", field="catalogue")
    for name in ("item_id", "title", "text"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise InputError(f"{path.name}: line {place} lacks the text `{name}`.", field=name)
    return Item(**{name: str(fields.get(name, "")) for name in _FIELDS})
