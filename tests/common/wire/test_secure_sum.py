"""The secure sum's messages in Flower's records: what comes is the message, or one error."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError, MaskedReplyError, SecureSumError
from common.privacy.secagg.messages import Terms
from common.wire.secure_sum import (
    MOST_ASKED,
    Dealt,
    Opening,
    index_digest,
    most_of,
    read_answer,
    read_asked,
    read_index,
    with_index,
    with_secure,
)
from tests.support.secure_sums import SumTown


def test_a_message_comes_back_and_none_but_its_kind():
    content = with_secure(RecordDict(), Opening(7))
    for read in (read_asked, read_answer):
        assert read(Opening, content, MOST_ASKED) == Opening(7)
    for bad, most in (
        (content, 8),
        (with_secure(RecordDict(), Dealt({"ash": b"1"})), MOST_ASKED),
        (RecordDict(), MOST_ASKED),
        (RecordDict({"secure_sum": ConfigRecord({"message": "text"})}), MOST_ASKED),
        (RecordDict({"secure_sum": ConfigRecord({"another": b"1"})}), MOST_ASKED),
    ):
        for read, error in ((read_asked, SecureSumError), (read_answer, MaskedReplyError)):
            with pytest.raises(error) as caught:
                read(Opening, bad, most)
            assert caught.value.field == "message"


def test_no_message_of_a_run_is_longer_than_is_said():
    town = SumTown(5, rounds=6, length=40)
    most = most_of(Terms("7", "p" * 64, 6, 40), 5)
    told = with_secure(RecordDict(), town.roster)
    assert len(told["secure_sum"]["message"]) <= most
    assert read_asked(type(town.roster), told, most) == town.roster


def test_the_items_of_a_histogram_ascend_each_once():
    keys = np.array([1, 5, 2**64 - 1], np.uint64)
    assert np.array_equal(read_index(with_index(RecordDict(), keys)), keys)
    for bad in ([], [5, 1], [1, 5, 5], [2**64 - 1, 1]):
        with pytest.raises(FederationError) as caught:
            read_index(with_index(RecordDict(), np.array(bad, np.uint64)))
        assert caught.value.field == "index"
    with pytest.raises(FederationError):
        read_index(RecordDict())


def test_the_digest_of_a_histogram_is_of_its_items_and_their_order():
    keys = np.array([1, 5, 9], np.uint64)
    assert index_digest(keys) == index_digest(keys.astype(">u8").astype(np.uint64))
    assert len({index_digest(some) for some in (keys, keys[:2], keys[::-1])}) == 3
