"""Where a node counts its items in a histogram that is over everybody's."""

import numpy as np
import pytest

from client.node.popularity import places_in
from common.errors import FederationError

INDEX = np.array([3, 7, 2**63 + 1, 2**64 - 1], np.uint64)


def test_each_item_has_the_place_of_its_text_and_equal_texts_have_one():
    keys = np.array([7, 2**64 - 1, 3, 7], np.uint64)
    assert places_in(INDEX, keys).tolist() == [1, 3, 0, 1]


@pytest.mark.parametrize("key", [0, 4, 2**63, 2**64 - 2])
def test_an_item_that_is_left_out_is_not_counted_as_another(key):
    """Before anything is charged; above the last key, too."""
    for index in (INDEX, INDEX[:-1]):
        with pytest.raises(FederationError) as caught:
            places_in(index, np.array([7, key], np.uint64))
        assert caught.value.public() == "federation:index"
