"""Vectors come back from disk as they were, by merchant, or the file is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from common.errors import InputError
from common.federation.contribution_files import read_round, round_file, write_round

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VECTORS = arrays(np.float32, st.integers(0, 6), elements=st.floats(-9, 9, width=32))
ONE = np.ones(3, dtype=np.float32)


@given(st.dictionaries(NAMES | st.just("__metadata__"), VECTORS, min_size=1, max_size=4))
def test_vectors_come_back_to_the_bit(tmp_path_factory, vectors):
    folder = tmp_path_factory.mktemp("run")
    write_round(folder, 3, vectors)
    found = read_round(folder, 3)
    assert {name: one.tobytes() for name, one in found.items()} == {
        name: one.tobytes() for name, one in vectors.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 40,
        save({"ash": ONE}),
        save({"merchant/ash": ONE.astype(np.float64)}),
        save({"merchant/ash": ONE[None]}),
        save({"merchant/ash": ONE * np.float32(np.nan)}),
        save({"merchant/ash": ONE}, {"note": "more"}),
    ],
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / round_file(1)).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_round(tmp_path, 1)
    assert caught.value.field == "file"
