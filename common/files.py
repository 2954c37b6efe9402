"""Write a file whole or not at all, and secrets for their owner only."""

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_atomic(
    path: Path, content: bytes, *, mode: int = PUBLIC_MODE, sync_name: bool = True
) -> None:
    """Put `content` at `path` so that a crash leaves the old file or the new one.

    The bytes go to a temporary file beside `path`, reach the disk (fsync), and are renamed into
    place; then the folder is synced, so that the rename itself survives a power cut. The
    temporary file has `mode` from its first byte on.

    Without `sync_name` the folder is not synced, which halves the time: a power cut may then bring
    the older file back, whole. A crash of the process cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync_name:
        sync_folder(path.parent)


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
