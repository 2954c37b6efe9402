"""How a guarded SuperNode is started, apart from the guard: the starter loads no accountant."""

import sys
from collections.abc import Iterator
from pathlib import Path

MARK = "fedtail guard: "  # before each line of the guard's in the SuperNode's log
GUARDED = "FEDTAIL_GUARDED_SHOP"  # in the environment of the processes in which apps run


def guarded_command(shop: Path) -> list[str]:
    """Return what to start instead of `flower-supernode`, with the same options after it."""
    # -P: a folder named client where the node is started would hide the package.
    return [sys.executable, "-P", "-m", "client.privacy.app_guard", str(shop)]


def guarded_environment(shop: Path) -> dict[str, str]:
    """Return what tells an app that its bundle was checked for this shop's policy."""
    return {GUARDED: str(shop.resolve())}


class GuardLines:
    """What the guard has put on a SuperNode's log, read as it comes, for the merchant's screen."""

    def __init__(self, log: Path) -> None:
        self._log, self._read = log, 0

    def fresh(self) -> Iterator[str]:
        """Yield the guard's lines that were written since the last call, without their mark."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if line.startswith(MARK):
                yield line.removeprefix(MARK)
