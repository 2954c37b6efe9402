"""The season of a release: what it holds, and that nothing else is read as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from common.errors import InputError
from common.season import Season

SEASON = Season(np.arange(6, dtype=np.float32).reshape(2, 3), (10, 20), 1.5, 3)


def test_a_season_comes_back_from_its_bytes():
    again = Season.from_bytes(SEASON.to_bytes())
    np.testing.assert_array_equal(again.vectors, SEASON.vectors)
    assert (again.ends, again.noise_std, again.merchants) == ((10, 20), 1.5, 3)
    assert again.to_bytes() == SEASON.to_bytes()


CHANGES = {
    "no vectors": {"vectors": None},
    "an end too many": {"ends": np.array([10, 20, 30])},
    "ends backwards": {"ends": np.array([20, 10])},
    "half precision": {"vectors": SEASON.vectors.astype(np.float16)},
    "flat": {"vectors": SEASON.vectors.ravel()},
    "not finite": {"vectors": np.full((2, 3), np.nan, np.float32)},
    "empty": {"vectors": np.zeros((2, 0), np.float32)},
    "negative noise": {"noise_std": np.array([-1.0])},
    "two noises": {"noise_std": np.array([1.0, 2.0])},
    "endless noise": {"noise_std": np.array([np.inf])},
    "nobody": {"merchants": np.array([0])},
    "another type": {"merchants": np.array([3], dtype=np.int32)},
    "something more": {"more": np.zeros(1)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_season_is_refused(change):
    tensors = {**load(SEASON.to_bytes()), **change}
    content = save({name: one for name, one in tensors.items() if one is not None})
    with pytest.raises(InputError) as caught:
        Season.from_bytes(content)
    assert caught.value.field == "season"


@given(st.binary(max_size=200) | st.integers(0, 250).map(lambda n: SEASON.to_bytes()[:n]))
def test_any_bytes_are_a_season_or_an_error_of_ours(content):
    with pytest.raises(InputError):
        Season.from_bytes(content)


def test_a_file_beyond_all_bounds_is_not_parsed():
    with pytest.raises(InputError, match="more than"):
        Season.from_bytes(bytes(2**20 + 1))


def test_the_latest_vector_that_looks_at_nothing_later():
    vectors = np.arange(4, dtype=np.float32).reshape(2, 2)
    season = Season(vectors, (10, 20), 1.0, 1)
    assert season.at(9) is None
    assert season.at(10).numbers.tolist() == season.at(19).numbers.tolist() == [0, 1]
    assert season.at(20).numbers.tolist() == season.latest.numbers.tolist() == [2, 3]
    assert (season.at(19).end, season.at(20).end, season.latest.end) == (10, 20, 20)
    assert season.at(10).noise_std == season.latest.noise_std == season.noise_std > 0
