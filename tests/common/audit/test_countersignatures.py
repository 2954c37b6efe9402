"""Ledgers against the journal: honest ways back pass, and all others are named."""

import dataclasses

import pytest

from client.privacy.recovery import recover
from common.audit.audits import audit_ledger
from common.audit.countersignatures import (
    NamedLedger,
    check_charges,
    check_coverage,
    check_journal,
)
from common.audit.findings import Checklist
from common.audit.journaled_run import JournaledRun
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import epsilon_pld
from common.privacy.ledger.canonical_json import write_line
from common.privacy.ledger.export import export_ledger, read_ledger
from common.privacy.ledger.heads import Receipt
from common.privacy.ledger.journal import read_journal
from common.release.statement_draft import ledger_record
from tests.client.privacy.test_recovery import PLAN, Federation


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path / "federation")


def audited(federation, tmp_path):
    """The audit of the ledger as it is now, held against the journal."""
    file = tmp_path / "shop.jsonl"
    file.write_bytes(export_ledger(federation.path))
    return audit_ledger(file, delta=PLAN.delta, journal=federation.journal)


def fields(report):
    return [(one.entry, one.field) for check in report.checks for one in check.findings]


def detail(report, start):
    return next(check.detail for check in report.checks if check.name.startswith(start))


def test_rounds_of_several_runs_pass(federation, tmp_path):
    federation.rounds(2)
    federation.rounds(3)
    report = audited(federation, tmp_path)
    assert fields(report) == []
    assert detail(report, "Ledger: every countersigned") == "6 heads, the last at entry 5"
    assert detail(report, "Ledger: every round") == "5 rounds"


def test_a_charge_whose_reply_was_lost_is_told(federation, tmp_path):
    federation.rounds(2)
    federation.ledger().append(PLAN, run_id="1", round_number=3, kind="train", admit=lambda _: None)
    report = audited(federation, tmp_path)
    assert fields(report) == []
    assert "1 entries after the last one" in detail(report, "Ledger: every countersigned")


def test_a_round_that_the_journal_has_twice_must_be_charged_twice(federation):
    federation.rounds(2)
    entries = read_ledger(export_ledger(federation.path))
    ledger, sheet = NamedLedger("", "shop.jsonl", "shop", entries), Checklist()
    journal = read_journal(federation.journal.read_bytes())
    check_charges(sheet, ledger, journal, {})
    assert sheet.sound
    check_charges(sheet, ledger, (*journal, journal[-1]), {})
    assert [one.field for one in sheet.checks[-1].findings] == ["round_number"]


@pytest.mark.parametrize("known", [1, 2, 3, 4], ids=lambda known: f"{known} on the journal")
def test_a_claim_must_reach_to_the_last_charge_of_the_run_wherever_the_statement_stops(
    federation, known
):
    """Found by the heads on the journal, and by the charges where heads were left out."""
    federation.rounds(3)
    federation.ledger().append(PLAN, run_id="9", round_number=1, kind="train", admit=lambda _: None)
    entries = read_ledger(export_ledger(federation.path))
    journal = read_journal(federation.journal.read_bytes())
    run = JournaledRun(PLAN, None, tuple(one for one in journal if one.kind == "train"))
    ledger = NamedLedger("Ash", "shop.jsonl", "shop", entries)
    for named, reach in ((1, 3), (2, 3), (3, 3), (4, 4)):
        sheet, record = Checklist(), ledger_record("shop", entries[0].signer, entries[:named])
        assert check_coverage(sheet, ledger, record, run, journal[:known]) == reach
        wrong = [(one.entry, one.field) for one in sheet.checks[0].findings]
        assert wrong == ([(named, "entries")] if named < reach else [])


def test_answers_that_an_operator_kept_to_itself_are_told_with_what_they_cost(federation):
    """The last round asked for again and again, after the head that the statement names."""
    federation.rounds(2)
    journal = read_journal(federation.journal.read_bytes())
    run = JournaledRun(PLAN, None, tuple(one for one in journal if one.kind == "train"))
    number = run.rounds[-1].run_id
    for run_id in (number, number, number, "another"):
        federation.ledger().append(
            PLAN, run_id=run_id, round_number=2, kind="train", admit=lambda _: None
        )
    entries = read_ledger(export_ledger(federation.path))
    sheet, record = Checklist(), ledger_record("shop", entries[0].signer, entries[:2])
    ledger = NamedLedger("Ash", "shop.jsonl", "shop", entries)
    assert check_coverage(sheet, ledger, record, run, journal) == 2
    assert sheet.checks[0].status == "noted"
    whole = epsilon_pld([PLAN.event("train")] * 5, PLAN.delta)
    assert "3 charges for this run" in sheet.checks[0].detail
    assert f"epsilon is {whole:.3f}" in sheet.checks[0].detail


def test_heads_that_do_not_follow_each_other_are_found(federation):
    federation.rounds(4)
    journal = read_journal(federation.journal.read_bytes())
    for kept, wrong in (
        (journal, []),
        (journal[:-1], []),
        ((*journal[:2], *journal[3:]), [4]),
        ((*journal[:3], journal[2], *journal[3:]), [3]),
        ((*journal[:1], *journal[2:]), [3]),
    ):
        sheet = Checklist()
        check_journal(sheet, kept)
        found = [one for one in sheet.checks[0].findings if one.field == "covers"]
        assert [one.entry for one in found] == wrong


def test_a_ledger_that_went_back_is_found_until_it_is_recovered(federation, tmp_path):
    federation.rounds(2)
    federation.save(tmp_path / "backup")
    federation.rounds(3)
    federation.put_back((tmp_path / "backup").read_bytes())
    lost = fields(audited(federation, tmp_path))
    assert [entry for entry, field in lost if field == "rollback"] == [5, 4, 3]
    assert [one[1] for one in lost].count("round_number") == 3
    recover(federation.ledger(), read_journal(federation.journal.read_bytes()))
    federation.rounds(1)
    report = audited(federation, tmp_path)
    assert fields(report) == []
    assert "the ledger was recovered" in detail(report, "Ledger: every round")
    spent = [PLAN.event("train")] * 6  # five rounds and one, none of them forgotten
    assert report.merchants[0].pld >= epsilon_pld(spent, PLAN.delta)


def test_a_head_that_told_another_cost_is_found(federation, tmp_path):
    """Node and server together write down less than the ledger has."""
    federation.rounds(2)
    ledger = federation.ledger()
    key = SigningKey.load(federation.journal.with_name("journal.key"))
    lines, prior = [], ""
    for entry in read_journal(federation.journal.read_bytes()):
        receipts = tuple(
            Receipt.give(cheaper(receipt.head, ledger), key).to_json()
            for receipt in entry.read_receipts()
        )
        signed = dataclasses.replace(entry, receipts=receipts, prior=prior or entry.prior)
        prior = signed.hash
        signature = key.sign(bytes.fromhex(signed.hash)).hex()
        lines.append(write_line((signed.body(), signed.hash, signature)))
    federation.journal.write_bytes(b"".join(lines))
    assert fields(audited(federation, tmp_path)) == [(2, "spent"), (1, "spent")]


def cheaper(head, ledger):
    """The head with less spent; as the node joined, nothing was."""
    spent = tuple(dataclasses.replace(event, noise_multiplier=8.0) for event in head.spent)
    less = dataclasses.replace(head, spent=spent)
    return less.signed(ledger._key.sign(less.message()))
