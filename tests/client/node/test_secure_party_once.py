"""A node's party on disk: whatever stops it, is put back or runs beside it, no mask hides two."""

import os
import shutil
import signal
import threading

import pytest

from client.node import secure_party
from client.node.secure_party import SecureParty
from client.privacy.budget import charge_round
from common import files
from common.errors import FedtailError
from common.identity.introduction import Introduction
from common.privacy.ledger.ledger import Ledger
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.setup import Party
from common.wire.secure_sum import Company
from tests.support.secure_sums import signing_key
from tests.support.sitting import (
    AGREED,
    ME,
    NAMES,
    OTHERS,
    PLAN,
    POLICY,
    RUN,
    TERMS,
    put_back,
    refused,
    sitting,
)

__all__ = ["sitting"]


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
