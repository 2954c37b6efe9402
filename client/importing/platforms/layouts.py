"""Find a platform's export by its column names, and say what they mean as a mapping does.

A layout is a TOML file in this folder: for each key of [items] and [events] the names that its
column has in one version or language or another, the first one present wins. `needs` lists keys
without which the layout does not fit; `set` holds what is no column.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_ROW_RULES = ("cancelled", "hidden", "type")
_LISTS = ("text", "options")
_EVENT_TITLES = ("title", "category", "merchant")  # an events' file can describe items too
_ONLY_SIGNATURE = ("link", "kind")  # looked for, and not read


@dataclass(frozen=True)
class Found:
    """A section that fits one file.

    Attributes:
        platform: The layout's name.
        section: Keys as in the mapping, without the place.
        columns: How many columns it names.
    """

    platform: str
    section: dict[str, Any]
    columns: int


def platform_names() -> list[str]:
    """Return the names of the known platforms, sorted."""
    return sorted(_layouts())


def find_section(kind: str, names: Sequence[str]) -> Found | None:
    """Return the layout whose `kind` ("items" or "events") names the most of a file's columns."""
    fits = [
        found
        for platform, layout in _layouts().items()
        if kind in layout and (found := _resolve(platform, layout[kind], names)) is not None
    ]
    return max(fits, key=lambda one: one.columns, default=None)


@cache
def _layouts() -> dict[str, Any]:
    folder = files("client.importing.platforms")
    texts = {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
    return {name: tomllib.loads(texts[name]) for name in sorted(texts)}


def _resolve(platform: str, layout: Mapping[str, Any], names: Sequence[str]) -> Found | None:
    there = {name.strip().lower(): name for name in reversed(names)}
    section: dict[str, Any] = dict(layout.get("set", {}))
    matched: set[str] = set()
    for key, choices in layout.items():
        if key in ("needs", "set"):
            continue
        value = _value(key, choices, there)
        if value:
            section[key] = value
            matched.update(_columns(value))
    if not all(key in section for key in layout["needs"]):
        return None
    for key in _ONLY_SIGNATURE:
        section.pop(key, None)
    return Found(platform, section, len(matched))


def _value(key: str, choices: Any, there: Mapping[str, str]) -> Any:
    if key in _LISTS:
        columns = [_first(one, there) for one in choices]
        return list(dict.fromkeys(column for column in columns if column is not None))
    if key in _ROW_RULES:
        rules = [
            {**rule, "column": column}
            for rule in (choices if isinstance(choices, list) else [choices])
            if (column := _first(rule["column"], there)) is not None
        ]
        return rules if isinstance(choices, list) or not rules else rules[0]
    return _first(choices, there)


def _first(choices: Sequence[str], there: Mapping[str, str]) -> str | None:
    return next((there[one.lower()] for one in choices if one.lower() in there), None)


def _columns(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [value["column"]]
    return [column for one in value for column in _columns(one)]


def variant_keys(names: Sequence[str]) -> dict[str, Any]:
    """Return product_id and options of a platform whose items have variants, as `names` show."""
    found = find_section("items", names)
    keys = ("product_id", "options")
    if found is None or not all(found.section.get(key) for key in keys):
        return {}
    return {"product_id": found.section["product_id"], "options": tuple(found.section["options"])}


def item_part(events: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an events' section says of items, or None if it has no titles."""
    if "title" not in events:
        return None
    return {key: events[key] for key in ("item_id", *_EVENT_TITLES) if key in events}


def event_part(events: Mapping[str, Any]) -> dict[str, Any]:
    """Return an events' section without what it says of items alone."""
    return {key: value for key, value in events.items() if key not in ("title", "category")}
