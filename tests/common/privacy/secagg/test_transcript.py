from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FedtailError, InputError, MaskedReplyError, QuorumError
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from tests.support.secure_sums import SumTown, plain_sum


@pytest.fixture(scope="module", params=[(), ("m004",)], ids=["all", "one missing"])
def taken(request):
    town = SumTown(7)
    vectors = town.vectors(np.random.default_rng(3))
    total = town.run_round(vectors, gone_before=request.param)
    return town, vectors, total, Transcript.of(town.server).to_bytes()


def test_the_sum_is_made_again_from_its_transcript_alone(taken):
    town, vectors, total, content = taken
    transcript = Transcript.from_bytes(content)
    again = sum_again(transcript, town.identities)
    assert np.array_equal(again.vector, total.vector)
    assert np.array_equal(again.vector, plain_sum(vectors, again.survivors))
    assert (again.survivors, again.dropouts) == (total.survivors, total.dropouts)
    assert transcript.to_bytes() == content


def test_other_identities_make_no_sum(taken):
    town, *_, content = taken
    one, other, *rest = town.identities.items()
    swapped = dict([(one[0], other[1]), (other[0], one[1]), *rest])
    with pytest.raises(MaskedReplyError):
        sum_again(Transcript.from_bytes(content), swapped)


@given(data=st.data())
def test_a_transcript_that_was_changed_gives_the_same_sum_or_none(taken, data):
    town, _, total, content = taken
    changed = bytearray(content)
    place = data.draw(st.integers(0, len(content) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        again = sum_again(Transcript.from_bytes(bytes(changed)), town.identities)
    except FedtailError:
        return
    assert np.array_equal(again.vector, total.vector)


def test_what_the_parties_were_asked_for_is_theirs_to_say(taken):
    """An operator names another adapter in all messages at once: the sum would be the same."""
    town, *_, content = taken
    found = Transcript.from_bytes(content)

    def bound(messages):
        return tuple(replace(one, binding=replace(one.binding, asked="f" * 64)) for one in messages)

    other = replace(
        found,
        masked=bound(found.masked),
        views=bound(found.views),
        replies=bound(found.replies),
    )
    with pytest.raises(MaskedReplyError) as caught:
        sum_again(Transcript.from_bytes(other.to_bytes()), town.identities)
    assert caught.value.field == "signature"


def test_a_transcript_that_lacks_too_many_shares_makes_no_sum(taken):
    town, *_, content = taken
    found = Transcript.from_bytes(content)
    short = Transcript(
        found.terms, found.round_number, found.roster, found.masked, found.views, found.replies[:3]
    )
    with pytest.raises(QuorumError):
        sum_again(Transcript.from_bytes(short.to_bytes()), town.identities)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 64])
def test_what_is_no_transcript_is_refused(content):
    with pytest.raises(InputError) as caught:
        Transcript.from_bytes(content)
    assert caught.value.field == "transcript"
