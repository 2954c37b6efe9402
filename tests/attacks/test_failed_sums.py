"""Merchants that spoil sums: the run goes on in the same start, and costs no more than its plan.

What an auditor makes of such a run, and of a server that lies about one, is in
`tests/common/audit/secure_sums/test_failed.py`.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message

from client.node.secure_party import SecureParty
from common.errors import FedtailError, QuorumError, SecureSumError
from common.federation.bounds import Framing
from common.federation.contribution_files import FOLDER
from common.federation.failed_sums import ENDED, MOST_FAILED, failed_file
from common.federation.secure_step import mean_gradient
from common.privacy.secagg.messages import UnmaskRequest
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.shamir import PRIME
from common.privacy.secagg.transcript import Transcript
from common.wire import secure_sum as wire
from common.wire.messages import encode_plan_request
from server.run.asking.left_out import LeftOut
from server.run.asking.questions import Questions
from server.run.asking.secure_sum import FailedSumError
from server.run.countersigning import Countersigning
from server.run.exchange import Exchange
from server.run.run_setup import plain_parts
from server.run.strategy import FedtailStrategy
from tests.attacks.test_secure_sum import MOST, violations
from tests.support.fake_node import shops
from tests.support.secure_town import BARE, NAMES, secure_town

__all__ = ["secure_town", "shops"]

pytestmark = pytest.mark.attack
HOSTILE = 3
PLAN_ROUNDS = Counter([("popularity", 0), ("season", 0), *(("train", n) for n in (1, 2, 3))])
HONEST = SecureParty.mask
LONG = replace(BARE, steps=MOST_FAILED + 3)  # two rounds, as many as a start bears, one more


@pytest.fixture
def acts(monkeypatch):
    """Let some merchants' parties do something else than they should."""

    def change(method, act, who=(HOSTILE,)):
        honest = getattr(SecureParty, method)
        names = {NAMES[place] for place in who}

        def acted(party, *arguments):
            if party._ledger.merchant not in names:
                return honest(party, *arguments)
            return act(party, lambda *given: honest(party, *(given or arguments)), *arguments)

        monkeypatch.setattr(SecureParty, method, acted)

    return change


def garbage(*slots):
    """Mask what no honest party has, in these kinds and rounds, or in all."""

    def act(_party, honest, request, share):
        if not slots or (share.kind, share.round_number) in slots:
            share.integers[:] = 2**58
        return honest(request, share)

    return act


def signed(party, message, **changes):
    return replace(message, **changes).signed(party._ledger.signing_key)


def counts(run):
    return [one.participants for one in run.history]


def named(town):
    return {name for one in town.journal("refusal") for name in one.participants}


# --------------------------------------------------------------- nobody can be named
def test_garbage_in_one_round_costs_that_round(secure_town, acts):
    acts("mask", garbage(("train", 2)))
    run = secure_town.run()
    assert [count > 0 for count in counts(run)] == [True, False, True]
    assert all(secure_town.charged(name) <= PLAN_ROUNDS for name in NAMES)
    second = secure_town.journal("train")[1]
    assert (second.reason, second.given_up) == ("federation:update_norm", True)
    assert not named(secure_town)


def test_garbage_in_each_sum_spoils_as_many_as_there_are_groups_and_no_more(secure_town, acts):
    """Of eight, two may sit out: after four sums at most the spoiler does, and all others learn."""
    acts("mask", garbage())
    run = secure_town.run()
    first = secure_town.journal("popularity")
    assert [one.failed for one in first] == [True, True, False]  # its group is the second
    assert counts(run) == [6, 6, 6]
    assert NAMES[HOSTILE] not in secure_town.sum_of("round-00003.sum").survivors
    for name in NAMES[4:]:  # they are in all three
        assert secure_town.charged(name) == PLAN_ROUNDS + Counter({("popularity", 0): 2})


def test_two_that_spoil_each_sum_end_the_start_after_a_stated_number(secure_town, acts):
    """They never sit out together. What the run has come to is its outcome."""
    later = [("train", number) for number in range(3, LONG.rounds + 1)]
    acts("mask", garbage(*later), (0, 7))
    run = secure_town.run(plan=LONG, season_ends=())
    assert counts(run) == [8, 8] + [0] * (MOST_FAILED + 1)
    reasons = [one.reason for one in secure_town.journal("train")]
    assert reasons == ["", ""] + ["federation:update_norm"] * MOST_FAILED + [ENDED]
    ended = secure_town.journal("train")[-1]
    assert (ended.receipts, ended.adapter) == ((), run.state.adapter.digest)
    for name in NAMES:
        paid = secure_town.charged(name)
        assert paid["train", LONG.rounds] == 0
        assert max(paid.values()) == 1


def test_once_no_sum_is_asked_for_any_more_nobody_is_waited_for(secure_town, acts, monkeypatch):
    """The nodes may have gone: what the run came to is its outcome."""
    assemble = FedtailStrategy._assemble

    def all_gone(strategy, exchange):
        if strategy._secure.sums.is_over:
            raise QuorumError("They are gone.", field="nodes")
        return assemble(strategy, exchange)

    monkeypatch.setattr(FedtailStrategy, "_assemble", all_gone)
    later = [("train", number) for number in range(3, LONG.rounds + 1)]
    acts("mask", garbage(*later), (0, 7))
    assert counts(secure_town.run(plan=LONG, season_ends=()))[:3] == [8, 8, 0]


def test_where_nothing_came_of_a_start_it_ends_with_the_error_and_may_be_started_again(
    secure_town, acts
):
    first = [("train", number) for number in range(1, MOST_FAILED + 1)]
    acts("mask", garbage(*first), (0, 7))
    with pytest.raises(FedtailError) as caught:
        secure_town.run(plan=LONG, season_ends=())
    assert caught.value.public() == "federation:update_norm"
    assert all(sum(secure_town.charged(name).values()) <= MOST_FAILED for name in NAMES)
    acts("mask", lambda party, _, *told: HONEST(party, *told), (0, 7))
    run = secure_town.run(plan=LONG, season_ends=())
    assert counts(run) == [0] * (MOST_FAILED - 1) + [8] * 4


def test_a_histogram_is_asked_for_no_more_often_than_is_stated(secure_town, acts):
    acts("mask", garbage(), (0, 7))
    with pytest.raises(FedtailError) as caught:
        secure_town.run()
    assert caught.value.public() == "federation:popularity_norm"
    assert all(secure_town.charged(name)["popularity", 0] <= MOST_FAILED for name in NAMES)


def test_a_refused_sum_is_kept_as_it_was_signed(secure_town, acts):
    acts("mask", garbage(("train", 1)))
    secure_town.run(plan=BARE, season_ends=())
    (entry,) = [one for one in secure_town.journal("train") if one.failed]
    content = (secure_town.run_folder / FOLDER / failed_file(entry.number)).read_bytes()
    total = sum_again(Transcript.from_bytes(content), secure_town.identities())
    assert total.survivors == NAMES
    framing = Framing(plain_parts(secure_town.setup().adapter))
    with pytest.raises(FedtailError) as caught:
        mean_gradient(total, BARE, framing)
    assert caught.value.public() == entry.reason
    assert {one.head.merchant for one in entry.read_receipts()} == set(NAMES)


# --------------------------------------------------------------- who can be named
def silent(*_):
    raise RuntimeError


def false_shares(party, honest, request):
    told = honest(request)
    shares = {name: (share + 1) % PRIME for name, share in told.self_shares.items()}
    return signed(party, told, self_shares=shares)


def unsigned(_party, honest, request):
    return replace(honest(request), signature=bytes(64))


@pytest.mark.parametrize("act", [silent, false_shares, unsigned], ids=lambda act: act.__name__)
def test_one_that_never_unmasks_as_it_should_spoils_no_sum(secure_town, acts, act):
    acts("unmask", act)
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [8, 8]
    for number in (1, 2):
        total = secure_town.sum_of(f"round-{number:05d}.sum")
        plain = secure_town.plain_sum("train", number, NAMES)
        assert np.array_equal(total.vector, plain)


def test_too_many_that_never_unmask_fail_a_sum_and_are_out_of_the_next(secure_town, acts):
    """Five shares open a secret of eight parties', so three that give none can fail a sum."""
    acts("unmask", unsigned, (0, 1, 2))
    with pytest.raises(FedtailError) as caught:  # with three out too few are left
        secure_town.run(plan=BARE, season_ends=())
    assert caught.value.public() == "quorum:setup"
    assert named(secure_town) == set(NAMES[:3])
    assert secure_town.journal("train")[0].given_up


def test_a_message_that_is_none_is_out_of_the_next_setup(secure_town, acts):
    """Two sign nothing in the first round, and another three are away: its sum fails."""

    def once(party, honest, request):
        return unsigned(party, honest, request) if request.binding.round_number == 1 else honest()

    acts("unmask", once, (0, 1))
    gone = {("unmask", 7, 1): "before"}
    run = secure_town.run(plan=replace(BARE, steps=3), season_ends=(), loses=gone)
    assert counts(run) == [0, 6, 6]
    assert named(secure_town) == set(NAMES[:2])
    assert secure_town.sum_of("round-00003.sum").survivors == NAMES[2:]


def test_one_that_was_absent_from_a_setup_is_asked_again_after_a_sum_that_failed(secure_town, acts):
    acts("mask", garbage(("train", 1)))
    run = secure_town.run(plan=BARE, season_ends=(), loses={("share", 5, 1): "after"})
    assert counts(run) == [0, 6]
    assert secure_town.sum_of("round-00002.sum").survivors == NAMES[2:]


def test_where_all_rounds_fail_before_the_start_bears_no_more_there_is_no_release(
    secure_town, acts
):
    """Of two rounds: an adapter that nothing was learnt for is nobody's to sign."""
    acts("mask", garbage(), (0, 7))
    with pytest.raises(FedtailError) as caught:
        secure_town.run(plan=BARE, season_ends=())
    assert caught.value.public() == "federation:update_norm"
    assert [one.given_up for one in secure_town.journal("train")] == [True, True]


# ------------------------------------------------------- a server that says that sums failed
def without_a_journal(run):
    """Let a server go on after its run, and return what nodes tell it that they must not give."""
    told = []
    run._countersigner = Countersigning(None)
    run.standings.journal = lambda merchant, reason: told.append((merchant, reason))
    return told


def take_round(town, number):
    strategy = town.strategy
    secure, questions, exchange = strategy._secure, strategy._questions(), Exchange(town.grid)
    requests = {node: strategy._request(one, number) for node, one in strategy._present.items()}
    return secure.gradient(questions, exchange, number, requests)


def test_a_round_that_is_said_to_have_failed_is_masked_again_for_another_charge_alone(secure_town):
    """The server has its sum, makes up that it failed, and asks for the same data again."""
    run = secure_town.run(rounds=1, plan=BARE, season_ends=())
    before = run.state
    told = without_a_journal(run)
    run.state = replace(before, round_number=0, adapter=secure_town.setup().adapter)
    run._secure.sums.sitting.server._number = 0  # it would not ask by itself
    with pytest.raises(FailedSumError):  # under the old keys nobody masks it twice
        take_round(secure_town, 1)
    assert all(secure_town.charged(name)["train", 1] == 1 for name in NAMES)
    assert {(name, "secure_sum:round") for name in NAMES} <= set(told)
    _, merchants, _ = take_round(secure_town, 1)  # in a new setup, and paid for
    assert merchants == NAMES
    assert all(secure_town.charged(name)["train", 1] == 2 for name in NAMES)


def test_the_sum_of_the_old_keys_stays_closed_once_there_are_new_ones(secure_town):
    """The server keeps the masked vectors, says that too few are left, and has them opened later.

    With the round asked for again under new keys it would have two sums, of which it told one.
    """
    kept = []

    def keep(content):
        kept.append(wire.read_asked(UnmaskRequest, content, MOST))
        return wire.with_secure(content, replace(kept[0], survivors=()))  # nobody opens it now

    asks = {("unmask", place, 1): keep for place in range(8)}
    run = secure_town.run(rounds=1, plan=BARE, season_ends=(), asks=asks)
    assert counts(run) == [0]
    without_a_journal(run)
    _, merchants, _ = take_round(secure_town, 2)  # in a new setup
    assert merchants == NAMES
    for place in range(8):
        content = wire.with_secure(encode_plan_request(BARE.digest), kept[0])
        sent = Message(content, 1000 + place, wire.UNMASK, ttl=60.0)
        (reply,) = secure_town.grid.send_and_receive([sent], timeout=60.0)
        assert reply.error.reason == "secure_sum:roster"


def test_naming_the_honest_as_cheats_leaves_no_sum_of_fewer_than_carry_the_noise(
    secure_town, monkeypatch
):
    """Who is left out is the server's to say; how many must be left is each node's."""
    monkeypatch.setattr(LeftOut, "choose", lambda *_: NAMES[:5])
    monkeypatch.setattr(Questions, "check_quorum", lambda *_: None)
    with pytest.raises(FedtailError):
        secure_town.run(plan=BARE, season_ends=())
    assert {reason for _, reason in violations(secure_town)} == {"secure_sum:cohort"}
    assert not any(secure_town.charged(name) for name in NAMES)


def test_one_that_wants_more_parties_than_sit_in_sits_out_itself(secure_town, acts):
    """A spoiler that refuses small setups, so that it is never the one that sits out."""

    def small(_party, _honest, company):
        if len(company.roster.advertisements) < 8:
            raise SecureSumError("Too few.", field="cohort")
        return _honest(company)

    acts("share", small)
    acts("mask", garbage())
    run = secure_town.run(plan=replace(BARE, steps=3), season_ends=())
    assert counts(run) == [0, 6, 6]
    assert NAMES[HOSTILE] not in run._secure.sums.sitting.names
