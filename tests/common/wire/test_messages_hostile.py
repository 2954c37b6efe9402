"""Whatever a message holds, reading it gives a value or a FederationError that names a field."""

import random

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import FederationError
from common.wire.arrays import pack_array, unpack_array
from tests.support.hostile import BUFFERS
from tests.support.mutations import KINDS, mutated, readers


def read(kind, content):
    """Read all of a message; return how many of the readers refused it."""
    refused = 0
    for one in readers(kind, content):
        try:
            one()
        except FederationError as error:
            assert error.field  # noqa: PT017 - nothing else may be raised at all
            refused += 1
    return refused


@given(st.sampled_from(KINDS), st.integers(0, 2**64))
def test_a_mutated_message_is_a_value_or_named(kind, seed):
    read(kind, mutated(kind, random.Random(seed)))


@pytest.mark.slow
@pytest.mark.attack
def test_a_hundred_thousand_mutated_messages():
    """100,000 mutated messages: each a value, or a FederationError that names a field."""
    rng, refused = random.Random(50), 0
    for number in range(100_000):
        kind = KINDS[number % len(KINDS)]
        refused += read(kind, mutated(kind, rng)) > 0
    assert refused > 90_000  # the mutations do reach the readers


@pytest.mark.parametrize("kind", KINDS)
def test_the_readers_read_what_is_whole(kind):
    refused = read(kind, kind())
    assert refused < len(list(readers(kind, kind())))


@given(st.binary(max_size=400))
@example(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }")
def test_any_bytes_are_an_array_or_named(content):
    for head in (b"", b"\x93NUMPY\x01\x00"):
        array = Array("float32", (3,), "numpy.ndarray", head + content)
        try:
            found = unpack_array(array, np.float32, "vector", most=100)
        except FederationError as error:
            assert error.field == "vector"  # noqa: PT017 - nothing else may be raised
        else:
            assert found.dtype == np.float32


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_that_misleads_numpy_is_refused(name):
    array = Array("float32", (12,), "numpy.ndarray", BUFFERS[name])
    with pytest.raises(FederationError):
        unpack_array(array, np.float32, "vector", shape=(12,))


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4), (2, 0, 3), (1, 2, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint64])
def test_what_is_packed_is_read(shape, dtype):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = unpack_array(pack_array(values, dtype, "a"), dtype, "a", shape=shape)
    np.testing.assert_array_equal(found, values)
