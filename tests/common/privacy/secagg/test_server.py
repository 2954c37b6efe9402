"""What parties may try against the sum: each is refused with its code."""

import dataclasses

import numpy as np
import pytest

from common.errors import FederationError, MaskedReplyError, QuorumError
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.keys import RoundSecret
from common.privacy.secagg.messages import Acceptance, Roster, ViewRequest
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.shamir import PRIME
from common.privacy.secagg.topology import topology
from tests.support.secure_sums import SumTown, plain_sum, signing_key

pytestmark = pytest.mark.attack


@pytest.fixture
def town():
    return SumTown(8, rounds=2)


def refused(code, function, *arguments):
    with pytest.raises(MaskedReplyError) as error:
        function(*arguments)
    assert error.value.public() == f"masked_reply:{code}"


def altered(message, **changed):
    """Return a party's message with other content, signed by the party itself."""
    return dataclasses.replace(message, **changed).signed(signing_key(message.name))


def to_unmask(town, liars=0, lie=1):
    """Take a round to its last phase; the first `liars` add a lie to each share."""
    vectors = town.vectors(np.random.default_rng(0))
    for message in town.mask_all(vectors).values():
        town.server.receive_masked(message)
    request = town.server.close()
    for place, name in enumerate(town.names):
        reply = town.clients[name].unmask(request)
        if place < liars:
            shares = {other: (share + lie) % PRIME for other, share in reply.self_shares.items()}
            reply = altered(reply, self_shares=shares)
        town.server.receive_unmask(reply)
    return vectors


@pytest.mark.parametrize("liars", [1, 2])
def test_false_shares_are_left_out(town, liars):
    vectors = to_unmask(town, liars)
    found = town.server.finish()
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names))
    with pytest.raises(FederationError):
        town.server.finish()  # the round is closed


def test_more_false_shares_than_are_to_spare_end_the_round(town):
    to_unmask(town, 4)
    with pytest.raises(QuorumError) as error:
        town.server.finish()
    assert error.value.public() == "quorum:shares"
    vectors = town.vectors(np.random.default_rng(1))
    found = town.run_round(vectors, 2)  # the next one works
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names))


def test_a_dealer_whose_secret_is_not_the_one_it_committed_to():
    """It deals shares of another secret: its own vector cannot be unmasked, and it is named."""
    town = SumTown(8, setup=False)
    dealer = town.clients[town.names[2]]
    town.server.receive_advertisement(dealer.advertise())
    dealer.setup.rounds[1].own_self = RoundSecret()
    for name in town.names:
        if name != town.names[2]:
            town.server.receive_advertisement(town.clients[name].advertise())
    town.roster = town.server.roster()
    for name in town.names:
        town.server.receive_shares(town.clients[name].share(town.roster))
    for name in town.names:
        town.clients[name].accept(town.server.sealed_for(name))
    with pytest.raises(QuorumError, match=town.names[2]):
        town.run_round(town.vectors(np.random.default_rng(0)))


def test_a_vector_of_another_size_or_kind_or_a_second_one(town):
    vectors = town.vectors(np.random.default_rng(0))
    sent = list(town.mask_all(vectors).values())
    receive = town.server.receive_masked
    refused("vector", receive, altered(sent[0], vector=np.zeros(6, np.uint64)))
    refused("vector", receive, altered(sent[0], vector=np.zeros((5, 1), np.uint64)))
    refused("vector", receive, altered(sent[0], vector=sent[0].vector.view(np.int64)))
    receive(sent[0])
    refused("vector", receive, altered(sent[0], vector=sent[0].vector + np.uint64(1)))
    for message in sent[1:]:
        receive(message)
    request = town.server.close()
    for name in town.names:
        town.server.receive_unmask(town.clients[name].unmask(request))
    np.testing.assert_array_equal(town.server.finish().vector, plain_sum(vectors, town.names))


def test_a_message_in_somebody_else_s_name(town):
    sent = list(town.mask_all(town.vectors(np.random.default_rng(0))).values())
    receive = town.server.receive_masked
    refused("signature", receive, dataclasses.replace(sent[0], name=sent[1].name))
    refused("signature", receive, dataclasses.replace(sent[0], vector=sent[1].vector))
    refused("signature", receive, dataclasses.replace(sent[0], signature=b""))
    refused("identity", receive, altered(dataclasses.replace(sent[0], name="m999")))


def test_a_message_of_an_earlier_round(town):
    first = town.mask_all(town.vectors(np.random.default_rng(0)), 1)
    town.server.start(2)
    for message in first.values():
        refused("round", town.server.receive_masked, message)


@pytest.mark.parametrize("changed", ["run_id", "plan_digest", "roster", "phase"])
def test_a_message_of_another_run_plan_roster_or_phase(town, changed):
    """Signed by its sender, as a party of two runs at once may have signed it for the other."""
    sent = town.mask_all(town.vectors(np.random.default_rng(0)))
    value = "view" if changed == "phase" else "0" * 64
    binding = dataclasses.replace(town.binding("mask"), **{changed: value})
    for message in sent.values():
        refused("round", town.server.receive_masked, altered(message, binding=binding))


def test_shares_that_are_missing_too_many_or_no_number_of_the_field(town):
    for message in town.mask_all(town.vectors(np.random.default_rng(0))).values():
        town.server.receive_masked(message)
    reply = town.clients[town.names[0]].unmask(town.server.close())
    receive, shares = town.server.receive_unmask, reply.self_shares
    fewer = {name: share for name, share in shares.items() if name != town.names[1]}
    for some in (fewer, shares | {"m999": 1}, shares | {town.names[0]: 1}):
        refused("shares", receive, altered(reply, self_shares=some))
    for number in (-1, PRIME):
        refused("shares", receive, altered(reply, self_shares=shares | {town.names[1]: number}))
    refused("shares", receive, altered(reply, key_shares={town.names[1]: 1}))
    receive(reply)


def test_shares_that_come_twice_or_from_somebody_missing(town):
    """A second reply does not take the first one's place, and who is missing has no say."""
    vectors, gone = town.vectors(np.random.default_rng(0)), town.names[-1]
    for message in town.mask_all(vectors, missing=[gone]).values():
        town.server.receive_masked(message)
    asked = town.server.close()
    for name in town.names[:-1]:
        town.server.receive_view(town.clients[name].view(asked))
    request, receive = town.server.unmask_request(), town.server.receive_unmask
    for name in town.names[:-1]:
        reply = town.clients[name].unmask(request)
        receive(reply)
        refused("shares", receive, altered(reply, self_shares=dict.fromkeys(reply.self_shares, 1)))
    shares = dict.fromkeys(town.names[:-1], 1)
    refused(
        "shares",
        receive,
        altered(dataclasses.replace(reply, name=gone), self_shares=shares, key_shares={}),
    )
    found = town.server.finish()
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names[:-1]))


def test_a_view_that_is_another(town):
    vectors = town.vectors(np.random.default_rng(0))
    for message in town.mask_all(vectors, missing=town.names[-1:]).values():
        town.server.receive_masked(message)
    request = town.server.close()
    view = town.clients[town.names[0]].view(request)
    refused("views", town.server.receive_view, altered(view, digest="0" * 64))
    missing = dataclasses.replace(view, name=town.names[-1])
    refused("views", town.server.receive_view, altered(missing))
    town.server.receive_view(view)
    with pytest.raises(QuorumError) as error:
        town.server.unmask_request()
    assert error.value.public() == "quorum:views"


@pytest.mark.parametrize("short", [0, 1])
def test_a_quorum_of_views_and_one_less(town, short):
    vectors = town.vectors(np.random.default_rng(0))
    for message in town.mask_all(vectors, missing=town.names[-1:]).values():
        town.server.receive_masked(message)
    asked, quorum = town.server.close(), topology(len(town.names)).quorum
    for name in town.names[: quorum - short]:
        view = town.clients[name].view(asked)
        town.server.receive_view(view)
        town.server.receive_view(view)  # twice is one
    if short:
        with pytest.raises(QuorumError) as error:
            town.server.unmask_request()
        assert error.value.public() == "quorum:views"
    else:
        assert len(town.server.unmask_request().views) == quorum


def test_keys_that_are_none_another_party_s_or_for_another_plan():
    town = SumTown(3, setup=False)
    receive = town.server.receive_advertisement
    told = [town.clients[name].advertise() for name in town.names]
    refused("keys", receive, altered(told[0], mask_keys=bytes(32)))
    refused("keys", receive, altered(told[0], cipher_key=bytes(31)))
    refused("keys", receive, altered(told[0], mask_keys=told[0].mask_keys * 2))
    refused("keys", receive, altered(told[0], mask_keys=told[0].cipher_key))  # one key twice
    refused("plan", receive, altered(told[0], terms="0" * 64))
    refused("signature", receive, dataclasses.replace(told[0], terms="0" * 64))
    refused("identity", receive, altered(dataclasses.replace(told[0], name="m999")))
    receive(told[0])
    refused("phase", receive, told[0])
    refused("keys", receive, altered(told[1], mask_keys=told[0].mask_keys))
    refused("keys", receive, altered(told[1], cipher_key=told[0].cipher_key))


def test_shares_for_another_roster_or_not_for_all_neighbours():
    town = SumTown(4, setup=False)
    for name in town.names:
        town.server.receive_advertisement(town.clients[name].advertise())
    message = town.clients[town.names[0]].share(town.server.roster())
    receive = town.server.receive_shares
    refused("roster", receive, altered(message, roster="0" * 64))
    fewer = dict(list(message.sealed.items())[1:])
    refused("shares", receive, altered(message, sealed=fewer))
    refused("shares", receive, altered(message, sealed=message.sealed | {town.names[0]: b""}))
    forged = dict.fromkeys(message.sealed, b"")
    refused("signature", receive, dataclasses.replace(message, sealed=forged))
    receive(message)
    refused("phase", receive, message)
    with pytest.raises(QuorumError) as error:
        town.server.sealed_for(town.names[1])
    assert error.value.public() == "quorum:shares"


def test_a_message_out_of_its_phase(town):
    sent = town.mask_all(town.vectors(np.random.default_rng(0)))
    for message in sent.values():
        town.server.receive_masked(message)
    town.server.close()
    refused("phase", town.server.receive_masked, message)
    with pytest.raises(FederationError):
        town.server.unmask_request()
    with pytest.raises(FederationError):
        town.server.start(1)


def test_one_party_is_no_sum():
    town = SumTown(2, setup=False)
    town.server.receive_advertisement(town.clients[town.names[0]].advertise())
    with pytest.raises(QuorumError) as error:
        town.server.roster()
    assert error.value.public() == "quorum:cohort"


def test_a_server_gives_the_same_roster_each_time_and_takes_no_more_keys():
    town = SumTown(3)
    assert town.server.roster() == town.roster
    assert isinstance(town.roster, Roster)
    late = SecureSumClient(town.terms, town.party(town.names[0])).advertise()
    refused("phase", town.server.receive_advertisement, late)
    assert isinstance(town.server, SecureSumServer)


def test_who_comes_after_the_roster_waits_for_the_next_run():
    town = SumTown(3, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    for one in told[:2]:
        town.server.receive_advertisement(one)
    roster = town.server.roster()
    refused("phase", town.server.receive_advertisement, told[2])
    assert town.server.roster() == roster


def test_who_masked_and_then_vanished_is_in_the_sum(town):
    vectors = town.vectors(np.random.default_rng(3))
    found = town.run_round(vectors, gone_before=town.names[:1], gone_after=town.names[1:2])
    assert found.survivors == tuple(town.names[1:])
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names[1:]))
    for message in town.mask_all(vectors, 2, missing=town.names[:1]).values():
        town.server.receive_masked(message)
    assert isinstance(town.server.close(), ViewRequest)


def accepted(town, unread=(), **changes):
    """A party's signed word for its shares, changed as a liar would before it signs."""
    name = town.names[0]
    told = Acceptance(name, b"", town.server.roster().digest, tuple(unread))
    return altered(told, **changes)


def test_a_party_says_of_neighbours_once_whose_shares_do_not_open(town):
    wrong = {
        "roster": accepted(town, roster="0" * 64),
        "shares": accepted(town, [town.names[0]]),  # its own
        "signature": dataclasses.replace(accepted(town), unread=(town.names[1],)),
        "identity": dataclasses.replace(accepted(town), name="zoe"),
    }
    for field, message in wrong.items():
        refused(field, town.server.receive_acceptance, message)
    for unread in ([town.names[1]] * 2, ["zoe"]):
        refused("shares", town.server.receive_acceptance, accepted(town, unread))
    assert not town.server.disputes
    town.server.receive_acceptance(accepted(town, [town.names[1]]))
    assert town.server.disputes == {(town.names[0], town.names[1])}
    refused("phase", town.server.receive_acceptance, accepted(town))


def test_whose_secret_does_not_open_is_told(town):
    """It dealt false shares, or its holders gave false ones: which, nobody can say."""
    liar, chance = town.names[2], np.random.default_rng(0)
    for name in town.names:
        held = town.clients[name].member.rounds[1].self_shares
        if liar in held:
            held[liar] = (held[liar] + 1) % PRIME
    with pytest.raises(QuorumError) as error:
        town.run_round(town.vectors(chance))
    assert (error.value.field, town.server.unopened) == ("shares", liar)
    vectors = town.vectors(chance)
    assert np.array_equal(town.run_round(vectors, 2).vector, plain_sum(vectors, town.names))
    assert not town.server.unopened


def test_nobody_is_told_where_too_few_gave_shares(town):
    gone = town.names[3:]  # five shares open a secret
    with pytest.raises(QuorumError) as error:
        town.run_round(town.vectors(np.random.default_rng(0)), gone_after=gone)
    assert (error.value.field, town.server.unopened) == ("shares", "")
