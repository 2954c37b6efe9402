"""An operator that ran one code and names another is found by ledgers and journal."""

from dataclasses import replace

import pytest

from common.audit.app_bundles import check_app_bundles
from common.audit.findings import Checklist
from common.audit.layout import JOURNAL, LEDGERS, RELEASE
from common.privacy.ledger.journal import JournalEntry
from tests.support.ledgers import pay, reopen
from tests.support.statements import make_statement

OWN, THIEF = "a" * 64, "b" * 64


@pytest.fixture
def parts(tmp_path):
    """A statement, one `run` entry and one charge, all of the same plan and bundle."""
    told = make_statement(app_sha256=(OWN,))
    plan = told.privacy_plan.digest
    run = JournalEntry(
        1, "run", "1", 0, "", plan, (), (), "", "", 0.0, "k", "0" * 64, app_digest=OWN
    )
    entry = replace(pay(reopen(tmp_path / "l.db"), app_digest=OWN).entry, plan_digest=plan)
    return told, run, entry


def wrong(told, run, entry):
    sheet = Checklist()
    check_app_bundles(sheet, told, None if run is None else [run], {"shop": [entry]})
    (check,) = sheet.checks
    return {(one.file, one.field, one.entry) for one in check.findings}, check


def test_one_bundle_everywhere_passes(parts):
    found, check = wrong(*parts)
    assert found == set()
    assert OWN in check.detail


def test_a_charge_by_another_bundle_is_found(parts):
    told, run, entry = parts
    for digest in (THIEF, ""):
        found, _ = wrong(told, run, replace(entry, app_digest=digest))
        assert found == {(f"{LEDGERS}/shop.jsonl", "app_digest", 1)}
    other = replace(entry, app_digest=THIEF, plan_digest="c" * 64)  # of another run
    assert wrong(told, run, other)[0] == set()


def test_a_server_that_ran_another_bundle_is_found(parts):
    told, run, entry = parts
    for digest in (THIEF, ""):
        assert wrong(told, replace(run, app_digest=digest), entry)[0] == {
            (JOURNAL, "app_digest", 1)
        }


def test_a_statement_that_leaves_the_bundle_out_is_found_where_a_ledger_names_it(parts):
    told, run, entry = parts
    silent = told.model_copy(update={"app_sha256": ()})
    found, _ = wrong(silent, run, entry)
    assert {field for _, field, _ in found} == {"app_digest"}
    found, check = wrong(silent, replace(run, app_digest=""), replace(entry, app_digest=""))
    assert found == set()
    assert RELEASE in check.detail
