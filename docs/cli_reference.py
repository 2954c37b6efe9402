"""ref-cli.md from the command's own tree: python docs/cli_reference.py docs/ref-cli.md."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import fedtail
from common.files import write_atomic

HEAD = """# The commands

Made by `make reference` from the command itself: `fedtail COMMAND --help` says the same.
"""

# Where the default is not the option's own: an experiment's file may give it.
DEFAULT_IN_HELP = re.compile(r"\s*\[default: (.+)\]$")


def cli_page() -> str:
    """Return the page in Markdown: each command with its arguments and options."""
    lines = [HEAD]
    for path, command in commands(typer.main.get_command(fedtail.app), ("fedtail",)):
        lines += section(path, command)
    return "\n".join(lines).rstrip() + "\n"


def commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the commands below `group` that do something, with their paths, in its order."""
    for name, below in group.commands.items():
        if hasattr(below, "commands"):
            yield from commands(below, (*path, name))
        else:
            yield (*path, name), below


def section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    """Yield the lines of one command."""
    yield f"## {' '.join(path)}\n"
    yield f"{plain(command.help)}\n"
    shown = [one for one in command.params if not one.hidden and one.name != "help"]
    if not shown:
        return
    yield "| argument or option | takes | default | what it is |"
    yield "|---|---|---|---|"
    for one in shown:
        yield f"| {names(one)} | {takes(one)} | {default(one)} | {cell(told(one))} |"
    yield ""


def plain(text: str | None) -> str:
    """Return a help text as Markdown: click's marks for kept line breaks go."""
    return inspect.cleandoc(text or "").replace("\b\n", "").strip()


def names(parameter: Any) -> str:
    """Return how it is written on the command line."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def takes(parameter: Any) -> str:
    """Return the kind of value in a word."""
    if getattr(parameter, "is_flag", False):
        return "nothing"
    kind = parameter.type
    bounds = [getattr(kind, name, None) for name in ("min", "max")]
    name = {"integer range": "integer", "float range": "number", "float": "number"}.get(
        kind.name, kind.name
    )
    if bounds != [None, None]:
        least, most = ("" if bound is None else f"{bound:g}" for bound in bounds)
        name += f", {least} to {most}" if most else f", {least} or more"
    return f"{name}, repeatable" if getattr(parameter, "multiple", False) else name


def default(parameter: Any) -> str:
    """Return what holds where it is not given."""
    if parameter.required:
        return "must be given"
    value = parameter.default
    if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
        return f"`{value}`"
    said = DEFAULT_IN_HELP.search(str(getattr(parameter, "help", None) or ""))
    return cell(said[1]) if said else ""


def told(parameter: Any) -> str:
    """Return its help, and the variable of the environment that does as well."""
    help_ = DEFAULT_IN_HELP.sub("", str(getattr(parameter, "help", None) or ""))
    variable = getattr(parameter, "envvar", None)
    return f"{help_} Or the variable `{variable}`." if variable else help_


def cell(text: str) -> str:
    """Return a text that stays in its cell."""
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1]), cli_page().encode())
