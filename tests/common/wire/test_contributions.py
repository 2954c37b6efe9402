"""A signed word travels beside the vector; a reply without one says so."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError
from common.privacy.ledger.contributions import Contribution, Purpose
from common.wire.contributions import accepted_contribution, read_contribution, with_contribution
from common.wire.messages import MOST_FACT

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PURPOSE = Purpose("train", "7", 2, "ab" * 32, "cd" * 32, "ef" * 32)
PLAIN = Contribution("ash", PURPOSE, "01" * 32, KEY.public_key().public_bytes_raw().hex())
SIGNED = PLAIN.signed(KEY.sign(PLAIN.message()))


def test_it_arrives_as_it_was_sent():
    content = with_contribution(RecordDict(), SIGNED)
    assert read_contribution(content) == SIGNED
    assert accepted_contribution(content, PLAIN) == SIGNED


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"contribution": ConfigRecord({"contribution": 3})}),
        RecordDict({"contribution": ConfigRecord({"contribution": "{}"})}),
        with_contribution(RecordDict(), PLAIN),
    ],
)
def test_a_reply_without_a_signature_is_refused(content):
    with pytest.raises(FederationError) as caught:
        accepted_contribution(content, PLAIN)
    assert caught.value.field == "contribution"


@pytest.mark.parametrize(("seal", "taken"), [("ab" * 32, True), ("AB" * 32, False), ("x", False)])
def test_a_seal_is_taken_as_it_is_signed_if_it_is_one(seal, taken):
    """What it covers is secret until the canaries are revealed: only an auditor can check it."""
    sealed = replace(PLAIN, seal=seal)
    sealed = sealed.signed(KEY.sign(sealed.message()))
    content = with_contribution(RecordDict(), sealed)
    if taken:
        assert accepted_contribution(content, PLAIN) == sealed
        return
    with pytest.raises(FederationError) as caught:
        accepted_contribution(content, PLAIN)
    assert caught.value.field == "contribution"


def test_one_that_is_too_long_is_not_parsed(monkeypatch):
    monkeypatch.setattr(Contribution, "from_json", lambda _text: pytest.fail("it was parsed"))
    nested = "[" * 9000
    content = RecordDict({"contribution": ConfigRecord({"contribution": nested})})
    with pytest.raises(FederationError, match="more than 8192") as caught:
        read_contribution(content)
    assert caught.value.field == "contribution"


def test_the_longest_name_fits():
    """A name has at most 200 characters, each at most twelve in JSON."""
    named = replace(PLAIN, merchant="\U0001fad6" * MOST_FACT)
    content = with_contribution(RecordDict(), named.signed(KEY.sign(named.message())))
    assert read_contribution(content).merchant == named.merchant


def test_a_seal_that_was_swapped_breaks_the_signature():
    content = with_contribution(RecordDict(), replace(SIGNED, seal="ab" * 32))
    with pytest.raises(FederationError, match="signature"):
        accepted_contribution(content, PLAIN)
