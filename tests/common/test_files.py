"""Files written whole or not at all, and synced before they take their place."""

import os

import pytest

import common.files
from common.files import write_atomic, write_atomic_by

WRITERS = {
    "bytes": lambda path: write_atomic(path, b"new"),
    "by": lambda path: write_atomic_by(path, lambda given: given.write_bytes(b"new")),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_is_on_disk_whole_before_it_takes_its_place(tmp_path, monkeypatch, write):
    path, real, synced = tmp_path / "deep" / "file", os.fsync, []

    def fsync(descriptor):
        about = os.fstat(descriptor)
        synced.append((about.st_ino, about.st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(common.files.os, "fsync", fsync)
    write(path)
    (file, size, was_there), (folder, _, is_there) = synced
    assert (file, size, was_there) == (path.stat().st_ino, 3, False)
    assert (folder, is_there) == (path.parent.stat().st_ino, True)
    assert path.stat().st_mode & 0o777 == 0o644  # public, unless it is asked otherwise


def test_a_secret_is_its_owners_before_its_first_byte(tmp_path, monkeypatch):
    real, seen = os.fdopen, []

    def fdopen(descriptor, *rest, **named):
        about = os.fstat(descriptor)
        seen.append((about.st_mode & 0o777, about.st_size))
        return real(descriptor, *rest, **named)

    monkeypatch.setattr(common.files.os, "fdopen", fdopen)
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert seen == [(0o600, 0)]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_was_there_stays_where_a_file_does_not_reach_the_disk(tmp_path, monkeypatch, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fsync(_descriptor):
        raise OSError(5, "no disk")

    monkeypatch.setattr(common.files.os, "fsync", fsync)
    with pytest.raises(OSError, match="no disk"):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
