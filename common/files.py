"""Write a file whole or not at all, and secrets for their owner only."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
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
    with _replacing(path, mode, sync_name=sync_name) as (descriptor, _):
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)


def write_atomic_by(path: Path, write: Callable[[Path], None], *, mode: int = PUBLIC_MODE) -> None:
    """Let `write` fill a file that takes the place of `path`, as in `write_atomic`.

    For libraries that want a name. Some put a file of their own in the place of the one they are
    given, which has `mode` only once it is written: a secret needs a folder that is its owner's.

    Args:
        path: What is replaced; its folder is made.
        write: Given the name of an empty file.
        mode: Of the file once it is whole.
    """
    with _replacing(path, mode, sync_name=True) as (_, temporary):
        write(temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _replacing(path: Path, mode: int, *, sync_name: bool) -> Iterator[tuple[int, Path]]:
    """Give an empty file of `mode`, open and by name, that takes the place of `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        try:
            os.fchmod(descriptor, mode)
            yield descriptor, temporary
        finally:
            os.close(descriptor)
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
