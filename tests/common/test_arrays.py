"""Arrays in files: whole or not at all, synced, and not in memory a second time."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors import SafetensorError
from safetensors.numpy import load_file

import common.arrays
from common.adapter import AdapterState
from common.arrays import load_arrays, write_arrays
from common.errors import InputError

HOSTILE = [
    ("BF16", [32]), ("F8_E4M3", [64]), ("F4", [128]), ("F32", [2**70, 0]), ("F32", [2**40, 2**40]),
    ("F32", [-16]), ("F32", []), ("F32", [17]), ("none", [16]),
]  # fmt: skip
SOME = {"one": np.arange(6, dtype=np.float32).reshape(2, 3), "two": np.array([7], np.int64)}


@given(
    st.dictionaries(
        st.text("abc", min_size=1),
        arrays(st.sampled_from([np.float32, np.int64, np.uint64]), array_shapes(min_side=0)),
        max_size=3,
    )
)
def test_what_is_written_is_read_also_in_another_memory_order(tmp_path_factory, some):
    path = tmp_path_factory.mktemp("arrays") / "some.safetensors"
    write_arrays(path, {name: np.asfortranarray(one) for name, one in some.items()})
    found = load_file(path)
    assert found.keys() == some.keys()
    for name, one in some.items():
        assert found[name].dtype == one.dtype
        np.testing.assert_array_equal(found[name], one)


def test_the_file_that_takes_the_place_was_synced_whole(tmp_path, monkeypatch):
    synced, real = {}, os.fsync

    def fsync(descriptor):
        about = os.fstat(descriptor)
        synced[about.st_ino] = about.st_size
        real(descriptor)

    monkeypatch.setattr("common.files.os.fsync", fsync)
    path = tmp_path / "new" / "some.safetensors"
    write_arrays(path, SOME)
    about = path.stat()
    assert synced[about.st_ino] == about.st_size > 0
    assert path.parent.stat().st_ino in synced
    assert about.st_mode & 0o777 == 0o644


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "some.safetensors"
    write_arrays(path, SOME)

    def stop(_arrays, temporary):
        Path(temporary).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(common.arrays, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(path, {"one": np.zeros(9)})
    np.testing.assert_array_equal(load_file(path)["one"], SOME["one"])
    assert list(tmp_path.iterdir()) == [path]


_LARGE = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from common.arrays import write_arrays

path, limit = Path(sys.argv[1]), int(sys.argv[2])
large = {"large": np.ones(2**23)}  # 64 MiB
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    write_arrays(path, large)
except OSError as error:
    sys.exit(error.errno)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def _write_large(path: Path, limit: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _LARGE, str(path), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)


def test_a_large_array_is_not_held_twice(tmp_path):
    done = _write_large(tmp_path / "large.safetensors", 0)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**24


def test_a_full_disk_is_told_as_the_system_tells_it(tmp_path):
    assert _write_large(tmp_path / "large.safetensors", 2**20).returncode == errno.EFBIG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "shape"), HOSTILE)
def test_bytes_of_a_type_or_shape_that_numpy_has_not_are_refused(kind, shape):
    """As a signed release or a server's message might have them."""
    text = json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, 64]}}).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(64)
    with pytest.raises(SafetensorError):
        load_arrays(content)
    with pytest.raises(InputError):
        AdapterState.from_bytes(content)
