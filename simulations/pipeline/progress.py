"""What a person sees while a simulation runs: one line a phase, and how far each has come."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from common.settings.auto import Choice
from common.settings.run import RunSettings
from server.run.checkpoint import RoundRecord
from simulations.federation.pool_worker import RUN_LOG
from simulations.report.html import readable_bytes

EVERY_SECONDS: Final = 10.0  # between two plain lines, at least
UNCHANGED_SECONDS: Final = 60.0  # until a line is said again though nothing has moved
_DOING: Final = {
    "prepare": "preparing",
    "popularity": "counting",
    "season": "season",
    "train": "round under way",
}


class Screen:
    """Progress: a bar on a terminal, else plain lines without a control character.

    Plain lines are written by a thread, one every ten seconds where something has moved, so that a
    log tells also during one long product of matrices that a run is alive.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._bytes = 0
        self._lines = PlainLines(console)

    def __enter__(self) -> Self:
        self._log_level = logging.getLogger(RUN_LOG).level
        logging.getLogger(RUN_LOG).setLevel(logging.WARNING)
        self._bar.start()
        if not self._quiet and not self.console.is_terminal:
            self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()
        self._bar.stop()
        logging.getLogger(RUN_LOG).setLevel(self._log_level)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say which phase goes on."""
        if not self._quiet:
            self.console.print(f"[bold]{name}[/bold] ...")
        self._lines.begin(name)
        yield
        self._lines.begin("")

    def warn(self, text: str) -> None:
        """Say what a person must know before using what comes out."""
        self.console.print(f"[yellow]Warning:[/yellow] {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Say what was found or chosen, which need not be wrong."""
        if not self._quiet:
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def chosen(self, choices: Mapping[str, Choice]) -> None:
        """Say which settings were chosen from declared facts, and why each."""
        for name, choice in choices.items() if not self._quiet else ():
            line = f"auto: {name}={choice.value}  [dim]{choice.reason}[/dim]"
            self.console.print(line, highlight=False, soft_wrap=True)

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

    @contextmanager
    def merchants(self, name: str, count: int) -> Iterator[None]:
        """Show a bar over `count` merchants that `merchant` moves."""
        self._task = self._bar.add_task(name, total=count, note="")
        self._count = count
        try:
            yield
        finally:
            self._bar.remove_task(self._task)

    def merchant(self, done: int) -> None:
        """Move the bar over merchants."""
        self._bar.update(self._task, completed=done)
        self._lines.at(f"{done} of {self._count} merchants")

    def round_of(self, run: int, record: RoundRecord) -> None:
        """Move the bar over several runs: one of them has finished a round."""
        self._rounds[run] = record.round_number
        done = sum(one == self._each for one in self._rounds.values())
        note = f"{done} of {len(self._rounds)} trained"
        self._bar.update(self._task, completed=sum(self._rounds.values()), note=note)
        rounds = f"{sum(self._rounds.values())} of {self._each * len(self._rounds)} rounds"
        self._lines.at(f"{rounds}, {note}")

    def round(self, record: RoundRecord, settings: RunSettings) -> None:
        """Move the bar: round, noised update's norm, epsilon so far, bytes, time."""
        self._bytes += record.bytes_up + record.bytes_down
        spent = "no noise" if record.epsilon is None else f"ε {record.epsilon:.2f}"
        if settings.noise == "none":
            spent = "no noise"
        note = f"{spent}  update {record.update_norm:.3f}  {readable_bytes(self._bytes)}"
        self._bar.update(self._task, completed=record.round_number, note=note)
        self._lines.at(f"round {record.round_number} of {settings.rounds}, {spent}")

    def encoded(self, done: int, total: int) -> None:
        """Show how many item texts are encoded."""
        note = f"encoding texts {done}/{total}"
        for task in self._bar.task_ids:
            self._bar.update(task, note=note)
        self._lines.at(note)

    def answered(self, kind: str, done: int, total: int) -> None:
        """Show how many merchants have answered a message, such as `prepare`."""
        note = f"{_DOING.get(kind, kind)}: {done} of {total} merchants"
        for task in self._bar.task_ids:
            if kind != "train":  # there the note of the last round stays
                self._bar.update(task, note=note)
        self._lines.beside(note)


class PlainLines:
    """Lines of progress for a file or pipe, by a thread of their own."""

    def __init__(
        self,
        console: Console,
        every: float = EVERY_SECONDS,
        unchanged: float = UNCHANGED_SECONDS,
    ) -> None:
        self._console, self._every, self._unchanged = console, every, unchanged
        self._phase, self._at, self._beside, self._began = "", "", "", time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, phase: str) -> None:
        """Enter a phase; none is the empty name, of which nothing is written."""
        self._phase, self._at, self._beside, self._began = phase, "", "", time.monotonic()

    def at(self, text: str) -> None:
        """Say how far the phase has come."""
        self._at, self._beside = text, ""

    def beside(self, text: str) -> None:
        """Say what goes on between two of these."""
        self._beside = text

    def _write(self) -> None:
        said: tuple[str, str] = ("", "")
        when = 0.0
        while not self._ended.wait(self._every):
            now, phase = time.monotonic(), self._phase
            state = ", ".join(part for part in (self._at, self._beside) if part)
            moved = (phase, state) != said or now - when >= self._unchanged
            if phase and moved:
                told = f"  {phase}: {state}, " if state else f"  {phase}: "
                line = f"{told}{now - self._began:.0f} s"
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
                said, when = (phase, state), now
