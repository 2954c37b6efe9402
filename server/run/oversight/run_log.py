"""A run's log for its operator: one event a line, JSON or text, in the run's folder.

An event has a name, and facts that are public: numbers of rounds and nodes, merchants' names, codes
and fields of errors. No text that a node wrote is in it, and nothing of a shopper is on a server.
"""

import logging
from pathlib import Path
from typing import Any, Literal, get_args

import structlog

from common.errors import SettingsError

LOG_FILE = "run.log"
LogFormat = Literal["json", "text"]
Level = Literal["info", "warning"]
_logger = logging.getLogger("flwr.fedtail")  # a child of Flower's logger: shown where Flower's is
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


class RunLog:
    """Writes events to a file, and to the process's own log as Flower shows it."""

    def __init__(self, path: Path | None = None, style: LogFormat = "json") -> None:
        """Write to `path`, or only to the process's log where it is None."""
        self._file = None if path is None else _Appended(path)
        render: Any = (
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if style == "json"
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
        )
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self._written = structlog.wrap_logger(
            structlog.WriteLogger(self._file) if self._file else structlog.ReturnLogger(),  # type: ignore[arg-type]  # write and flush are all that it uses
            processors=[structlog.processors.add_log_level, stamp, render],
        )

    def note(self, event: str, level: Level = "info", **facts: str | float) -> None:
        """Write an event; a full disk loses the line and not the run."""
        told = ", ".join(f"{name} {value}" for name, value in facts.items())
        _logger.log(_LEVELS[level], "%s: %s", event, told)
        try:
            getattr(self._written, level)(event, **facts)
        except OSError as error:
            _logger.warning("The run's log cannot be written: %s", error.strerror)


class _Appended:
    """A file that is opened for each line, so that it may be moved away while a run goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)

    def flush(self) -> None:
        """Nothing waits: each line closes its file."""


def read_format(value: str) -> LogFormat:
    """Return a format by its name; empty is JSON.

    Raises:
        SettingsError: if there is no such format.
    """
    for known in get_args(LogFormat):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    if not value:
        return "json"
    raise SettingsError(f"log_format is {value!r}; it must be json or text.", field="log_format")
