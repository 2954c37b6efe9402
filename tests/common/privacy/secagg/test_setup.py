"""What a server may try before the first round: rosters, keys and shares that are not true.

Each is refused with its code and ends the setup for that party.
"""

import dataclasses

import numpy as np
import pytest

from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.keys import seal
from common.privacy.secagg.messages import MaskRequest, Roster
from common.privacy.secagg.shamir import SHARE_BYTES
from tests.support.secure_sums import SumTown, refused, signing_key

pytestmark = pytest.mark.attack


def test_replayed_keys():
    """Keys of an earlier run, or of the same run under an older plan."""
    for old in (SumTown(4, run_id="6"), SumTown(4, plan="o" * 64), SumTown(4, rounds=2)):
        town = SumTown(4, setup=False)
        told = [town.clients[name].advertise() for name in town.names]
        told[2] = old.roster.advertisements[2]
        refused("plan", town.clients[town.names[0]].share, Roster(3, tuple(told)))


def test_a_party_s_own_keys_replayed():
    """Keys that a party told before a restart are not its own any more."""
    before, town = SumTown(4), SumTown(4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    told[0] = before.roster.advertisements[0]
    refused("roster", town.clients[town.names[0]].share, Roster(3, tuple(told)))


def test_swapped_keys():
    town = SumTown(4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    swapped = [dataclasses.replace(told[3], name=told[2].name), told[3]]
    refused("signature", town.clients[town.names[0]].share, Roster(3, (*told[:2], *swapped)))


def test_keys_of_the_server_s_own():
    """The server signs keys that it made, and puts them under a merchant's name."""
    town = SumTown(4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    made = SecureSumClient(town.terms, town.party(town.names[3])).advertise()
    forged = made.signed(signing_key("the server"))
    refused("signature", town.clients[town.names[0]].share, Roster(3, (*told[:3], forged)))


def test_parties_that_nobody_enrolled():
    town, other = SumTown(3, setup=False), SumTown(6, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    told += [other.clients[name].advertise() for name in other.names[3:]]
    refused("identity", town.clients[town.names[0]].share, Roster(4, tuple(told)))


def test_a_shrunken_cohort():
    town = SumTown(4, least_cohort=4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    refused("cohort", town.clients[town.names[0]].share, Roster(2, tuple(told[:3])))


def test_a_lowered_threshold():
    for threshold in (0, 1, 2, 4):
        town = SumTown(4, setup=False)
        told = tuple(town.clients[name].advertise() for name in town.names)
        refused("threshold", town.clients[town.names[0]].share, Roster(threshold, told))


def test_who_was_told_to_compute_on_something_else_takes_part_with_nobody():
    """On another basis a party's gradients may be nothing, and a sum of one is that one's."""
    town, other = SumTown(4, setup=False), SumTown(4, setup=False)
    terms = dataclasses.replace(town.terms, setup="f" * 64)
    name = town.names[3]
    told = [town.clients[one].advertise() for one in town.names]
    told[3] = SecureSumClient(terms, other.party(name)).advertise()
    refused("plan", town.clients[town.names[0]].share, Roster(3, tuple(told)))


def test_keys_that_are_told_or_used_twice():
    town = SumTown(4, rounds=2, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    refused("keys", town.clients[town.names[1]].advertise)
    name = town.names[3]
    again = dataclasses.replace(told[3], mask_keys=told[3].mask_keys[:32] * 2)
    told[3] = again.signed(signing_key(name))
    refused("keys", town.clients[town.names[0]].share, Roster(3, tuple(told)))


@pytest.mark.parametrize("part", ["cipher_key", "mask_keys", "commitments"])
def test_keys_of_another_size(part):
    town = SumTown(4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    longer = dataclasses.replace(told[3], **{part: getattr(told[3], part) + bytes(1)})
    told[3] = longer.signed(signing_key(town.names[3]))
    refused("keys", town.clients[town.names[0]].share, Roster(3, tuple(told)))


def test_a_point_that_gives_everybody_the_same_key():
    for part in ("cipher_key", "mask_keys"):
        town = SumTown(4, setup=False)
        told = [town.clients[name].advertise() for name in town.names]
        told[3] = dataclasses.replace(told[3], **{part: bytes(32)}).signed(
            signing_key(town.names[3])
        )
        roster, client = Roster(3, tuple(told)), town.clients[town.names[0]]
        if part == "cipher_key":
            refused("keys", client.share, roster)
            continue
        town.clients[town.names[3]].setup.told = told[3]  # it knows what it does
        dealt = {name: town.clients[name].share(roster).sealed for name in town.names}
        client.accept({name: dealt[name][town.names[0]] for name in town.names[1:]})
        town.roster = roster
        request = MaskRequest(town.binding("mask"), 5)
        refused("keys", client.mask, request, np.zeros(5, np.int64))


def dealt(parties=4):
    """A town in which all shares were dealt and none was accepted."""
    town = SumTown(parties, setup=False)
    for name in town.names:
        town.server.receive_advertisement(town.clients[name].advertise())
    roster = town.server.roster()
    for name in town.names:
        town.server.receive_shares(town.clients[name].share(roster))
    return town


@pytest.mark.parametrize("change", ["own", "missing"])
def test_shares_of_its_own_or_not_its_neighbours(change):
    town = dealt()
    me, client = town.names[0], town.clients[town.names[0]]
    sealed = town.server.sealed_for(me)
    if change == "own":
        sealed[me] = sealed[town.names[1]]
    else:
        del sealed[town.names[1]]
    refused("shares", client.accept, sealed)
    refused("phase", client.accept, town.server.sealed_for(me))  # no second try
    refused("phase", client.mask, town.server.start(1), np.zeros(5, np.int64))


@pytest.mark.parametrize(
    ("change", "whose"),
    [("altered", [1]), ("short", [1]), ("fewer", [1]), ("swapped", [1, 2])],
)
def test_whose_shares_do_not_open_is_told_and_the_party_takes_no_part(change, whose):
    """Who lies is open: the neighbour, the server, or this party. It costs this setup alone."""
    town = dealt()
    me, client = town.names[0], town.clients[town.names[0]]
    sealed = town.server.sealed_for(me)
    one, other = town.names[1], town.names[2]
    if change == "altered":
        sealed[one] = sealed[one][:-1] + bytes([sealed[one][-1] ^ 1])
    elif change == "short":
        sealed[one] = b""
    elif change == "fewer":  # by that neighbour itself: they open, and are of no such run
        setup = town.clients[one].setup
        sealed[one] = seal(setup._key_with(me, one, me), bytes(SHARE_BYTES), setup._about(one, me))
    else:
        sealed[one], sealed[other] = sealed[other], sealed[one]
    told = client.accept(sealed)
    assert (told.name, told.unread) == (me, tuple(town.names[place] for place in whose))
    town.server.receive_acceptance(told)
    assert town.server.disputes == {(me, town.names[place]) for place in whose}
    refused("phase", client.accept, town.server.sealed_for(me))  # no second try
    refused("phase", client.mask, town.server.start(1), np.zeros(5, np.int64))


@pytest.mark.parametrize("whose", ["own", "a stranger's"])
def test_a_share_of_nobody_around_is_refused_whoever_sealed_it(whose):
    """Of its own secrets a party must give no share, also where it is sealed as it should be."""
    town = SumTown(4, setup=False)
    for name in town.names:
        town.server.receive_advertisement(town.clients[name].advertise())
    roster = town.server.roster()
    for name in town.names:
        town.server.receive_shares(town.clients[name].share(roster))
    me = town.names[0]
    sealed, setup = town.server.sealed_for(me), town.clients[me].setup
    if whose == "own":
        key = setup._key_with(me, me, me)
        sealed[me] = seal(key, bytes(2 * SHARE_BYTES), setup._about(me, me))
    else:
        sealed["zoe"] = sealed[town.names[1]]
    refused("shares", town.clients[me].accept, sealed)


def test_a_party_that_is_named_twice():
    town = SumTown(4, setup=False)
    told = [town.clients[name].advertise() for name in town.names]
    refused("roster", town.clients[town.names[0]].share, Roster(4, (*told, told[3])))


def test_messages_before_their_time():
    town = SumTown(4, setup=False)
    client = town.clients[town.names[0]]
    refused("phase", client.accept, {})
    fresh = SecureSumClient(town.terms, town.party(town.names[1]))
    refused("phase", fresh.share, Roster(3, ()))


def test_parties_with_different_rosters_never_hold_each_other_s_shares():
    """The server makes each believe in another cohort: shares are bound to the roster."""
    town = SumTown(4, setup=False)
    told = tuple(town.clients[name].advertise() for name in town.names)
    first = town.clients[town.names[0]]
    first.share(Roster(3, told))
    others = [town.clients[name].share(Roster(2, told[:3])) for name in town.names[1:3]]
    sealed = {message.name: message.sealed[town.names[0]] for message in others}
    sealed[town.names[3]] = bytes(80)
    assert first.accept(sealed).unread == tuple(town.names[1:])
    assert first.member is None
