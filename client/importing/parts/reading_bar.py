"""A bar on the terminal while a large table of events is read."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from client.importing.parts.csv_parts import Watch


@contextlib.contextmanager
def reading_bar(console: Console) -> Iterator[Watch]:
    """Give what an import tells of its bytes; nothing is drawn where `console` is no terminal."""
    columns = (TextColumn("Reading events"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def watch(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield watch
