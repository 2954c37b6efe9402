import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.arrays import map_arrays, write_arrays
from common.errors import InputError


def test_mapped_arrays_are_what_was_written(tmp_path):
    random = np.random.default_rng(3)
    arrays = {
        "odd": random.normal(size=7).astype(np.float32),
        "double": random.normal(size=(3, 5)),
        "flags": random.random(9) < 0.5,
        "whole": np.arange(4, dtype=np.int64),
        "small": np.arange(3, dtype=np.int32),
        "none": np.empty((0, 4), np.float32),
    }
    write_arrays(tmp_path / "a", arrays, mode=0o600)
    mapped = map_arrays(tmp_path / "a")
    assert mapped.keys() == arrays.keys()
    for name, array in arrays.items():
        assert mapped[name].dtype == array.dtype
        assert np.array_equal(mapped[name], array)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(0, 200))
def test_a_file_that_is_cut_short_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "a"
    write_arrays(path, {"a": np.arange(30, dtype=np.float64)})
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)])
    with pytest.raises(InputError):
        map_arrays(path)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": {}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}},
        {"a": 3},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(InputError):
        map_arrays(tmp_path / "a")


def test_what_is_written_into_mapped_arrays_stays_in_this_process(tmp_path):
    write_arrays(tmp_path / "a", {"a": np.arange(9, dtype=np.float32)})
    before = (tmp_path / "a").read_bytes()
    first, second = (map_arrays(tmp_path / "a", writable=True)["a"] for _ in range(2))
    first[:] = -1
    assert second.tolist() == list(range(9))
    assert (tmp_path / "a").read_bytes() == before
    assert not map_arrays(tmp_path / "a")["a"].flags.writeable
