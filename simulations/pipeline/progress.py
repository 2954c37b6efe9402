"""What a person sees while a simulation runs: one line a phase, and a bar for the rounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from common.settings.run import RunSettings
from server.run.checkpoint import RoundRecord
from simulations.report.html import readable_bytes


class Screen:
    """Progress on a terminal; plain lines where the output is a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._bytes = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say which phase goes on."""
        self.console.print(f"[bold]{name}[/bold] ...")
        yield

    def warn(self, text: str) -> None:
        """Say what a person must know before using what comes out."""
        self.console.print(f"[yellow]Warning:[/yellow] {text}", soft_wrap=True)

    @contextmanager
    def rounds(self, name: str, settings: RunSettings) -> Iterator[None]:
        """Show a bar that `round` moves."""
        self._task = self._bar.add_task(name, total=settings.rounds, note="preparing")
        self._bytes = 0
        try:
            yield
        finally:
            self._bar.remove_task(self._task)

    @contextmanager
    def runs(self, name: str, settings: RunSettings, count: int) -> Iterator[None]:
        """Show a bar over the rounds of `count` runs that `round_of` moves."""
        self._task = self._bar.add_task(name, total=settings.rounds * count, note="preparing")
        self._rounds = dict.fromkeys(range(count), 0)
        self._each = settings.rounds
        try:
            yield
        finally:
            self._bar.remove_task(self._task)

    def round_of(self, run: int, record: RoundRecord) -> None:
        """Move the bar over several runs: one of them has finished a round."""
        self._rounds[run] = record.round_number
        done = sum(one == self._each for one in self._rounds.values())
        note = f"{done} of {len(self._rounds)} trained"
        self._bar.update(self._task, completed=sum(self._rounds.values()), note=note)

    def round(self, record: RoundRecord, settings: RunSettings) -> None:
        """Move the bar: round, noised update's norm, epsilon so far, bytes, time."""
        self._bytes += record.bytes_up + record.bytes_down
        spent = "no noise" if record.epsilon is None else f"ε {record.epsilon:.2f}"
        if settings.noise == "none":
            spent = "no noise"
        note = f"{spent}  update {record.update_norm:.3f}  {readable_bytes(self._bytes)}"
        self._bar.update(self._task, completed=record.round_number, note=note)

    def encoded(self, done: int, total: int) -> None:
        """Show how many item texts are encoded."""
        self._bar.update(self._task, note=f"encoding texts {done}/{total}")
