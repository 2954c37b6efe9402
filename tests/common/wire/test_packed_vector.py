import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import FederationError
from common.wire.packed_vector import MOST_BITS, pack_vector, unpack_vector

INTEGERS = st.integers(-(2**22), 2**22)


@given(st.lists(INTEGERS, min_size=1, max_size=60), st.integers(-60, 60))
def test_a_vector_on_a_grid_comes_back_to_the_bit(integers, exponent):
    vector = np.ldexp(np.array(integers, np.float32), exponent)
    content = pack_vector(vector)
    assert content is not None
    assert unpack_vector(content, len(vector), "update").tobytes() == vector.tobytes()


@given(arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_any_vector_is_packed_without_loss_or_not_at_all(vector):
    content = pack_vector(vector)
    if content is None:
        return
    assert unpack_vector(content, len(vector), "update").tobytes() == vector.tobytes()
    assert len(content) <= 8 + len(vector) * MOST_BITS // 8


def test_few_bits_are_used_where_few_are_needed():
    vector = np.random.default_rng(0).integers(-50, 50, 8000).astype(np.float32) / 1024
    assert len(pack_vector(vector)) == 7 + 8000 * 7 // 8
    assert len(pack_vector(np.full(800, 0.25, np.float32))) == 7 + 100
    assert pack_vector(np.random.default_rng(0).normal(size=900).astype(np.float32)) is None
    assert pack_vector(np.empty(0, np.float32)) is None
    assert pack_vector(np.array([1, -0.0], np.float32)) is None


@given(st.binary(max_size=40), st.integers(1, 30))
def test_whatever_comes_is_a_vector_in_its_own_form_or_refused(content, size):
    try:
        vector = unpack_vector(content, size, "update")
    except FederationError:
        return
    assert pack_vector(vector) == content
    assert vector.shape == (size,)
    assert np.isfinite(vector).all()


@pytest.mark.parametrize("change", ["short", "long", "wide", "high", "padding"])
def test_another_form_is_refused(change):
    whole = pack_vector(np.array([1, -3, 2], np.float32))
    wrong = {
        "short": whole[:-1],
        "long": whole + b"\0",
        "wide": whole[:2] + bytes([25]) + whole[3:],
        "high": b"\x7f\x00" + whole[2:],
        "padding": whole[:-1] + bytes([whole[-1] | 0x80 | 0x40]),
    }[change]
    with pytest.raises(FederationError) as caught:
        unpack_vector(wrong, 3, "update")
    assert caught.value.field == "update"


@pytest.mark.parametrize("number", [-3e38, 2.0**127, -(2.0**-149), np.finfo(np.float32).max])
def test_the_ends_of_float32_come_back(number):
    vector = np.full(5, number, np.float32)
    assert unpack_vector(pack_vector(vector), 5, "update").tobytes() == vector.tobytes()
