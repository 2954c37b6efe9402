"""A server that lies to a node's real app: each lie ends the round for that node, and is told.

The rest of the conversation is honest, so one lie alone is shown to be found; what several
together would give is the protocol's own (`tests/common/privacy/secagg/test_client_attacks.py`).
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.node.secure_party import _Sitting
from client.node.session import close_nodes
from common.identity.introduction import Introduction
from common.identity.signing_key import SigningKey
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.encoding import encode, read_request
from common.privacy.secagg.kept import _Kept
from common.privacy.secagg.messages import MaskRequest, UnmaskRequest, ViewRequest
from common.privacy.secagg.setup import Party
from common.privacy.secagg.slots import terms_of
from common.settings.run import run_digest
from common.wire import secure_sum as wire
from common.wire.messages import (
    TRAIN,
    decode_train,
    encode_plan_request,
    encode_train,
)
from tests.support.fake_node import SEASON_SIZE, SIZE, make_setup, shops
from tests.support.secure_town import BARE, NAMES, secure_town

__all__ = ["secure_town", "shops"]

pytestmark = pytest.mark.attack
MOST = 1 << 24
LIAR_ASKS = 3  # whom the server lies to


@pytest.fixture
def town(secure_town):
    run = secure_town.run
    secure_town.run = lambda **changes: run(plan=BARE, season_ends=(), **changes)
    return secure_town


def told(kind, change):
    """A change of what a message of the secure sum says."""

    def changed(content):
        return wire.with_secure(content, change(wire.read_asked(kind, content, MOST)))

    return changed


def bound(**changes):
    return lambda asked: replace(asked, binding=replace(asked.binding, **changes))


def violations(town):
    return [
        (one.participants, one.reason)
        for one in town.journal("refusal")
        if one.reason.startswith("secure_sum:")
    ]


def caught(town, reason):
    assert violations(town) == [((NAMES[LIAR_ASKS],), f"secure_sum:{reason}")]


# ------------------------------------------------------------- before anything is paid
BEFORE = {
    "another sum": (bound(round_number=2), "round"),
    "a sum that is none": (bound(round_number=99), "round"),
    "another run": (bound(run_id="8"), "run"),
    "another plan": (bound(plan_digest="0" * 64), "plan"),
    "another roster": (bound(roster="0" * 64), "roster"),
    "another phase": (bound(phase="view"), "phase"),
    "another adapter": (bound(asked="0" * 64), "asked"),
    "another length": (lambda asked: replace(asked, length=asked.length + 1), "length"),
}


@pytest.mark.parametrize("lie", BEFORE)
def test_a_request_to_mask_that_is_none_costs_nothing_and_gives_nothing(town, lie):
    change, reason = BEFORE[lie]
    run = town.run(rounds=1, asks={("train", LIAR_ASKS, 1): told(MaskRequest, change)})
    caught(town, reason)
    assert not town.charged(NAMES[LIAR_ASKS])
    assert run.history[0].participants == 7


def test_a_plain_request_for_an_update_costs_nothing_and_gives_nothing(town):
    def bare(content):
        del content["secure_sum"]
        return content

    town.run(rounds=1, asks={("train", LIAR_ASKS, 1): bare})
    caught(town, "message")
    assert not town.charged(NAMES[LIAR_ASKS])


def test_a_node_that_is_given_another_adapter_is_in_no_sum_with_the_others(town):
    """Else a model that leaves the others no gradient would show one merchant's alone.

    That a server which takes its vector in all the same can read nothing is in
    `tests/common/privacy/secagg/test_client_attacks.py`.
    """

    def lie(content):
        request = decode_train(content, SIZE, BARE.digest)
        other = request.adapter.with_vector(request.adapter.flatten() + 1)
        for name, record in encode_train(replace(request, adapter=other)).items():
            content[name] = record
        return told(MaskRequest, bound(asked=other.digest))(content)

    run = town.run(rounds=1, asks={("train", LIAR_ASKS, 1): lie})
    assert NAMES[LIAR_ASKS] not in town.sum_of("round-00001.sum").survivors
    assert run.history[0].participants == 7
    assert town.charged(NAMES[LIAR_ASKS])["train", 1] == 1  # it did what it was asked, and paid


# ---------------------------------------------------------------------- who is there
GONE = {("train", 7, 1): "before"}  # so that there are views


def moved(one, other):
    """A view in which a party that is there is missing, or the other way round."""

    def change(asked):
        there, missing = set(asked.survivors) ^ {one, other}, set(asked.dropouts) ^ {one, other}
        return replace(asked, survivors=tuple(sorted(there)), dropouts=tuple(sorted(missing)))

    return change


WHO = {
    "unmask: both secrets of one": (
        "unmask",
        UnmaskRequest,
        lambda asked: replace(asked, dropouts=(*asked.dropouts, NAMES[0])),
        "survivors",
    ),
    "unmask: nobody is missing": (
        "unmask",
        UnmaskRequest,
        lambda asked: replace(asked, survivors=NAMES, dropouts=(), views=()),
        "views",
    ),
    "unmask: without the views": (
        "unmask",
        UnmaskRequest,
        lambda asked: replace(asked, views=()),
        "views",
    ),
    "unmask: another view than was signed": (
        "unmask",
        UnmaskRequest,
        moved(NAMES[0], NAMES[7]),
        "views",
    ),
    "unmask: one view counted often": (
        "unmask",
        UnmaskRequest,
        lambda asked: replace(asked, views=asked.views[:1] * len(asked.views)),
        "views",
    ),
    "unmask: views of another round": (
        "unmask",
        UnmaskRequest,
        lambda asked: replace(
            asked,
            views=tuple(
                replace(one, binding=replace(one.binding, round_number=2)) for one in asked.views
            ),
        ),
        "views",
    ),
    "view: a few": (
        "view",
        ViewRequest,
        lambda asked: replace(asked, survivors=NAMES[2:5], dropouts=NAMES[:2] + NAMES[5:]),
        "cohort",
    ),
    "view: this party is missing": (
        "view",
        ViewRequest,
        moved(NAMES[LIAR_ASKS], NAMES[7]),
        "dropouts",
    ),
    "view: a stranger": (
        "view",
        ViewRequest,
        lambda asked: replace(asked, dropouts=(*asked.dropouts, "zoe")),
        "dropouts",
    ),
}


@pytest.mark.parametrize("lie", WHO)
def test_a_party_that_is_lied_to_about_who_is_there_gives_no_share(town, lie):
    phase, kind, change, reason = WHO[lie]
    run = town.run(rounds=1, loses=GONE, asks={(phase, LIAR_ASKS, 1): told(kind, change)})
    assert violations(town)[0] == ((NAMES[LIAR_ASKS],), f"secure_sum:{reason}")
    assert {names for names, _ in violations(town)} == {(NAMES[LIAR_ASKS],)}
    transcript = town.transcript("round-00001.sum")
    assert NAMES[LIAR_ASKS] not in [one.name for one in transcript.replies]
    assert run.history[0].participants == 7  # its vector is in the sum: others' shares open it
    assert town.charged(NAMES[LIAR_ASKS])["train", 1] == 1


def test_two_views_of_one_round_open_nothing_between_them(town):
    """The server tells half of the parties that shop-0 is missing, the others that it is there."""
    lie = told(ViewRequest, moved(NAMES[0], NAMES[7]))
    asks = {("view", place, 1): lie for place in (1, 2, 3)}
    run = town.run(rounds=1, loses=GONE, asks=asks)
    assert [one.participants for one in run.history] == [0]
    assert all(town.charged(name)["train", 1] == 1 for name in NAMES[:7])
    assert [one.participants for one in town.journal("train")] == [()]


# ------------------------------------------------------------------------ who takes part
def company(change):
    return told(wire.Company, change)


def without(*names):
    def change(asked):
        roster = asked.roster
        kept = tuple(one for one in roster.advertisements if one.name not in names)
        return replace(asked, roster=replace(roster, advertisements=kept))

    return change


def forged_keys():
    """Keys that the server made, under a merchant's name, and whose signature is on them."""
    setup = make_setup()
    fixed = run_digest(setup.settings, setup.basis)
    terms = terms_of(BARE, "1", train=SIZE, season=SEASON_SIZE, histogram=1, setup=fixed)
    own = SigningKey.in_memory()
    return own, SecureSumClient(terms, Party(NAMES[0], own, {})).advertise()


def exchanged(asked):
    """Keys that the server made, under a merchant's name."""
    _, forged = forged_keys()
    kept = (forged, *asked.roster.advertisements[1:])
    return replace(asked, roster=replace(asked.roster, advertisements=kept))


def introduced_anew(asked):
    """The same with an introduction that fits them."""
    own, forged = forged_keys()
    roster = (forged, *asked.roster.advertisements[1:])
    known = (Introduction(NAMES[0], own.public.raw), *asked.introductions[1:])
    return wire.Company(known, replace(asked.roster, advertisements=roster))


ROSTERS = {
    "fewer than carry the noise": (without(*NAMES[5:]), "cohort"),
    "without this party": (without(NAMES[LIAR_ASKS]), "roster"),
    "another's keys exchanged": (exchanged, "signature"),
    "a threshold below what hides a summand": (
        lambda asked: replace(asked, roster=replace(asked.roster, threshold=2)),
        "threshold",
    ),
    "a party twice": (
        lambda asked: replace(asked, introductions=(*asked.introductions, asked.introductions[0])),
        "identity",
    ),
    "a stranger": (
        lambda asked: replace(asked, introductions=asked.introductions[1:]),
        "identity",
    ),
}


@pytest.mark.parametrize("lie", ROSTERS)
def test_a_party_that_is_lied_to_about_who_takes_part_deals_no_shares(town, lie):
    change, reason = ROSTERS[lie]
    run = town.run(rounds=1, asks={("share", LIAR_ASKS, 1): company(change)})
    caught(town, reason)
    assert run.history[0].participants == 7  # in a setup without it
    assert not town.charged(NAMES[LIAR_ASKS])


def test_a_merchant_cannot_be_exchanged_once_its_key_was_seen(town):
    """Without an authority's certificates a name is pinned to the key that it had first."""
    town.run(rounds=1)
    run = town.run(asks={("share", LIAR_ASKS, 1): company(introduced_anew)})
    caught(town, "identity")
    assert run.history[-1].participants == 7


# ------------------------------------------------------------------------- again
def ask(town, kind, message, content=None):
    """What the node answers to a message of a server that goes on after the run."""
    content = wire.with_secure(content or encode_plan_request(BARE.digest), message)
    sent = Message(content, 1000 + LIAR_ASKS, kind, ttl=60.0)
    (reply,) = town.grid.send_and_receive([sent], timeout=60.0)
    return reply.error.reason if reply.has_error() else ""


def asked_last(town, phase):
    server = town.strategy._secure.sums.sitting.server
    binding = server._binding(phase)
    return binding, server._survivors


def test_shares_are_given_once_and_a_round_that_is_over_stays_so(town):
    town.run()
    before = town.charged(NAMES[LIAR_ASKS])
    binding, there = asked_last(town, "unmask")
    again = UnmaskRequest(binding, there, ())
    assert ask(town, wire.UNMASK, again) == "secure_sum:unmask"
    fewer = UnmaskRequest(binding, there[1:], there[:1])
    assert ask(town, wire.UNMASK, fewer) == "secure_sum:unmask"
    view = ViewRequest(replace(binding, phase="view"), there[1:], there[:1])
    assert ask(town, wire.VIEW, view) == "secure_sum:round"
    assert town.charged(NAMES[LIAR_ASKS]) == before


def test_a_party_put_back_from_a_copy_masks_no_sum_twice(town):
    """The ledger says that the sum was charged for: a backup of the folder undoes no round."""
    town.run(rounds=1, loses={("train", LIAR_ASKS, 1): "after"})
    (party,) = (town.federation / NAMES[LIAR_ASKS] / "node/secure-sum").glob("run-*.party")
    held = read_request(_Sitting, party.read_bytes(), MOST)
    kept = read_request(_Kept, held.party, MOST)
    assert (kept.last, [one.number for one in kept.rounds]) == (1, [2])
    before = town.charged(NAMES[LIAR_ASKS])
    assert before["train", 1] == 1
    fresh = replace(kept, last=0, opened=())  # as before the round, but for its secrets
    party.write_bytes(encode(replace(held, party=encode(fresh))))
    request = town.strategy._request(next(iter(town.strategy._present.values())), 1)
    binding = replace(asked_last(town, "mask")[0], asked=request.adapter.digest)
    mask = MaskRequest(binding, SIZE)
    assert ask(town, TRAIN, mask, encode_train(request)) == "secure_sum:round"
    assert town.charged(NAMES[LIAR_ASKS]) == before


def test_a_folder_put_back_with_its_ledger_gives_no_shares_again(town, tmp_path):
    """What both know is older; the SuperNode, which holds Flower's context, was not put back."""
    state, copy = town.federation / NAMES[LIAR_ASKS] / "node", tmp_path / "copy"

    def keep(content):
        shutil.copytree(state, copy)
        return content

    town.run(rounds=1, asks={("unmask", LIAR_ASKS, 1): keep})
    binding, there = asked_last(town, "unmask")
    close_nodes()
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    view = ViewRequest(replace(binding, phase="view"), there[1:], there[:1])
    assert ask(town, wire.VIEW, view) == "secure_sum:state"
    assert ask(town, wire.UNMASK, UnmaskRequest(binding, there, ())) == "secure_sum:state"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), kind=st.sampled_from(["share", "accept", "view", "unmask"]))
def test_whatever_comes_the_node_answers_with_a_word(town, content, kind):
    if town.run_id == 0:
        town.run(rounds=1)
    record = encode_plan_request(BARE.digest)
    record["secure_sum"] = ConfigRecord({"message": content or b"0"})
    sent = Message(record, 1000 + LIAR_ASKS, f"query.{kind}", ttl=60.0)
    (reply,) = town.grid.send_and_receive([sent], timeout=60.0)
    assert reply.error.reason == "secure_sum:message"
    assert np.isfinite(town.strategy.state.adapter.flatten()).all()
