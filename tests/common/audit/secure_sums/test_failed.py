"""An audit of runs with sums that failed: honest ones pass, and a server that lies is found.

How a run goes on after one is in `tests/attacks/test_failed_sums.py`.
"""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import pytest

from client.node.secure_party import SecureParty
from common.audit.audits import audit_release, audit_run
from common.audit.layout import CONTRIBUTIONS, JOURNAL, RELEASE
from common.audit.secure_sums import failed as module
from common.audit.secure_sums import sums
from common.errors import FederationError, QuorumError
from common.federation.contribution_files import sum_file
from common.federation.failed_sums import ENDED
from common.privacy.ledger.journal import JournalEntry, read_journal
from server.run.asking import secure_rounds
from server.run.asking.secure_sum import SecureSums
from tests.support.forging import by_name, found
from tests.support.honest_runs import HonestRun

NAMES = ("Zoë's", "ash", "birch", "茶叶店", "elm", "fir")
FAILED = "Failed sums: each is charged and told, and did fail"
REBUILT = "Adapter: made again from the sums, to the bit"
HOSTILE = "04-elm"


def spoiling(*sums):
    """One merchant masks what no honest one has, in these sums, or in all."""
    honest = SecureParty.mask

    def mask(party, request, share):
        if party._ledger.merchant == HOSTILE and (
            not sums or (share.kind, share.round_number) in sums
        ):
            share.integers[:] = 2**58
        return honest(party, request, share)

    return patch.object(SecureParty, "mask", mask)


def run_with(root, tiny_bert, *patches, **settings):
    """Run with what is patched, and export what came of it; return the run too."""
    values = {"rounds": 3, "noise": "distributed", "epsilon": 2.0, "popularity_share": 0.0}
    run = HonestRun(root / "out", tiny_bert, NAMES, cache=root / "cache", **values | settings)
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        done = run.train()
    return done, *run.export(done)


def fields(folder, key):
    return {
        (check.name, one.field) for check in audit_run(folder, key).checks for one in check.findings
    }


@pytest.fixture(scope="module")
def exported(tiny_bert, tmp_path_factory):
    """A run of which one merchant spoiled the second round."""
    return run_with(tmp_path_factory.mktemp("failed"), tiny_bert, spoiling(("train", 2)))


@pytest.fixture
def copy(exported, tmp_path):
    _, folder, key = exported
    return shutil.copytree(folder, tmp_path / "run"), key


def test_a_run_that_gave_up_a_round_passes_and_tells_of_it(exported):
    run, *told = exported
    assert [one.participants for one in run.history] == [6, 0, 4]  # two sit out
    report = audit_run(*told)
    assert found(report) == []
    assert report.verdict == "passed"
    (check,) = by_name(report, FAILED)
    assert check.status == "noted"
    assert check.detail.startswith("1 failed; 2 rounds made a step, 1 were given up")
    assert "1 of them were beyond" in check.detail
    assert found(audit_release(told[0] / RELEASE, told[1])) == []


def test_a_round_that_was_given_up_is_in_the_cost_and_nobody_is_named(exported):
    """Each was charged once, so it costs what the plan says; less where a merchant sat out."""
    _, folder, key = exported
    report = audit_run(folder, key)
    assert sorted(round(one.pld, 2) for one in report.merchants) == [1.74] * 2 + [2.0] * 4
    assert all(one.claimed == pytest.approx(one.pld) for one in report.merchants)
    (entry,) = [one for one in read_journal((folder / JOURNAL).read_bytes()) if one.failed]
    assert (entry.reason, len(entry.receipts)) == ("federation:update_norm", 6)
    refused = [
        one for one in read_journal((folder / JOURNAL).read_bytes()) if one.kind == "refusal"
    ]
    assert [one.participants for one in refused] == [()]


def failed_path(folder):
    (path,) = (folder / CONTRIBUTIONS).glob("failed-*.sum")
    return path


def test_a_failed_sum_must_be_shown(copy):
    folder, key = copy
    failed_path(folder).unlink()
    assert fields(folder, key) == {(FAILED, "file")}


def test_another_sum_in_its_place_is_found(copy):
    folder, key = copy
    shutil.copy(folder / CONTRIBUTIONS / sum_file(1, "train"), failed_path(folder))
    assert (FAILED, "round_number") in fields(folder, key)


def test_more_that_failed_than_a_start_bears_are_found(exported, monkeypatch):
    monkeypatch.setattr(module, "MOST_FAILED", 0)
    assert fields(*exported[1:]) == {(FAILED, "reason")}


def test_a_failure_of_another_kind_than_the_journal_says_is_found(exported, monkeypatch):
    def other(*_):
        raise FederationError("another", field="update_coordinate")

    monkeypatch.setattr(module, "decoded", other)
    assert fields(*exported[1:]) == {(FAILED, "reason")}


def test_a_sum_is_held_to_the_bound_without_its_columns_of_canaries(exported, monkeypatch):
    """As the server did: their numbers are no part of an update's norm."""
    honest, asked = module.decoded, []

    def decoded(total, plan, kind, columns):
        asked.append((kind, columns))
        return honest(total, plan, kind, columns)

    monkeypatch.setattr(module, "decoded", decoded)
    assert fields(*exported[1:]) == set()
    assert asked == [("train", exported[0].canary_sums.columns.shape[1])]


def test_a_failed_sum_of_merchants_without_a_charge_is_found(exported, monkeypatch):
    """Whoever is in a sum that the server saw has a head in its entry, behind the charge."""
    honest = JournalEntry.read_receipts

    def some(entry):
        return honest(entry)[entry.failed :]

    monkeypatch.setattr(JournalEntry, "read_receipts", some)
    assert (FAILED, "participants") in fields(*exported[1:])


def test_a_failed_sum_at_another_adapter_is_found(exported, monkeypatch):
    honest = module.take_again
    monkeypatch.setattr(module, "take_again", lambda *told: replace(honest(*told), asked="f" * 64))
    assert fields(*exported[1:]) == {(FAILED, "asked")}


def test_a_round_that_was_given_up_at_another_adapter_than_before_is_found(exported, monkeypatch):
    honest = sums._rebuild

    def other(marks, release, framing, trained, start):
        moved = [
            (one if taken else replace(one, adapter="f" * 64), taken) for one, taken in trained
        ]
        honest(marks, release, framing, moved, start)

    monkeypatch.setattr(sums, "_rebuild", other)
    assert (REBUILT, "adapter") in fields(*exported[1:])


# ------------------------------------------------------------------- a server that lies
def lying(fails):
    """A server that says of good sums that they have failed; `fails` raises why."""
    honest = secure_rounds.mean_gradient

    def read(total, plan, framing):
        gradient = honest(total, plan, framing)
        if framing.sums_seen == 1:
            framing.sums_seen += 1
            fails()
        framing.sums_seen += 1
        return gradient

    return (
        patch.object(secure_rounds, "mean_gradient", read),
        patch.object(secure_rounds.Framing, "sums_seen", 0, create=True),
    )


def beyond():
    raise FederationError("a lie", field="update_norm")


def too_few():
    raise QuorumError("a lie", field="train")


def test_a_good_sum_that_is_said_to_be_beyond_bounds_is_found(tiny_bert, tmp_path):
    _, *told = run_with(tmp_path, tiny_bert, *lying(beyond))
    assert fields(*told) == {(FAILED, "reason")}


@pytest.mark.slow
def test_a_good_sum_that_is_said_to_have_too_few_is_the_servers_word_and_costs_as_much(
    tiny_bert, tmp_path
):
    """It could as well have lost the messages: it has one sum for one charge."""
    _, *told = run_with(tmp_path, tiny_bert, *lying(too_few))
    report = audit_run(*told)
    assert found(report) == []
    (check,) = by_name(report, FAILED)
    assert "in 1 is the server's word" in check.detail
    assert {round(one.pld, 2) for one in report.merchants} == {2.0}


@pytest.mark.slow
def test_a_run_that_ends_itself_before_so_many_have_failed_is_found(tiny_bert, tmp_path):
    over = patch.object(SecureSums, "is_over", property(lambda sums: bool(sums.transcript)))
    run, *told = run_with(tmp_path, tiny_bert, over)
    assert [one.participants for one in run.history] == [6, 0, 0]
    journal = read_journal((told[0] / JOURNAL).read_bytes())
    assert [one.reason for one in journal if one.kind == "train"] == ["", ENDED, ENDED]
    assert fields(*told) == {(FAILED, "reason")}


@pytest.mark.slow
def test_a_step_that_no_sum_came_to_is_found(tiny_bert, tmp_path):
    """The server gives the round up, and moves the adapter all the same."""
    honest = secure_rounds.SecureRounds.train

    def train(rounds, *given):
        step, asked = honest(rounds, *given)
        if not step.participants:
            moved = step.adapter.with_vector(step.adapter.flatten() + 0.01)
            step = replace(step, adapter=moved)
        return step, asked

    moving = patch.object(secure_rounds.SecureRounds, "train", train)
    _, *told = run_with(tmp_path, tiny_bert, spoiling(("train", 2)), moving)
    assert (REBUILT, "asked") in fields(*told)


@pytest.mark.slow
def test_one_that_spoils_each_sum_stops_no_run(tiny_bert, tmp_path):
    """Histogram, season and rounds: it sits out in the third setup."""
    run, *told = run_with(
        tmp_path, tiny_bert, spoiling(), popularity_share=0.05, season_ends="2020-01-01"
    )
    assert [one.participants for one in run.history] == [4, 4, 4]
    report = audit_run(*told)
    assert found(report) == []
    assert report.verdict == "passed"
    (check,) = by_name(report, FAILED)
    assert "3 of them were beyond" in check.detail
