"""How a guarded SuperNode is started, apart from the guard: the starter loads no accountant."""

import sys
from pathlib import Path

GUARDED = "FEDTAIL_GUARDED_SHOP"  # in the environment of the processes in which apps run


def guarded_command(shop: Path) -> list[str]:
    """Return what to start instead of `flower-supernode`, with the same options after it."""
    # -P: a folder named client where the node is started would hide the package.
    return [sys.executable, "-P", "-m", "client.privacy.app_guard", str(shop)]


def guarded_environment(shop: Path) -> dict[str, str]:
    """Return what tells an app that its bundle was checked for this shop's policy."""
    return {GUARDED: str(shop.resolve())}
