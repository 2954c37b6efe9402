"""A run's framing on disk: it comes back to the bit, and nothing else is taken for one."""

import numpy as np
import pytest
from safetensors.numpy import save

from common.errors import InputError
from common.federation.bounds import Framing, Part
from common.federation.framing_file import FRAMING_FILE, framing_bytes, read_framing, write_framing

FRAME = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
FRAMING = Framing([Part((6, 3), FRAME), Part((2, 2))])


def test_a_framing_comes_back_and_frames_the_same_bits(tmp_path):
    write_framing(tmp_path, FRAMING)
    again = read_framing(tmp_path)
    assert (again.size, again.inner_size) == (22, 10)
    vector = np.random.default_rng(1).normal(size=10)
    assert np.array_equal(again.frame(vector), FRAMING.frame(vector))
    assert framing_bytes(again) == framing_bytes(FRAMING)


def test_terms_are_added_in_order_whatever_a_library_would_do():
    """In another order 1e16 + 1 - 1e16 is another number."""
    framing = Framing([Part((1, 1), np.array([[1e16, 1.0, -1e16]]))])
    assert framing.frame(np.ones(3)) == [0.0]
    product = FRAME.astype(np.float64) @ np.arange(6.0).reshape(2, 3)
    assert np.allclose(FRAMING.frame(np.arange(10.0))[:18], product.ravel())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        save({"shapes": np.zeros(0, np.uint8)}),
        save({"shapes": np.frombuffer(b"[]", np.uint8)}),
        save({"shapes": np.frombuffer(b"{}", np.uint8)}),
        save({"shapes": np.frombuffer(b'[["a"]]', np.uint8)}),
        save({"other": np.zeros(3)}),
        framing_bytes(FRAMING) + b" ",
        framing_bytes(FRAMING).replace(b"[[6, 3], [2, 2]]", b"[[6,  3],[2, 2]]"),
    ],
)
def test_what_is_no_framing_is_refused(tmp_path, content):
    (tmp_path / FRAMING_FILE).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_framing(tmp_path)
    assert caught.value.field == "framing"


def test_a_framing_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError):
        read_framing(tmp_path)


def test_shapes_nested_too_deeply_are_refused(tmp_path):
    deep = save({"shapes": np.frombuffer(b"[" * 100_000, np.uint8)})
    (tmp_path / FRAMING_FILE).write_bytes(deep)
    with pytest.raises(InputError, match="is not a run's framing"):
        read_framing(tmp_path)
