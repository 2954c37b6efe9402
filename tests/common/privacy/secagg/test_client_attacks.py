"""What a server may try against parties, each refused with its code, and none opens a summand.

The server here is the attacker: it has all that parties sent, forwards what it likes, and may hold
the keys of some parties. What it may try before the first round is in `test_setup.py`.
`tests/attacks/test_secaggplus.py` shows the first of these attacks succeeding against Flower's own
protocol.
"""

import dataclasses

import numpy as np
import pytest

from common.privacy.secagg.keys import expand
from common.privacy.secagg.messages import UnmaskRequest, View, view_digest
from common.privacy.secagg.shamir import combine
from common.privacy.secagg.topology import Topology
from common.privacy.secagg.unmasking import Opened, without_masks
from tests.support.secure_sums import SumTown, plain_sum, refused, signing_key

pytestmark = pytest.mark.attack
PARTIES = 7  # a threshold of 5 of the 6 others, a quorum of 5, one may be missing


@pytest.fixture
def town():
    return SumTown(PARTIES, rounds=4)


def masked(town, number=1, missing=()):
    """Let all but `missing` mask their vectors, and return the first party."""
    town.mask_all(town.vectors(np.random.default_rng(number)), number, missing)
    return town.clients[town.names[0]]


def signed_views(town, names, asked, number=1):
    """Return views as the named parties sign them, whether or not they were asked."""
    binding = town.binding("view", number)
    digest = view_digest(asked.survivors, asked.dropouts)
    return [View(name, b"", binding, digest).signed(signing_key(name)) for name in names]


def nothing_more(town, client, number=1):
    """Assert that the round is over for this party: it signs and opens nothing in it."""
    refused("unmask", client.unmask, town.unmask_request(number=number))
    refused("round", client.view, town.view_request((town.names[-1],), number))


# ------------------------------------------------------------------ the nine, and more
def test_the_same_node_alive_and_dead(town):
    client, victim = masked(town), town.names[1]
    both = dataclasses.replace(town.unmask_request(), dropouts=(victim,))
    refused("survivors", client.unmask, both)
    nothing_more(town, client)
    twice = dataclasses.replace(
        town.view_request(), survivors=(victim, *town.names), binding=town.binding("view")
    )
    refused("survivors", town.clients[town.names[2]].view, twice)


def test_a_second_unmask(town):
    client = masked(town)
    client.unmask(town.unmask_request())
    refused("unmask", client.unmask, town.unmask_request())
    refused("unmask", client.unmask, town.unmask_request((town.names[1],)))
    refused("round", client.view, town.view_request((town.names[1],)))


def test_a_cohort_that_shrinks_in_a_round(town):
    client = masked(town)
    refused("cohort", client.view, town.view_request(town.names[-2:]))
    nothing_more(town, client)


def test_a_false_dropout_list(town):
    """It names this party, which has answered; a stranger; or not all that are missing."""
    for number, missing in enumerate((town.names[0], "m999"), 1):
        client = masked(town, number)
        refused("dropouts", client.view, town.view_request((missing,), number))
    client = masked(town, 3)
    short = dataclasses.replace(town.view_request(number=3), survivors=tuple(town.names[:-1]))
    refused("dropouts", client.view, short)


def test_a_party_that_answered_and_is_called_missing_keeps_its_vector(town):
    """The server has its masked vector, and gets its mask key: the self mask is left on it."""
    victim, number = town.names[-1], 1
    vectors = town.vectors(np.random.default_rng(0))
    sent = town.mask_all(vectors, number)
    asked = town.view_request((victim,))
    others = town.names[:-1]
    views = [town.clients[name].view(asked) for name in others]
    request = town.unmask_request((victim,), views)
    replies = {name: town.clients[name].unmask(request) for name in others}
    member = town.clients[victim].member
    shares = {member.numbers[name]: reply.key_shares[victim] for name, reply in replies.items()}
    assert combine(shares, 5)  # its key of this round is open: its pairwise masks are known
    assert all(victim not in reply.self_shares for reply in replies.values())
    for name in others:
        refused("unmask", town.clients[name].unmask, town.unmask_request())
    left = town.clients[victim].opened.secrets.own_self.self_key(member.digest, number)
    assert not (sent[victim].vector == vectors[victim].view(np.uint64)).any()
    assert expand(left, 1) != 0


def test_split_views(town):
    """Two parties are said to be missing, each to a part of the others."""
    masked(town)
    one, other = town.names[5], town.names[6]
    first, second = town.view_request((other,)), town.view_request((one,))
    views = [town.clients[name].view(first) for name in town.names[:3]]
    views += [town.clients[name].view(second) for name in town.names[3:5]]
    for missing, name in ((other, town.names[0]), (one, town.names[3])):
        refused("views", town.clients[name].unmask, town.unmask_request((missing,), views))


def test_split_views_with_parties_of_the_server_s(town):
    """As many as may be with the server sign all views, and no second one reaches a quorum."""
    masked(town)
    bad = town.names[5:]  # two of seven: `Topology.colluders`
    honest = town.names[:5]
    first = town.view_request((town.names[4],))
    second = town.view_request((town.names[0],))
    views = [town.clients[name].view(first) for name in honest[:3]]
    views += signed_views(town, bad, first)
    town.clients[honest[0]].unmask(town.unmask_request((town.names[4],), views))
    views = [town.clients[name].view(second) for name in honest[3:]]
    views += signed_views(town, bad, second)
    refused("views", town.clients[honest[3]].unmask, town.unmask_request((town.names[0],), views))


def test_nobody_missing_beside_a_view_in_which_somebody_is(town):
    """Who unmasked without views signs none; who signed one does not unmask without."""
    masked(town)
    asked = town.view_request((town.names[6],))
    early, late = town.clients[town.names[0]], town.clients[town.names[1]]
    early.unmask(town.unmask_request())
    refused("round", early.view, asked)
    late.view(asked)
    refused("views", late.unmask, town.unmask_request())


def test_a_second_view(town):
    client = masked(town)
    client.view(town.view_request((town.names[1],)))
    refused("views", client.view, town.view_request((town.names[2],)))
    nothing_more(town, client)


def test_a_quorum_for_a_view_that_a_party_did_not_sign(town):
    """Five others agree; who signed another view, or none, gives no share under theirs."""
    masked(town)
    missing = (town.names[6],)
    asked = town.view_request(missing)
    views = signed_views(town, town.names[1:6], asked)
    request = town.unmask_request(missing, views)
    other = town.clients[town.names[0]]
    other.view(town.view_request((town.names[5],)))
    refused("views", other.unmask, request)
    refused("views", town.clients[town.names[1]].unmask, request)
    third = town.clients[town.names[2]]
    third.view(asked)
    assert third.unmask(request).key_shares.keys() == {town.names[6]}


def test_views_that_are_forged_counted_twice_or_of_another_round(town):
    missing = (town.names[6],)
    there = town.names[:6]
    for number, change in enumerate(("forged", "twice", "older", "absent"), 1):
        client = masked(town, number)
        asked = town.view_request(missing, number)
        own = client.view(asked)
        views = [own, *signed_views(town, there[1:], asked, number)]
        if change == "forged":
            views[3] = views[3].signed(signing_key("the server"))
        elif change == "twice":
            views = [own, *[views[1]] * 6]
        elif change == "older":
            views[3:] = signed_views(town, there[3:], asked, number - 1)
        else:
            views[3:] = signed_views(town, missing * 3, asked, number)
        refused("views", client.unmask, town.unmask_request(missing, views, number))


def test_one_party_s_many_signatures_are_one_view(town, monkeypatch):
    """Who chooses the random part of its signature can make as many of one view as it likes."""
    missing = (town.names[6],)
    client = masked(town)
    asked = town.view_request(missing)
    own = client.view(asked)
    (one,) = signed_views(town, [town.names[5]], asked)
    views = [own, *(dataclasses.replace(one, signature=bytes([place]) * 64) for place in range(6))]
    monkeypatch.setattr(View, "is_by", lambda *_: True)
    refused("views", client.unmask, town.unmask_request(missing, views))


def test_who_is_missing_has_no_say_in_who_is_there(town):
    missing = (town.names[6],)
    client = masked(town)
    asked = town.view_request(missing)
    views = [client.view(asked), *signed_views(town, town.names[1:4], asked)]
    views += signed_views(town, missing, asked)  # five views of the five that it takes
    refused("views", client.unmask, town.unmask_request(missing, views))


def test_dropouts_without_views(town):
    client = masked(town)
    refused("views", client.unmask, town.unmask_request((town.names[1],)))


def test_a_ring_wants_views_also_where_nobody_is_missing():
    def ring(parties):
        return Topology(parties, 8, 5, 8, parties - 2, 1, views_always=True)

    town = SumTown(11, shape_of=ring)
    client = masked(town)
    refused("views", client.unmask, town.unmask_request())


def test_a_stale_round(town):
    masked(town, 1)
    client = masked(town, 2)
    for function, request in (
        (client.view, town.view_request(number=1)),
        (client.unmask, town.unmask_request(number=1)),
    ):
        refused("round", function, request)
    request = dataclasses.replace(town.server.start(3), binding=town.binding("mask", 1))
    refused("round", client.mask, request, np.zeros(5, np.int64))


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("plan", {"plan_digest": "q" * 64}),
        ("run", {"run_id": "8"}),
        ("roster", {"roster": "r" * 64}),
        ("phase", {"phase": "view"}),
        ("round", {"round_number": 0}),
        ("round", {"round_number": 5}),
    ],
)
def test_a_swapped_plan_run_roster_phase_or_round(town, code, changed):
    client = town.clients[town.names[0]]
    binding = dataclasses.replace(town.binding("mask"), **changed)
    request = dataclasses.replace(town.server.start(1), binding=binding)
    refused(code, client.mask, request, np.zeros(5, np.int64))
    if code != "round":
        client = masked(town, 2)
        binding = dataclasses.replace(town.binding("unmask", 2), **changed)
        request = dataclasses.replace(town.unmask_request(number=2), binding=binding)
        refused(code, client.unmask, request)
        nothing_more(town, client, 2)


def test_parties_that_were_asked_for_different_things_have_no_sum(town):
    """The server has each party's shares by that party's own request, and all masks stay on."""
    vectors, names = town.vectors(np.random.default_rng(0)), town.names
    asked = dict.fromkeys(names, "a" * 64) | {names[0]: "b" * 64}
    request = town.server.start(1)
    sent, replies = {}, {}
    for name in names:
        binding = dataclasses.replace(request.binding, asked=asked[name])
        sent[name] = town.clients[name].mask(
            dataclasses.replace(request, binding=binding), vectors[name]
        )
    refused("asked", town.clients[names[1]].unmask, told_as(town, "b" * 64))
    for name in names:
        if name != names[1]:
            replies[name] = town.clients[name].unmask(told_as(town, asked[name]))
    around = {name: tuple(other for other in names if other != name) for name in names}
    for guess in ("a" * 64, "b" * 64, ""):
        opened = Opened(town.roster, town.roster.threshold, around, 1, guess)
        for name in names:
            opened.open_self(name, replies)
        found = without_masks({name: one.vector for name, one in sent.items()}, opened)
        assert not (found == plain_sum(vectors, names)).any()


def test_views_of_who_was_asked_for_something_else_make_no_quorum(town):
    """The server puts its own digest where a party's was: what that party signed says otherwise."""
    names, missing = town.names, (town.names[6],)
    request = town.server.start(1)
    asked = {name: "ab"[place % 2] * 64 for place, name in enumerate(names)}
    bound = {name: dataclasses.replace(request.binding, asked=asked[name]) for name in names}
    views = {}
    for name in names[:6]:
        town.clients[name].mask(
            dataclasses.replace(request, binding=bound[name]), np.zeros(5, np.int64)
        )
        view = dataclasses.replace(
            town.view_request(missing),
            binding=dataclasses.replace(bound[name], phase="view"),
        )
        views[name] = town.clients[name].view(view)
    told = {
        name: dataclasses.replace(view, binding=views[names[0]].binding)
        for name, view in views.items()
    }
    last = town.unmask_request(missing, tuple(told.values()))
    last = dataclasses.replace(last, binding=dataclasses.replace(bound[names[0]], phase="unmask"))
    refused("views", town.clients[names[0]].unmask, last)


def test_parties_that_were_asked_for_one_thing_have_a_sum_also_with_one_missing(town):
    vectors, names = town.vectors(np.random.default_rng(0)), town.names
    request = town.server.start(1, "a" * 64)
    assert request.binding.asked == "a" * 64
    for name in names[1:]:
        town.server.receive_masked(town.clients[name].mask(request, vectors[name]))
    asked = town.server.close()
    for name in names[1:]:
        town.server.receive_view(town.clients[name].view(asked))
    last = town.server.unmask_request()
    for name in names[1:]:
        town.server.receive_unmask(town.clients[name].unmask(last))
    found = town.server.finish()
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, names[1:]))


def told_as(town, asked):
    """A request to unmask with nobody missing, for whoever was asked for this."""
    request = town.unmask_request()
    return dataclasses.replace(request, binding=dataclasses.replace(request.binding, asked=asked))


def test_a_longer_vector_and_the_same_round_once_more(town):
    client, nothing = town.clients[town.names[0]], np.zeros(5, np.int64)
    request = town.server.start(1)
    refused("length", client.mask, dataclasses.replace(request, length=6), nothing)
    refused("round", client.mask, request, nothing)  # its masks are gone
    request = town.server.start(2)
    client.mask(request, nothing)
    refused("round", client.mask, request, nothing)


@pytest.mark.parametrize("vector", [np.zeros(6, np.int64), np.zeros(5), np.zeros((5, 1), np.int64)])
def test_a_vector_that_is_not_what_the_plan_sums(town, vector):
    refused("vector", town.clients[town.names[0]].mask, town.server.start(1), vector)


def test_shares_are_of_others_alone(town):
    """No party holds a share of its own secret, or gives one."""
    for name in town.names:
        held = town.clients[name].member.rounds[1]
        assert name not in held.self_shares
        assert name not in held.key_shares
    masked(town)
    for name in town.names:
        reply = town.clients[name].unmask(town.unmask_request())
        assert name not in reply.self_shares
        assert not reply.key_shares


def test_a_request_in_the_clear_is_no_unmask_request(town):
    """A view request sent as an unmask request is of another phase."""
    client = masked(town)
    asked = town.view_request()
    refused("phase", client.unmask, UnmaskRequest(asked.binding, asked.survivors, asked.dropouts))
