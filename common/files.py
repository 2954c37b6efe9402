"""Write a file whole or not at all, and secrets for their owner only."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_atomic(
    path: Path, content: bytes, *, mode: int = PUBLIC_MODE, sync_name: bool = True
) -> None:
    """Put `content` at `path` so that a crash leaves the old file or the new one.

    Without `sync_name` the folder is not synced, which halves the time: a power cut may then bring
    the older file back, whole. A crash of the process cannot.
    """

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic_by(path, write, mode=mode, sync_name=sync_name)


def write_atomic_by(
    path: Path, write: Callable[[Path], None], *, mode: int = PUBLIC_MODE, sync_name: bool = True
) -> None:
    """Let `write` fill a file that takes the place of `path` once it is whole.

    The bytes go to a temporary file beside `path`, reach the disk (fsync), and are renamed into
    place; then the folder is synced, so that the rename itself survives a power cut. The
    temporary file has `mode` from before its first byte on.

    Args:
        path: What is replaced; its folder is made.
        write: Fills the empty file it is given. If it puts another in its place, as some libraries
            do, that one gets `mode` when it is whole: no way for a secret.
        mode: Of the file.
        sync_name: As in `write_atomic`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor):
            os.fchmod(descriptor, mode)
        write(temporary)
        _sync_file(temporary, mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync_name:
        sync_folder(path.parent)


def _sync_file(path: Path, mode: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_hex(content: bytes) -> str:
    """Return the SHA-256 of `content` as 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()
