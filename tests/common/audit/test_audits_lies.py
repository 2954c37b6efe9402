"""What somebody with all the keys signs anew is held against everything else."""

from dataclasses import replace

import numpy as np
import pytest

from common.audit.audits import audit_release, audit_run
from common.audit.canaries import check_bound
from common.audit.findings import Checklist
from common.audit.layout import JOURNAL, LEDGERS, RELEASE
from common.privacy.mechanism.canaries import pack_records, unpack_records
from common.release.manifest import CANARIES_FILE, MANIFEST_FILE, STATEMENT_FILE
from server.releases.publish import audited_bound
from tests.support.forging import by_name, found, named

MANIFEST = f"{RELEASE}/{MANIFEST_FILE}"
CANARIES = f"{RELEASE}/{CANARIES_FILE}"


# ------------------------------------------------------------------------- signed lies
def of_first(change):
    """Change the first merchant's part of a map by name."""

    def changed(held):
        first = min(held)
        return {**held, first: {**held[first], **change(held[first])}}

    return changed


def cheaper(one):
    accountants = {**one["accountants"], "pld": one["epsilon"] - 0.5}
    return {"epsilon": one["epsilon"] - 0.5, "accountants": accountants}


OTHER_NOISE = {"deviation": 1.5, "chance": 0.5, "draws": 7, "refuted": False}
LIES = {
    "a smaller epsilon": (
        {"merchants": of_first(cheaper)},
        {(MANIFEST, "epsilon"), (MANIFEST, "pld")},
    ),
    "a larger epsilon": (
        {"merchants": of_first(lambda one: {"epsilon": one["epsilon"] + 0.5})},
        {(MANIFEST, "epsilon")},
    ),
    "another second accountant's value": (
        {"merchants": of_first(lambda one: {"accountants": {**one["accountants"], "prv": 3.0}})},
        {(MANIFEST, "prv")},
    ),
    "less over the ledger's life": (
        {"merchants": of_first(lambda one: {"ledger": {**one["ledger"], "add_or_remove": 1.0}})},
        {(MANIFEST, "ledger.add_or_remove")},
    ),
    "less for one replaced, over the ledger's life": (
        {"merchants": of_first(lambda one: {"ledger": {**one["ledger"], "replace_one": 1.0}})},
        {(MANIFEST, "ledger.replace_one")},
    ),
    "less for this run": (
        {"run": lambda held: {**held, "add_or_remove": held["add_or_remove"] - 0.1}},
        {(MANIFEST, "run.add_or_remove")},
    ),
    "one replaced as cheap as one removed": (
        {"run": lambda held: {**held, "replace_one": held["add_or_remove"]}},
        {(MANIFEST, "run.replace_one")},
    ),
    "a smaller lower bound": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "epsilon": 0.0}})},
        {(CANARIES, "epsilon")},
    ),
    "a smaller bound to block by": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "blocking": 0.001}})},
        {(CANARIES, "blocking")},
    ),
    "more confidence than was asked for": (
        {"audit": lambda held: {**held, "blocking_confidence": 0.999999}},
        {(MANIFEST, "audit.blocking_confidence")},
    ),
    "no audit": ({"merchants": of_first(lambda one: {"audit": None})}, {(RELEASE, "audit")}),
    "other canaries": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "commitment": "ab" * 32}})},
        {(CANARIES, "commitment")},
    ),
    "no measured noise": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "noise": None}})},
        {(CANARIES, "noise")},
    ),
    "other measured noise": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "noise": OTHER_NOISE}})},
        {(CANARIES, f"noise.{field}") for field in ("deviation", "chance", "draws")},
    ),
    "a secret seed": ({"noise": {"seeded": False}}, {(MANIFEST, "noise.seeded")}),
    "less at several merchants": (
        {"several": lambda held: [{**one, "local": held[0]["local"]} for one in held]},
        {(MANIFEST, "several.local")},
    ),
    "a ledger that stood elsewhere": (
        {"ledgers": of_first(lambda one: {"hash": "cd" * 32})},
        {("LEDGER", "hash")},
    ),
    "a shorter ledger": (
        {"ledgers": of_first(lambda one: {"entries": one["entries"] - 1})},
        {("LEDGER", "hash"), (MANIFEST, "entries")},
    ),
    "a longer ledger": (
        {"ledgers": of_first(lambda one: {"entries": one["entries"] + 1})},
        {("LEDGER", "entries")},
    ),
    "another node's key": (
        {"ledgers": of_first(lambda one: {"signer": "cd" * 32})},
        {("LEDGER", "signer")},
    ),
    "another journal's key": (
        {"journal": lambda held: {**held, "key": "cd" * 32}},
        {(JOURNAL, "signer")},
    ),
    "another journal": ({"journal": lambda held: {**held, "hash": "cd" * 32}}, {(JOURNAL, "hash")}),
    "a longer journal": (
        {"journal": lambda held: {**held, "entries": held["entries"] + 1}},
        {(JOURNAL, "entries")},
    ),
    "no journal": (
        {"journal": None},
        {(RELEASE, "journal"), (JOURNAL, "adapter"), (CANARIES, "commitment")},
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_statement_that_says_otherwise_is_found_and_nothing_else_is_blamed(forger, lie):
    changes, expected = LIES[lie]
    forger.statement(**changes)
    own = f"{LEDGERS}/{forger.nodes[0]}.jsonl"
    wrong = {
        ("LEDGER" if file == own else file, field)
        for file, _, field in found(audit_run(forger.folder, forger.key))
    }
    assert expected <= wrong
    assert wrong == expected


def test_a_page_that_says_more_than_the_record_is_found(forger):
    forger.release(page=b"# Privacy statement\n\nNothing can go wrong.\n")
    for report in (
        audit_run(forger.folder, forger.key),
        audit_release(forger.folder / RELEASE, forger.key),
    ):
        assert found(report) == [(f"{RELEASE}/{STATEMENT_FILE}", None, "text")]


def test_an_adapter_that_no_round_made_is_found(forger):
    forger.release(lambda document: document["adapter"].update(digest="ab" * 32))
    report = audit_run(forger.folder, forger.key)
    assert named(report, f"{RELEASE}/adapter/adapter_model.safetensors", "adapter.digest")
    assert named(report, JOURNAL, "adapter")


# ------------------------------------------------------- lies of a merchant and the server
def test_a_cut_ledger_is_missed_by_the_journal(forger):
    node = forger.nodes[0]
    forger.ledger(node, lambda entries: entries[:-1])
    report = audit_run(forger.folder, forger.key)
    assert (f"{LEDGERS}/{node}.jsonl", 5, "rollback") in found(report)
    assert named(report, f"{LEDGERS}/{node}.jsonl", "round_number")
    assert named(report, MANIFEST, "epsilon")


def test_an_entry_below_its_plans_price_is_found(forger):
    node = forger.nodes[0]
    forger.ledger(
        node,
        lambda entries: [
            *entries[:-1],
            replace(entries[-1], noise_multiplier=2 * entries[-1].noise_multiplier),
        ],
    )
    report = audit_run(forger.folder, forger.key)
    assert (f"{LEDGERS}/{node}.jsonl", 5, "noise_multiplier") in found(report)
    assert named(report, f"{LEDGERS}/{node}.jsonl", "rollback")


def test_canaries_that_were_not_committed_to_before_training_do_not_count(forger):
    forger.journal(lambda entries: [one for one in entries if one.kind != "canaries"])
    assert [one[2] for one in found(audit_run(forger.folder, forger.key))] == ["commitment"] * 2
    assert audit_release(forger.folder / RELEASE, forger.key).passed  # alone it cannot be told


def test_canaries_that_were_committed_to_after_training_do_not_count(forger):
    def late(entries):
        return [
            *(one for one in entries if one.kind != "canaries"),
            *(one for one in entries if one.kind == "canaries"),
        ]

    forger.journal(late)
    report = audit_run(forger.folder, forger.key)
    assert [one[2] for one in found(report)] == ["commitment"] * 2
    assert "after a round" in str(by_name(report, "Canaries: committed")[0].findings[0])


def test_canaries_with_other_bits_are_not_those_committed_to(forger):
    records = unpack_records((forger.folder / CANARIES).read_bytes())
    first = min(records)
    records[first] = replace(records[first], bits=~records[first].bits)
    forger.release(**{CANARIES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder, forger.key)
    assert named(report, CANARIES, "commitment")
    assert named(report, CANARIES, "epsilon") or named(report, CANARIES, "one_run")


def test_a_bound_above_the_claim_is_noted_and_one_that_blocks_is_wrong(forger):
    statement = forger.manifest.privacy
    name = max(statement.merchants, key=lambda one: statement.merchants[one].audit.epsilon)
    one = statement.merchants[name]
    record = unpack_records((forger.folder / CANARIES).read_bytes())[statement.ledgers[name].node]
    assert 0 < one.audit.blocking < one.audit.epsilon < one.epsilon
    middle = (one.audit.blocking + one.audit.epsilon) / 2
    for claimed, status in (
        (one.epsilon, "passed"),
        (middle, "noted"),
        (one.audit.blocking / 2, "failed"),
    ):
        claim = {name: one.model_copy(update={"epsilon": claimed})}
        sheet = Checklist()
        check_bound(
            sheet, name, statement.model_copy(update={"merchants": claim}), record, demanded=True
        )
        assert [check.status for check in sheet.checks] == [status]


@pytest.mark.parametrize(
    ("factor", "status"), [(1.0, "passed"), (0.91, "noted"), (0.5, "failed"), (0.0, "failed")]
)
def test_short_noise_is_noted_or_wrong_whatever_the_statement_says(forger, factor, status):
    statement = forger.manifest.privacy
    name = max(statement.merchants, key=lambda one: statement.merchants[one].audit.epsilon)
    record = unpack_records((forger.folder / CANARIES).read_bytes())[statement.ledgers[name].node]
    out = np.where(record.bits, 1, factor / statement.merchants[name].audit.noise.deviation)
    record = replace(record, canaries=(record.canaries * out).astype(np.float32))
    proved = audited_bound(record, statement.plan["delta"])
    told = proved.model_copy(update={"noise": proved.noise.model_copy(update={"refuted": False})})
    for audit in (proved, told):
        one = statement.merchants[name].model_copy(update={"audit": audit, "epsilon": 100.0})
        sheet = Checklist()
        changed = statement.model_copy(update={"merchants": {name: one}})
        check_bound(sheet, name, changed, record, demanded=True)
        [check] = sheet.checks
        assert check.status == status
        fields = {finding.field for finding in check.findings if finding.field.startswith("noise")}
        lied = {"noise.refuted"} if audit.noise.refuted != proved.noise.refuted else set()
        assert fields == ({"noise"} | lied if status == "failed" else set())


def test_canaries_that_hide_a_step_are_told_and_such_of_a_step_never_charged_are_wrong(forger):
    records = unpack_records((forger.folder / CANARIES).read_bytes())
    first = min(records)
    whole = records[first]
    records[first] = replace(whole, rounds=whole.rounds + 7)
    forger.release(**{CANARIES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder, forger.key)
    # Nor were they sealed so: in each of three rounds, and with no update at all.
    assert found(report) == [(CANARIES, None, "rounds")] * 3 + [(CANARIES, None, "seal")] * 4
    shorter = {name: getattr(whole, name)[:-1] for name in ("rounds", "canaries", "updates")}
    records[first] = replace(whole, **shorter)
    forger.release(**{CANARIES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder, forger.key)
    assert named(report, CANARIES, "steps")  # the statement says three
    assert "1 charged steps were not watched" in by_name(report, "Canaries: committed")[0].detail


def test_a_merchant_in_a_round_without_a_head_is_found(forger):
    def headless(entries):
        return [
            replace(one, receipts=one.receipts[1:]) if one.kind == "train" else one
            for one in entries
        ]

    forger.journal(headless)
    wrong = found(audit_run(forger.folder, forger.key))
    assert [field for file, _, field in wrong if file == JOURNAL].count("receipts") == 3
    # Without a head nothing says whose key signed the contribution, and the list changed.
    assert {field for _, _, field in wrong} == {
        "receipts",
        "contributions.signer",
    }


def test_a_round_of_no_run_and_a_plan_under_anothers_digest_are_found(forger):
    forger.journal(lambda entries: [one for one in entries if one.kind != "run"])
    assert named(audit_run(forger.folder, forger.key), JOURNAL, "run_id")


def test_a_plan_under_another_digest_is_found(forger):
    def swapped(entries):
        return [
            replace(one, plan=one.plan.replace('"steps":3', '"steps":2'))
            if one.kind == "run"
            else one
            for one in entries
        ]

    forger.journal(swapped)
    assert (JOURNAL, 1, "plan_digest") in found(audit_run(forger.folder, forger.key))


def without(name):
    return lambda held: {one: value for one, value in held.items() if one != name}


@pytest.mark.parametrize("only", [None, ("popularity", 0), ("train", 1), ("train", 3)])
def test_a_merchant_that_the_statement_leaves_out_is_found(forger, only):
    """Its epsilon is the one the operator would rather not show. Any one round of it is enough."""
    node, canaries = forger.nodes[0], unpack_records((forger.folder / CANARIES).read_bytes())
    name = next(name for name, one in forger.manifest.privacy.ledgers.items() if one.node == node)
    del canaries[node]
    forger.release(**{CANARIES_FILE: pack_records(canaries.values())})
    forger.statement(merchants=without(name), ledgers=without(name))
    (forger.folder / LEDGERS / f"{node}.jsonl").unlink()

    def absent(entry):
        if only in {None, (entry.kind, entry.round_number)} or entry.kind == "canaries":
            return entry
        others = tuple(one for one in entry.participants if one != node)
        return replace(entry, participants=others)

    forger.journal(lambda entries: [absent(one) for one in entries])
    report = audit_run(forger.folder, forger.key)
    assert (MANIFEST, None, "ledgers") in found(report)
    # Nor does it fit what the merchants signed.
    others = {field for file, _, field in found(report) if file != MANIFEST}
    assert others <= {"contributions", "contribution", "merchant", "seal"}
