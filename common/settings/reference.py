"""The page of a run's settings, from `RunSettings`: python -m common.settings.reference PAGE."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from common.files import write_atomic
from common.settings.auto import CHOSEN
from common.settings.run import RunSettings

_HEAD = """# The settings of a run

Made by `make reference` from `common/settings/run.py`. The operator chooses them, for all
merchants, and they are public. Each is checked against its bounds before anything starts.

- `fedtail simulate --set NAME=VALUE`, or `[settings]` in an experiment's file
- `[settings]` in the file of `fedtail server federate`
- `flwr run . --run-config "NAME=VALUE"`

What nobody named is the default; with `fedtail simulate --auto`, or `[auto]` in a server's
experiment, a rule chooses those marked auto from declared facts
([how](how-to-simulate.md#settings-that-fit-themselves)).

What a merchant allows at all stands in its own [policy](ref-policy.md). What the privacy settings
mean: [ref-privacy-plan.md](ref-privacy-plan.md).

| setting | kind and bounds | default | meaning |
|---|---|---|---|
"""
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_KINDS = {bool: "true or false", int: "integer", float: "number", str: "text"}


def settings_page() -> str:
    """Return the page in Markdown: a row for each setting, in the order of `RunSettings`."""
    values = RunSettings().model_dump()
    rows = [
        f"| `{name}` | {_kind(field)} | `{_written(values[name])}`{_auto(name)} | "
        f"{field.description} |\n"
        for name, field in RunSettings.model_fields.items()
    ]
    return _HEAD + "".join(rows)


def _auto(name: str) -> str:
    return ", auto" if name in CHOSEN else ""


def _kind(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    kind = _KINDS.get(field.annotation, "text") if isinstance(field.annotation, type) else "text"
    bounds = ", ".join(_bounds(field.metadata))
    return f"{kind}, {bounds}" if bounds else kind


def _bounds(metadata: list[Any]) -> Iterator[str]:
    """Yield the bounds that pydantic holds a value to."""
    for one in metadata:
        for name, sign in _SIGNS.items():
            bound = getattr(one, name, None)
            if bound is not None:
                yield f"{sign} {bound:,g}"
        if getattr(one, "min_length", None):
            yield "not empty"


def _written(value: object) -> str:
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else f"{value}"


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1]), settings_page().encode())
