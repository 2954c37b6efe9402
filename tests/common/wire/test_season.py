"""A season's messages: what goes in comes out, and nothing else is read as one."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FederationError
from common.wire.arrays import pack_array
from common.wire.messages import decode_plan_request, encode_plan_request
from common.wire.season import (
    decode_season,
    encode_season,
)
from common.wire.sizes import size_in_bytes

PLAN = "a" * 64
VECTOR = np.arange(8, dtype=np.float32)


def test_what_goes_in_comes_out():
    decode_plan_request(encode_plan_request(PLAN), PLAN)
    np.testing.assert_array_equal(decode_season(encode_season(VECTOR, PLAN), 8, PLAN), VECTOR)


def changed(**records):
    return RecordDict({**encode_season(VECTOR, PLAN), **records})


BAD = {
    "another plan": encode_season(VECTOR, "b" * 64),
    "a shorter vector": encode_season(VECTOR[:7], PLAN),
    "no vector": encode_plan_request(PLAN),
    "more than the vector": changed(
        season=ArrayRecord(
            {name: pack_array(VECTOR, np.float32, "season") for name in ("season", "more")}
        )
    ),
    "another record": changed(season=ConfigRecord({"season": 1})),
    "no run": RecordDict({"season": encode_season(VECTOR, PLAN)["season"]}),
    "other numbers": changed(
        season=ArrayRecord({"season": pack_array(VECTOR.astype(np.uint64), np.uint64, "season")})
    ),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_what_is_no_season_is_refused(content):
    with pytest.raises(FederationError):
        decode_season(content, 8, PLAN)


@given(st.binary(max_size=300))
def test_any_bytes_in_the_vectors_place_are_an_error_of_ours(data):
    content = encode_season(VECTOR, PLAN)
    content["season"]["season"].data = data
    with pytest.raises(FederationError):
        decode_season(content, 8, PLAN)


def test_a_vector_of_the_default_model_stays_below_four_kilobytes():
    """768 numbers, one end, and all that Flower's records add."""
    assert size_in_bytes(encode_season(np.ones(768, np.float32), PLAN)) < 4000
