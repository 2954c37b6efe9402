"""Only revealed canaries leave, and only those committed to are taken."""

import dataclasses

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.noise import NoiseSource
from common.wire.canaries import (
    decode_audit,
    decode_audit_request,
    encode_audit,
    encode_audit_request,
)
from common.wire.messages import Prepared, decode_prepared, encode_prepared
from common.wire.sizes import size_in_bytes
from tests.support.shops import make_plan

PLAN = make_plan()
RECORD = start_record("ash", "1", PLAN, 16, NoiseSource.for_tests(1)).open()
KEYS = np.arange(3, dtype=np.uint64)
PREPARED = Prepared("ash", "digest", KEYS, RECORD.commitment)


def test_revealed_canaries_arrive_as_they_were_sent():
    content = encode_audit(RECORD, PLAN.digest)
    assert decode_audit(content, PREPARED, PLAN).to_bytes() == RECORD.to_bytes()
    assert size_in_bytes(content) > len(RECORD.to_bytes())


def test_a_commitment_travels_with_the_facts_and_none_does_not():
    assert decode_prepared(encode_prepared(PREPARED)).canaries_commitment == RECORD.commitment
    without = encode_prepared(Prepared("ash", "digest", KEYS))
    assert decode_prepared(without).canaries_commitment == ""
    assert size_in_bytes(without) > 0


def test_a_secret_does_not_leave():
    with pytest.raises(FederationError):
        encode_audit(dataclasses.replace(RECORD, revealed=False), PLAN.digest)


def refused(content, prepared=PREPARED, plan=PLAN):
    with pytest.raises(FederationError) as caught:
        decode_audit(content, prepared, plan)
    return caught.value.public()


def test_what_was_not_committed_to_is_refused():
    flipped = dataclasses.replace(RECORD, bits=~RECORD.bits)
    renamed = dataclasses.replace(RECORD, merchant="birch")
    for record in (flipped, renamed):
        assert refused(encode_audit(record, PLAN.digest)) == "federation:canaries"
    content = encode_audit(RECORD, PLAN.digest)
    assert refused(content, Prepared("ash", "digest", KEYS)) == "federation:canaries"
    other = make_plan(sample_rate=0.1)
    assert refused(content, plan=other) == "federation:plan_digest"
    assert refused(encode_audit(RECORD, other.digest), plan=other) == "federation:canaries"


@pytest.mark.parametrize("canaries", [None, b"", b"x" * 50, 3])
def test_what_is_no_record_is_refused(canaries):
    run = ConfigRecord({"plan_digest": PLAN.digest})
    if canaries is not None:
        run["canaries"] = canaries
    assert refused(RecordDict({"run": run})) == "federation:canaries"
    assert refused(RecordDict({})) == "federation:plan_digest"


def test_a_request_names_the_plan():
    decode_audit_request(encode_audit_request(PLAN.digest), PLAN.digest)
    with pytest.raises(FederationError):
        decode_audit_request(encode_audit_request("b" * 64), PLAN.digest)
