"""Each message comes back as it was, and nothing else is read as one."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import MaskedReplyError, SecureSumError
from common.privacy.secagg.encoding import encode, most_bytes, read_reply, read_request
from common.privacy.secagg.messages import (
    Advertisement,
    MaskedVector,
    Roster,
    SealedShares,
    UnmaskReply,
    UnmaskRequest,
    View,
    ViewRequest,
)
from tests.support.secure_sums import SumTown, signing_key

MOST = most_bytes(5, 1, 5)


def messages():
    """Return one message of each kind, from a round in which somebody is missing."""
    town = SumTown(5, setup=False)
    told = {name: town.clients[name].advertise() for name in town.names}
    for one in told.values():
        town.server.receive_advertisement(one)
    town.roster = town.server.roster()
    sealed = {name: town.clients[name].share(town.roster) for name in town.names}
    for one in sealed.values():
        town.server.receive_shares(one)
    accepted = [town.clients[name].accept(town.server.sealed_for(name)) for name in town.names]
    first, there = town.names[0], town.names[:-1]
    request = town.server.start(1)
    masked = {name: town.clients[name].mask(request, np.arange(5) - 2) for name in there}
    for one in masked.values():
        town.server.receive_masked(one)
    asked = town.server.close()
    views = {name: town.clients[name].view(asked) for name in there}
    for one in views.values():
        town.server.receive_view(one)
    unmask = town.server.unmask_request()
    reply = town.clients[first].unmask(unmask)
    return [
        told[first],
        town.roster,
        sealed[first],
        accepted[0],
        request,
        masked[first],
        asked,
        views[first],
        unmask,
        reply,
    ]


MESSAGES = messages()
NAMES = MESSAGES[1].numbers
KINDS = [type(message) for message in MESSAGES]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message):
    again = read_reply(type(message), encode(message), MOST)
    if isinstance(message, MaskedVector):
        np.testing.assert_array_equal(again.vector, message.vector)
        assert again.binding == message.binding
    else:
        assert again == message
    if hasattr(message, "name"):
        assert again.is_by(signing_key(message.name).public)
    if isinstance(message, Roster):
        assert again.digest == message.digest


def test_all_kinds_are_here_and_fit_their_bound():
    assert {
        Advertisement,
        Roster,
        SealedShares,
        ViewRequest,
        View,
        UnmaskRequest,
        UnmaskReply,
    } < set(KINDS)
    assert all(len(encode(message)) <= MOST for message in MESSAGES)
    town = SumTown(12, rounds=7, length=3)
    assert len(encode(town.roster)) <= most_bytes(12, 7, 3)


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(0, len(MESSAGES) - 1),
    other=st.integers(0, len(MESSAGES) - 1),
    cut=st.integers(0, 400),
    byte=st.integers(1, 255),
    junk=st.binary(max_size=20),
)
def test_what_is_cut_changed_longer_or_of_another_kind_is_one_error(place, other, cut, byte, junk):
    content = encode(MESSAGES[place])
    at = cut % len(content)
    changed = content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :]
    for bad, kind in (
        (content[:at], KINDS[place]),
        (content + junk + b"x", KINDS[place]),
        (junk, KINDS[place]),
        (content, KINDS[other] if KINDS[other] is not KINDS[place] else Roster),
    ):
        if bad == content and kind is KINDS[place]:
            continue
        with pytest.raises(MaskedReplyError) as refused:
            read_reply(kind, bad, MOST)
        assert refused.value.public() == "masked_reply:message"
    with contextlib.suppress(SecureSumError):  # one that changed is another message, or none
        found = read_request(KINDS[place], changed, MOST)
        assert encode(found) == changed != content
        named = getattr(found, "name", "")
        assert named not in NAMES or not found.is_by(signing_key(named).public)


@pytest.mark.parametrize(
    "text", [b"[" * 90_000, b'{"a":' * 9_000, b"1" * 5_000, b"NaN", b"\xff", b"null", b'{"name":1}']
)
def test_hostile_json_is_one_error(text):
    content = len(text).to_bytes(8, "big") + text
    for kind in KINDS:
        with pytest.raises(SecureSumError):
            read_request(kind, content, 10**6)


def test_what_is_longer_than_may_be_is_not_looked_at():
    content = encode(MESSAGES[0])
    with pytest.raises(MaskedReplyError):
        read_reply(KINDS[0], content, len(content) - 1)
    with pytest.raises(MaskedReplyError):
        read_reply(KINDS[0], (2**63).to_bytes(8, "big") + b"{}", MOST)
