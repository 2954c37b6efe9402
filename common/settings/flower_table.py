"""The settings in pyproject.toml's table for `flwr run`, made from `RunSettings`: `make settings`.

Flower lets a run override only names that stand there, so each setting is in it with its default.
"""

import json
import sys
from pathlib import Path

from common.files import write_atomic
from common.settings.run import RunSettings, Scalar

FIRST = "# Then the settings of a run, with their defaults: made by `make settings`."
LAST = "# The end of what `make settings` made."


def flower_table() -> str:
    """Return one line a setting, `name = default` in TOML, in the order of `RunSettings`.

    Flower holds an override to the type that stands here, so a float is written as one.
    """
    values = RunSettings().model_dump()
    kinds = {name: field.annotation for name, field in RunSettings.model_fields.items()}
    return "".join(f"{name} = {_toml(values[name], kinds[name])}\n" for name in values)


def _toml(value: Scalar, kind: object) -> str:
    return repr(float(value)) if kind is float else json.dumps(value)


def with_table(project: str) -> str:
    """Return pyproject.toml's text with the table between its two marks made anew.

    Raises:
        ValueError: if a mark is missing.
    """
    before, rest = project.split(f"{FIRST}\n")
    _, after = rest.split(f"{LAST}\n")
    return f"{before}{FIRST}\n{flower_table()}{LAST}\n{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomic(path, with_table(path.read_text("utf-8")).encode())
