"""What a run does at this moment, in a file of its folder that other processes read.

It says what the run waits for and for how long at most, and how each node stands. It is for eyes
and alerts only: nothing goes on from it, so it is replaced without being forced to disk.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

STATE_FILE = "state.json"
SHORT_SECONDS = 0.005  # a file of some hundred nodes takes as long to write, and is written at once
PAUSES = 20.0  # times what a longer one took to write, until it is written again
Phase = Literal[
    "starting", "preparing", "popularity", "season", "train", "audit", "paused", "ended"
]
NodeState = Literal["in", "asked", "failing", "silent", "refused", "quarantined", "evicted"]


@dataclass(frozen=True)
class NodeNote:
    """How one node stands.

    Attributes:
        merchant: Its name; `node N` while it is not known.
        state: `in`: it takes part; `asked`: its preparation is waited for; `failing`: it has
            answered several times in a row with an error, and is asked again; `silent`: it has
            not answered in time and is asked again; `refused`: it, or the server, has said no;
            `quarantined`: it sent what is no answer, three times; `evicted`: by the operator.
        reason: A public code and field, where there is one.
        strikes: Answers so far that were none.
        since: Seconds since 1970 UTC.
    """

    merchant: str
    state: NodeState
    reason: str = ""
    strikes: int = 0
    since: float = 0.0


@dataclass(frozen=True)
class RunState:
    """A run at one moment.

    Attributes:
        phase: What goes on.
        round_number: Of that phase, or the one that was done last.
        rounds: How many the run has.
        since: When the phase began, seconds since 1970 UTC.
        until: When the wait ends at the latest; 0 where nothing is waited for.
        answered: How many have given a usable answer in this phase.
        needed: How many must.
        waits_for: Merchants whose answer is outstanding.
        nodes: By name, how each stands.
        written: When this was written, seconds since 1970 UTC.
    """

    phase: Phase = "starting"
    round_number: int = 0
    rounds: int = 0
    since: float = 0.0
    until: float = 0.0
    answered: int = 0
    needed: int = 0
    waits_for: tuple[str, ...] = ()
    nodes: tuple[NodeNote, ...] = ()
    written: float = 0.0

    def told(self, now: float) -> str:
        """Return in words what the run waits for at `now`, and for how long at most."""
        if self.phase == "ended":
            return "not running"
        if self.phase == "paused":
            return "paused; `fedtail server resume` goes on"
        where = f"round {self.round_number}" if self.phase == "train" else self.phase
        if not self.waits_for and self.until <= now:
            return where
        names = ", ".join(self.waits_for) or "nodes to connect"
        left = f", at most {max(self.until - now, 0):.0f} s more" if self.until else ""
        return (
            f"{where}: {self.answered} of {self.needed} needed have answered; waits for {names} "
            f"since {max(now - self.since, 0):.0f} s{left}"
        )


@dataclass(eq=False)
class StateFile:
    """Keeps a run's state in its folder; None keeps it in memory only.

    All of it is written at each change. That of thousands of nodes is written with pauses, or the
    server would do little else; a change that waits is written by the next call after the pause.
    """

    folder: Path | None = None
    state: RunState = field(default_factory=RunState)
    _due: float = field(default=0.0, init=False)  # of the monotonic clock
    _waits: bool = field(default=False, init=False)

    def enter(self, phase: Phase, round_number: int) -> None:
        """Begin a phase: nothing is waited for yet."""
        self.state = replace(
            self.state,
            phase=phase,
            round_number=round_number,
            since=time.time(),
            until=0.0,
            answered=0,
            needed=0,
            waits_for=(),
        )
        self._write()

    def wait(self, names: list[str], *, answered: int, needed: int, seconds: float) -> None:
        """Say who is waited for, and for how many seconds more at most."""
        until = time.time() + seconds
        if abs(until - self.state.until) < 1.0:
            until = self.state.until  # the same end, told again
        now = (tuple(sorted(names)), answered, needed, until)
        before = self.state
        if now != (before.waits_for, before.answered, before.needed, before.until):
            self._set(waits_for=now[0], answered=answered, needed=needed, until=until)
        elif self._waits:
            self._write_when_due()

    def node(self, note: NodeNote) -> None:
        """Say how a node stands; when it came to stand so is kept."""
        nodes = {one.merchant: one for one in self.state.nodes}
        before = nodes.get(note.merchant)
        if before is not None and replace(note, since=before.since) == before:
            return
        nodes[note.merchant] = replace(note, since=time.time())
        self._set(nodes=tuple(nodes[name] for name in sorted(nodes)))

    def forget(self, merchant: str) -> None:
        """Take a node off."""
        kept = tuple(one for one in self.state.nodes if one.merchant != merchant)
        if kept != self.state.nodes:
            self._set(nodes=kept)

    def begin(self, rounds: int) -> None:
        """Start over in a new process."""
        self.state = RunState(rounds=rounds, since=time.time())
        self._write()

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self._write_when_due()

    def _write_when_due(self) -> None:
        self._waits = time.monotonic() < self._due
        if not self._waits:
            self._write()

    def _write(self) -> None:
        if self.folder is None:
            return
        began, self._waits = time.monotonic(), False
        content = json.dumps(asdict(replace(self.state, written=time.time())), indent=1)
        path = self.folder / STATE_FILE
        fresh = path.with_name(f".{STATE_FILE}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh.write_text(content, encoding="utf-8")
            fresh.replace(path)
        except OSError:  # a full disk: the run has more important things to write
            fresh.unlink(missing_ok=True)
        ended = time.monotonic()
        if ended - began > SHORT_SECONDS:
            self._due = ended + PAUSES * (ended - began)


def read_state(folder: Path) -> RunState | None:
    """Return the state of the run in `folder`; None where there is none that can be read."""
    try:
        content = (folder / STATE_FILE).read_bytes()
        return _READER.validate_json(content)
    except (OSError, ValidationError):
        return None


def mark_ended(folder: Path) -> None:
    """Say that the run in `folder` does not go on: whoever stopped it from outside knows."""
    state = read_state(folder)
    if state is not None and state.phase != "ended":
        StateFile(folder, state).enter("ended", state.round_number)


_READER: TypeAdapter[RunState] = TypeAdapter(RunState)
