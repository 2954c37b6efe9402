"""The proxy's access log: for its owner and the group to read, and never too long."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from server.operations.folder import ServerFolder

MODE = 0o640
MOST_BYTES = 20_000_000
KEPT = 5  # files beside the one that is written


def prepare_access_log(folder: ServerFolder) -> None:
    """Make the file with its mode before nginx would make it for all to read.

    A proxy that another user starts makes its own; `fedtail server proxy` sees to the mode.
    """
    path = folder.access_log
    if folder.settings().proxy_user and os.geteuid():
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, MODE))
    path.chmod(MODE)


def rotate_access_log(folder: ServerFolder, proxy: int) -> bool:
    """Begin a new file where the present one has grown too long; return whether it did.

    Args:
        folder: The server's.
        proxy: The number of nginx' first process, which is told to write to the new file.
    """
    path = folder.access_log
    if not path.exists() or path.stat().st_size < MOST_BYTES:
        return False
    owner = path.stat()
    for number in range(KEPT, 0, -1):
        older = _numbered(path, number - 1)
        if older.exists():
            older.replace(_numbered(path, number))
    prepare_access_log(folder)
    with suppress(PermissionError):
        os.chown(path, owner.st_uid, owner.st_gid)
    os.kill(proxy, signal.SIGUSR1)
    return True


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
