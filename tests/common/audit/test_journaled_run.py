"""The run behind an adapter: found among others on the journal, and demanded whole."""

from dataclasses import replace

import pytest

from common.audit.findings import Checklist
from common.audit.journaled_run import check_merchants, find_run
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import Manifest
from tests.support.shops import make_plan
from tests.support.statements import HEX, make_statement

PLAN = make_plan(steps=3)
ADAPTER = "ad" * 32


def entry(run_id, kind, number=0, *, plan=PLAN, participants=("00",), adapter=""):
    adapter = adapter or (f"{run_id}{number}" * 32 if kind == "train" else "")
    return JournalEntry(
        number=0, kind=kind, run_id=run_id, round_number=number, plan="", plan_digest=plan.digest,
        participants=participants, receipts=(), adapter=adapter, reason="", time=0.0, signer=HEX,
        prior=HEX,
    )  # fmt: skip


def rounds(run_id, *numbers, **fields):
    return [entry(run_id, "train", number, **fields) for number in numbers]


def run_of(entries, *, run_ids=("1",), plan=PLAN, adapter=ADAPTER, pinned=None):
    """What is found behind an adapter, with the file, entry and field of each finding."""
    journal = [replace(one, number=number) for number, one in enumerate(entries, 1)]
    told = {"entries": len(journal) if pinned is None else pinned, "hash": HEX, "key": HEX}
    statement = make_statement(plan, run_ids=list(run_ids), journal=told)
    manifest = Manifest.model_construct(
        privacy=statement, adapter=type("Adapter", (), {"digest": adapter})
    )
    sheet = Checklist()
    run = find_run(sheet, manifest, journal)
    check_merchants(sheet, statement, run)
    return run, [(one.entry, one.field) for check in sheet.checks for one in check.findings]


def last(run_id="1", number=3, **fields):
    return entry(run_id, "train", number, adapter=ADAPTER, **fields)


def test_a_whole_run_is_found_and_nothing_is_wrong():
    run, wrong = run_of([entry("1", "popularity"), *rounds("1", 1, 2), last()])
    assert wrong == []
    assert [one.number for one in run.entries] == [1, 2, 3, 4]
    assert run.nodes == {"00"}


def test_who_gave_its_histogram_and_was_in_no_round_has_not_trained():
    """So it has no canaries to reveal: a node that was out from then on fails no audit."""
    run, _ = run_of(
        [entry("1", "popularity", participants=("00", "01")), *rounds("1", 1, 2), last()]
    )
    assert (run.nodes, run.trained) == ({"00", "01"}, {"00"})


def test_of_a_resumed_run_each_round_is_the_latest_before_the_one_that_follows():
    entries = [
        entry("1", "popularity"), *rounds("1", 1, 2), *rounds("2", 2), last("2"), *rounds("2", 1),
    ]  # fmt: skip
    run, wrong = run_of(entries, run_ids=("1", "2"))
    assert wrong == []
    assert [one.number for one in run.entries] == [1, 2, 4, 5]


def test_another_run_of_the_same_plan_in_between_is_not_taken_for_it():
    other = [entry("9", "popularity"), *rounds("9", 1, 2)]
    entries = [entry("1", "popularity"), *rounds("1", 1, 2), *other, last()]
    run, wrong = run_of(entries)
    assert wrong == []
    assert [one.number for one in run.entries] == [1, 2, 3, 7]


def test_what_lies_beyond_the_pinned_part_is_not_looked_at():
    entries = [entry("1", "popularity"), *rounds("1", 1, 2), last()]
    assert run_of(entries, pinned=3) == (None, [(None, "adapter")])


@pytest.mark.parametrize(
    ("gone", "wrong"),  # named is the entry that follows the gap
    [
        ({1}, [(2, "round_number")]),
        ({2}, [(3, "round_number")]),
        ({1, 2}, [(2, "round_number")]),
        ({0}, [(1, "kind")]),
        ({0, 1, 2}, [(1, "round_number"), (1, "kind")]),
        ({3}, [(None, "adapter")]),
    ],
)
def test_each_missing_part_is_found(gone, wrong):
    entries = [entry("1", "popularity"), *rounds("1", 1, 2), last()]
    kept = [one for place, one in enumerate(entries) if place not in gone]
    assert run_of(kept)[1] == wrong


def test_a_plan_without_a_histogram_needs_none():
    plan = make_plan(steps=3, popularity_noise_multiplier=0.0)
    entries = [*rounds("1", 1, 2, plan=plan), last(plan=plan)]
    assert run_of(entries, plan=plan)[1] == []


def test_an_adapter_of_before_the_plans_end_is_found():
    entries = [entry("1", "popularity"), *rounds("1", 1), last(number=2), *rounds("1", 3)]
    assert run_of(entries)[1] == [(3, "round_number"), (3, "round_number")]


def test_shared_noise_needs_every_merchants_part():
    plan = make_plan(steps=1, dp_model="central", merchants=2)
    both = {"plan": plan, "participants": ("00", "01")}
    entries = [entry("1", "popularity", **both), last(number=1, plan=plan)]
    assert (2, "participants") in run_of(entries, plan=plan)[1]
    whole = [entry("1", "popularity", **both), last(number=1, **both)]
    assert run_of(whole, plan=plan)[1] == [(None, "ledgers")]  # the statement names one of them


def test_whoever_took_part_in_any_round_must_be_named():
    for place in range(4):
        entries = [entry("1", "popularity"), *rounds("1", 1, 2), last()]
        entries[place] = replace(entries[place], participants=("00", "01"))
        assert run_of(entries)[1] == [(None, "ledgers")]


@pytest.mark.parametrize("participants", [(), ("00", "00")])
def test_a_round_of_nobody_or_of_somebody_twice_is_found(participants):
    entries = [entry("1", "popularity"), *rounds("1", 1, 2, participants=participants), last()]
    assert run_of(entries)[1] == [(2, "participants"), (3, "participants")]


def test_without_a_journal_nothing_is_found_and_the_checks_say_so():
    sheet = Checklist()
    assert find_run(sheet, Manifest.model_construct(), None) is None
    assert [one.status for one in sheet.checks] == ["skipped", "skipped"]
