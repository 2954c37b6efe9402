"""Processes that a command of ours starts and looks after: their output in a file, stopped by id.

Both sides do this: an operator's server is SuperLink and a reverse proxy, a merchant's node is a
SuperNode. Nothing secret may stand in a command: everybody on a machine can read those.
"""

import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from common.errors import InputError
from common.files import PRIVATE_MODE

STOP_SECONDS = 20.0
_DAY_SECONDS = 86_400.0
POLL_SECONDS = 0.2
_TAIL_BYTES = 4000
_FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # How often Flower looks for work on its own machine. Its default of a second is waited for
    # once a message.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
}


@dataclass(frozen=True, eq=False)
class Child:
    """A running process.

    Attributes:
        name: What people call it.
        process: As Python started it.
        log: Where its output goes, mode 600.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to end, and end it if it does not within `STOP_SECONDS`."""
        if self.ended is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_output(self) -> str:
        """Return the end of its log."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")


def start_child(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start `command` with its output in `log`; the log of the start before is kept as `.1`.

    Raises:
        InputError: if there is no such command.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=None if environment is None else dict(environment),
            cwd=log.parent,
        )
    except OSError as error:
        raise InputError(
            f"{command[0]} cannot be started ({error.strerror}).", field="command"
        ) from error
    finally:
        os.close(descriptor)
    return Child(name, process, log)


@contextmanager
def stopping(children: Sequence[Child]) -> Iterator[None]:
    """Stop all children, the last started first, however the block ends."""
    try:
        yield
    finally:
        for child in reversed(children):
            child.stop()


def wait_for_end(
    children: Sequence[Child],
    daily: Callable[[], None] = lambda: None,
    often: Callable[[], None] = lambda: None,
) -> Child:
    """Wait until the first of the children ends, and return it.

    Args:
        children: Processes that run.
        daily: Called now and each day.
        often: Called each `POLL_SECONDS`.

    Raises:
        KeyboardInterrupt: as pressed, or as SIGTERM asks under `interruptible`.
    """
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            daily()
            due += _DAY_SECONDS
        often()
        for child in children:
            if child.ended is not None:
                return child
        time.sleep(POLL_SECONDS)


@contextmanager
def interruptible() -> Iterator[None]:
    """Take SIGTERM, which a service manager sends, as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def serving() -> Iterator[None]:
    """Stop as on Ctrl-C when SIGTERM comes, and end the process with 0: it was asked to stop.

    Raises:
        SystemExit: with 0, once the block has ended because of SIGTERM.
    """
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if asked:
            raise SystemExit(0) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment for Flower's processes: their own home, and nothing reported.

    Flower starts its helpers by name, so the folder of this Python's scripts comes first in PATH.
    """
    home.mkdir(parents=True, exist_ok=True)
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    return os.environ | _FLOWER | {"FLWR_HOME": str(home.resolve()), "PATH": path}


def flower_command(name: str) -> str:
    """Return the path of one of Flower's commands, as it was installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
