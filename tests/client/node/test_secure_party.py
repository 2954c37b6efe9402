"""A node's party on disk: whatever stops it, is put back or runs beside it, no mask hides two."""

import os
import shutil
import signal
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from client.node import secure_party
from client.node.secure_party import Agreed, SecureParty
from client.privacy.budget import charge_round
from client.privacy.policy import Policy
from common import files
from common.errors import FedtailError, SecureSumError, SettingsError
from common.identity.introduction import Introduction
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.shares import protect_share
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.messages import UnmaskRequest, View, ViewRequest, view_digest
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.setup import Party
from common.privacy.secagg.slots import terms_of
from common.wire.secure_sum import Company, Dealt
from tests.support.secure_sums import signing_key

PLAN = PrivacyPlan(
    sample_rate=0.5,
    steps=4,
    noise_multiplier=2.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-3,
    dp_model="distributed",
    merchants=7,
    spared=2,
)
POLICY = Policy(
    max_epsilon=90.0,
    max_run_epsilon=90.0,
    delta=1e-3,
    min_noise_multiplier=0.0,
    dp_models=("distributed",),
)
WIDTH, RUN, ME = 6, 7, "a"
OTHERS = ("b", "c", "d", "e", "f", "g")
NAMES = (ME, *OTHERS)
AGREED = Agreed(WIDTH, 0, "s" * 64)
TERMS = terms_of(PLAN, str(RUN), train=WIDTH, setup=AGREED.setup)


class Sitting:
    """One node with its folder, six parties in memory, and an honest server between them."""

    def __init__(self, state):
        self.state = state
        self.seen = 0
        self.ledger = Ledger.open(state / "ledger.sqlite", ME, "data")
        self.set_up()

    def party(self, **changes):
        """The node in a process of its own, that knows what Flower's context tells it."""
        given = {
            "state": self.state,
            "ledger": Ledger.open(self.state / "ledger.sqlite", ME),
            "plan": PLAN,
            "run_id": RUN,
            "agreed": AGREED,
            "least_cohort": 1,
        }
        party = SecureParty(**given | changes)
        party.seen = self.seen
        return party

    def ask(self, what, *arguments):
        party = self.party()
        try:
            return getattr(party, what)(*arguments)
        finally:
            self.seen = party.seen

    def set_up(self):
        told = self.ask("advertise", 0)
        key = self.ledger.signing_key.public
        self.keys = {ME: key} | {name: signing_key(name).public for name in OTHERS}
        self.server = SecureSumServer(TERMS, self.keys)
        self.others = {
            name: SecureSumClient(TERMS, Party(name, signing_key(name), self.keys))
            for name in OTHERS
        }
        self.server.receive_advertisement(told.advertisement)
        for one in self.others.values():
            self.server.receive_advertisement(one.advertise())
        self.company = Company(
            tuple(Introduction(name, self.keys[name].raw) for name in NAMES), self.server.roster()
        )
        self.server.receive_shares(self.ask("share", self.company))
        for one in self.others.values():
            self.server.receive_shares(one.share(self.company.roster))
        self.ask("accept", Dealt(self.server.sealed_for(ME)))
        for name, one in self.others.items():
            one.accept(self.server.sealed_for(name))

    def share(self, number=1, plan=PLAN):
        """What a round makes of the shoppers, charged: another each time."""
        charge = charge_round(self.ledger, plan, POLICY, str(RUN), number, "train")
        return protect_share(clip_and_sum(np.zeros((0, WIDTH)), 1.0), charge, NoiseSource.secure())

    def start(self, number=1):
        return self.server.start(number)

    def masked(self, number=1):
        request = self.start(number)
        return self.ask("mask", request, self.share(number))

    def view_request(self, missing=(), number=1):
        there = tuple(name for name in NAMES if name not in missing)
        return ViewRequest(self.server._binding("view"), there, tuple(missing))

    def unmask_request(self, missing=()):
        asked = self.view_request(missing)
        digest = view_digest(asked.survivors, asked.dropouts)
        signed = [
            View(name, b"", asked.binding, digest).signed(signing_key(name))
            for name in OTHERS
            if name not in missing
        ]
        binding = replace(asked.binding, phase="unmask")
        views = tuple(signed) if missing else ()
        return UnmaskRequest(binding, asked.survivors, asked.dropouts, views)

    def charged(self):
        return Counter(one.round_number for one in self.ledger.entries() if one.run_id)


@pytest.fixture
def sitting(tmp_path):
    return Sitting(tmp_path / "node")


def refused(code, function, *arguments):
    with pytest.raises(SecureSumError) as caught:
        function(*arguments)
    assert caught.value.public() == f"secure_sum:{code}"


# ------------------------------------------------------------------------- the way it goes
def test_a_node_that_is_another_process_for_each_message_is_in_the_sum(sitting):
    request = sitting.server.start(1, "a" * 64)
    sitting.ask("check", request, "train", 1, "a" * 64)
    share = sitting.share()
    sitting.server.receive_masked(sitting.ask("mask", request, share))
    rows = [share.integers]
    for one in sitting.others.values():
        rows.append(np.arange(WIDTH) - 3)
        sitting.server.receive_masked(one.mask(request, rows[-1]))
    last = sitting.server.close()
    for reply in [sitting.ask("unmask", last)] + [x.unmask(last) for x in sitting.others.values()]:
        sitting.server.receive_unmask(reply)
    total = sitting.server.finish()
    assert np.array_equal(total.vector, np.sum(rows, axis=0, dtype=np.int64).view(np.uint64))
    assert sitting.party().names == NAMES


def test_a_party_is_for_its_owner_only_and_none_of_another_run_stays(sitting):
    (path,) = sitting.state.glob("secure-sum/run-*.party")
    assert path.stat().st_mode & 0o777 == files.PRIVATE_MODE
    other = sitting.party(run_id=RUN + 1)
    other.advertise(0)
    assert [one.name for one in sitting.state.glob("secure-sum/run-*.party")] == ["run-8.party"]
    refused("state", sitting.party().view, None)


def test_what_is_on_disk_is_not_shown_and_what_is_none_is_refused(sitting):
    (path,) = sitting.state.glob("secure-sum/run-*.party")
    held = sitting.party()._held()
    assert repr(held.party)[:40] not in repr(held)
    sitting.start()
    for content in (b"", b"rubbish", path.read_bytes()[:-1]):
        path.write_bytes(content)
        refused("state", sitting.party().view, sitting.view_request())
    path.unlink()
    refused("state", sitting.party().view, sitting.view_request())


def test_names_are_told_once_the_setup_is_over(tmp_path):
    party = SecureParty(
        tmp_path, Ledger.open(tmp_path / "ledger.sqlite", ME, "data"), PLAN, RUN, AGREED, 1
    )
    refused("state", lambda: party.names)
    party.advertise(0)
    refused("phase", lambda: party.names)


def test_a_roster_of_more_than_the_plan_shares_its_noise_among_is_refused(tmp_path):
    """Their sum could overflow; it is refused before anybody is pinned to a key."""
    sitting = Sitting(tmp_path / "node")
    few = replace(PLAN, merchants=6)
    refused("cohort", sitting.party(plan=few).share, sitting.company)


@pytest.mark.parametrize("least", [6, 7])
def test_no_share_is_given_for_fewer_than_the_policy_says(sitting, least):
    """Among seven the protocol itself lets one be missing."""
    sitting.masked()
    party = sitting.party(least_cohort=least)
    asked = sitting.view_request(("g",))
    if least == 6:
        assert party.view(asked).name == ME
    else:
        refused("cohort", party.view, asked)


def test_a_plan_that_spares_fewer_than_the_protocol_is_held_to(tmp_path):
    """Seven merchants of whom none may be missing: the protocol itself would spare two."""
    strict = replace(PLAN, spared=1)
    assert strict.least_merchants == 6
    party = SecureParty(tmp_path, None, strict, RUN, AGREED, 1)
    assert party._least == 6


# ---------------------------------------------------------------- what is asked is for this sum
def test_a_share_of_another_round_or_plan_is_not_masked(sitting):
    request = sitting.start(2)
    for share in (sitting.share(1), sitting.share(2, replace(PLAN, noise_multiplier=3.0))):
        refused("round", sitting.party().mask, request, share)


def test_what_all_were_asked_is_held_against_what_this_node_was_given(sitting):
    request = sitting.server.start(1, "a" * 64)
    refused("asked", sitting.party().check, request, "train", 1, "b" * 64)
    sitting.party().check(request, "train", 1, "a" * 64)


def test_a_histogram_is_counted_only_where_the_plan_takes_one(sitting):
    taking = replace(PLAN, popularity_noise_multiplier=2.0)
    with pytest.raises(SettingsError):
        sitting.party(plan=taking).advertise(0)


# --------------------------------------------------------------------------- a mask, once
def test_a_sum_that_was_charged_is_masked_once(sitting):
    request = sitting.start()
    sitting.ask("mask", request, sitting.share())
    refused("round", sitting.party().check, request, "train", 1)
    refused("round", sitting.party().mask, request, sitting.share())


def test_a_sum_that_was_charged_twice_is_not_masked_at_all(sitting):
    """Two processes were asked for it at once: neither knows what the other did."""
    request = sitting.start()
    first, second = sitting.share(), sitting.share()
    for share in (first, second):
        refused("round", sitting.party().mask, request, share)


def test_a_charge_of_another_run_or_before_the_setup_ends_no_sum(sitting):
    charge_round(sitting.ledger, PLAN, POLICY, "another", 3, "train")
    assert sitting.masked() is not None
    sitting.set_up()
    assert sitting.masked() is not None
    assert sitting.charged()[1] == 2


def put_back(sitting, copy, what):
    """Put a copy of the party alone, or of the folder with its ledger, where the node has its."""
    if what == "party":
        (path,) = copy.glob("secure-sum/run-*.party")
        shutil.copy(path, sitting.state / "secure-sum" / path.name)
        return
    sitting.ledger = None
    shutil.rmtree(sitting.state)
    shutil.copytree(copy, sitting.state)
    sitting.ledger = Ledger.open(sitting.state / "ledger.sqlite", ME)


@pytest.fixture(params=["party", "folder"])
def copied(request, sitting, tmp_path):
    """The node's folder is copied now, and put back later: alone, or with its ledger."""

    def copy():
        shutil.copytree(sitting.state, tmp_path / "copy")
        return lambda: put_back(sitting, tmp_path / "copy", request.param)

    return copy


def test_a_copy_from_before_a_mask_masks_nothing_again(sitting, copied):
    back, request = copied(), sitting.start()
    sitting.ask("mask", request, sitting.share())
    back()
    refused("state", sitting.party().check, request, "train", 1)
    refused("state", sitting.party().mask, request, sitting.share())


def test_the_ledger_alone_keeps_a_copied_party_from_a_second_mask(sitting, tmp_path):
    """Where Flower's context is lost, too: the SuperNode was started again."""
    copy = shutil.copytree(sitting.state, tmp_path / "copy")
    request = sitting.start()
    sitting.ask("mask", request, sitting.share())
    put_back(sitting, copy, "party")
    sitting.seen = 0
    refused("round", sitting.party().check, request, "train", 1)
    refused("round", sitting.party().mask, request, sitting.share())


def test_a_party_with_a_ledger_from_before_it_does_nothing(sitting, tmp_path):
    copy = shutil.copytree(sitting.state, tmp_path / "copy")
    sitting.masked()
    sitting.set_up()
    request = sitting.start()
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (sitting.state / name).unlink(missing_ok=True)
        if (copy / name).exists():
            shutil.copy(copy / name, sitting.state / name)
    refused("state", sitting.party().check, request, "train", 1)
    refused("state", sitting.party().view, sitting.view_request())


# ------------------------------------------------------------------- shares, of one kind, once
def test_a_copy_from_before_a_view_signs_no_other(sitting, copied):
    sitting.masked()
    back = copied()
    sitting.ask("view", sitting.view_request(("g",)))
    back()
    refused("state", sitting.party().view, sitting.view_request(("f",)))


def test_a_copy_from_before_shares_were_given_gives_none_of_the_other_kind(sitting, copied):
    """With both secrets of a party, three merchants of seven that were put back would bare it."""
    sitting.masked()
    back = copied()
    reply = sitting.ask("unmask", sitting.unmask_request())
    assert not reply.key_shares
    back()
    refused("state", sitting.party().view, sitting.view_request(("g",)))
    refused("state", sitting.party().unmask, sitting.unmask_request(("g",)))
    refused("state", sitting.party().unmask, sitting.unmask_request())


def test_a_copy_from_before_secrets_were_dealt_deals_no_others(tmp_path):
    """Else the same key would seal two messages, under one nonce."""
    state = tmp_path / "node"
    party = SecureParty(
        state, Ledger.open(state / "ledger.sqlite", ME, "data"), PLAN, RUN, AGREED, 1
    )
    told = party.advertise(0)
    copy = shutil.copytree(state, tmp_path / "copy")
    assert party.seen == 1
    clients = {name: SecureSumClient(TERMS, Party(name, signing_key(name), {})) for name in OTHERS}
    keys = {ME: party._ledger.signing_key.public} | {
        name: signing_key(name).public for name in OTHERS
    }
    server = SecureSumServer(TERMS, keys)
    server.receive_advertisement(told.advertisement)
    for one in clients.values():
        server.receive_advertisement(one.advertise())
    company = Company(tuple(Introduction(name, keys[name].raw) for name in NAMES), server.roster())
    party.share(company)
    refused("phase", party.share, company)
    (path,) = copy.glob("secure-sum/run-*.party")
    shutil.copy(path, state / "secure-sum" / path.name)
    refused("state", party.share, company)


# ----------------------------------------------------------------------- kill -9, at each write
STEPS = ("fsync of the file", "rename", "fsync of the folder", "answer")


def killed_at(step, act):
    """Let a child `act` and die by kill -9 just before a step; return whether it answered."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            answered = answers.read()
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        return bool(answered)
    try:
        die_before(step)
        act()
        if step != "answer":
            os.write(writer, b"it left")
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def die_before(step):
    """Make this process die in the midst of the next write of a party."""

    def die(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    if step == "fsync of the file":
        files.os.fsync = die
    elif step == "rename":
        files.Path.replace = die
    elif step == "fsync of the folder":
        files.sync_folder = die


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_is_killed_while_it_masks_masks_no_second_vector(sitting, step):
    request, share = sitting.start(), sitting.share()
    before = sitting.seen
    assert not killed_at(step, lambda: sitting.ask("mask", request, share))
    sitting.seen = before  # the answer did not leave, so Flower has the context of before
    refused("round", sitting.party().check, request, "train", 1)
    refused("round", sitting.party().mask, request, sitting.share())
    assert sitting.masked(2) is not None  # the next sum is taken as if nothing had happened


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_is_killed_while_it_signs_a_view_signs_no_other_after_it_may_have(
    sitting, step
):
    sitting.masked()
    asked = sitting.view_request(("g",))
    assert not killed_at(step, lambda: sitting.ask("view", asked))
    written = step in {"fsync of the folder", "answer"}
    if written:
        refused("views", sitting.party().view, sitting.view_request(("f",)))
    else:  # nothing was signed
        sitting.ask("view", sitting.view_request(("f",)))


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_is_killed_while_it_gives_shares_gives_none_of_the_other_kind(sitting, step):
    sitting.masked()
    assert not killed_at(step, lambda: sitting.ask("unmask", sitting.unmask_request()))
    if step in {"fsync of the folder", "answer"}:
        refused("unmask", sitting.party().unmask, sitting.unmask_request())
        refused("round", sitting.party().view, sitting.view_request(("g",)))
    else:  # no share was made known
        sitting.ask("view", sitting.view_request(("g",)))
        reply = sitting.ask("unmask", sitting.unmask_request(("g",)))
        assert reply.key_shares.keys() == {"g"}


def test_what_leaves_is_on_disk_first_its_name_too(sitting, monkeypatch):
    """fsync of the file, rename, fsync of the folder, before each answer."""
    order = []
    monkeypatch.setattr(files.os, "fsync", noting(order, "file", os.fsync))
    monkeypatch.setattr(files.Path, "replace", noting(order, "rename", files.Path.replace))
    monkeypatch.setattr(files, "sync_folder", lambda _: order.append("folder"))
    share, request = sitting.share(), sitting.start()
    for what, arguments in (
        ("mask", (request, share)),
        ("view", (sitting.view_request(("g",)),)),
        ("unmask", (sitting.unmask_request(("g",)),)),
    ):
        order.clear()
        sitting.ask(what, *arguments)
        assert order == ["file", "rename", "folder"], what


def noting(order, name, function):
    def noted(*arguments, **named):
        order.append(name)
        return function(*arguments, **named)

    return noted


# ------------------------------------------------------------------ two processes at once
def at_once(monkeypatch, sitting, first, second):
    """Let one process act, and another while it is at it; return both outcomes."""
    there, go_on, outcomes = threading.Event(), threading.Event(), {}
    take_up = secure_party.take_up

    def slow(*arguments, **named):
        client = take_up(*arguments, **named)
        if threading.current_thread().name == "first":
            there.set()
            go_on.wait(20)
        return client

    monkeypatch.setattr(secure_party, "take_up", slow)

    def run(name, what, arguments):
        try:
            outcomes[name] = getattr(sitting.party(), what)(*arguments)
        except FedtailError as error:
            outcomes[name] = error.public()

    one = threading.Thread(target=run, args=("first", *first), name="first")
    other = threading.Thread(target=run, args=("second", *second), name="second")
    one.start()
    assert there.wait(20)
    other.start()
    other.join(0.3)
    waited = other.is_alive()
    go_on.set()
    one.join()
    other.join()
    assert waited
    return outcomes["first"], outcomes["second"]


def test_of_two_processes_one_gives_shares_and_one_none(sitting, monkeypatch):
    sitting.masked()
    asked = sitting.unmask_request()
    reply, other = at_once(monkeypatch, sitting, ("unmask", (asked,)), ("unmask", (asked,)))
    assert reply.self_shares
    assert other == "secure_sum:unmask"


def test_of_two_processes_one_signs_a_view_and_the_other_gives_no_shares_without(
    sitting, monkeypatch
):
    sitting.masked()
    first = ("view", (sitting.view_request(("g",)),))
    view, other = at_once(monkeypatch, sitting, first, ("unmask", (sitting.unmask_request(),)))
    assert view.name == ME
    assert other == "secure_sum:views"


def test_of_two_processes_with_one_charge_each_none_masks_the_second_vector(sitting, monkeypatch):
    """The second is charged while the first is at it."""
    request = sitting.start()
    share = sitting.share()
    charged = {}
    act = SecureSumClient.mask

    def also_charged(self, *arguments):
        charged["second"] = sitting.share()
        return act(self, *arguments)

    monkeypatch.setattr(SecureSumClient, "mask", also_charged)
    assert sitting.party().mask(request, share).name == ME
    monkeypatch.undo()
    refused("round", sitting.party().mask, request, charged["second"])


# ------------------------------------------------------------------------ what context tells
def test_how_often_it_was_written_goes_up_with_each_step_also_where_it_refuses(sitting):
    before = sitting.seen
    sitting.masked()
    assert sitting.seen == before + 1
    refused("dropouts", sitting.ask, "view", sitting.view_request((ME,)))
    assert sitting.seen == before + 2
    sitting.set_up()
    assert sitting.seen == before + 5
