"""What a statement is drafted from: ledgers as they stand, or as their nodes told a server."""

import pytest
from pydantic import ValidationError

from common.privacy.mechanism.empirical_bound import BLOCKING_CONFIDENCE, CONFIDENCE
from common.release.code_digest import code_digest
from common.release.statement_draft import (
    draft_statement,
    head_record,
    ledger_record,
    several_merchants,
)
from tests.support.ledgers import PLAN, pay, reopen
from tests.support.statements import make_merchant


@pytest.fixture
def ledger(tmp_path):
    return reopen(tmp_path / "ledger.sqlite")


def test_a_server_knows_a_ledger_by_its_head_as_the_node_knows_it_itself(ledger):
    for number in range(3):
        pay(ledger, number + 1)
        assert head_record(ledger.signed_head("")) == ledger_record(
            "shop", ledger.signer, ledger.entries()
        )


def test_of_a_ledger_without_an_entry_nothing_can_be_said(ledger):
    with pytest.raises(ValidationError, match="entries"):
        head_record(ledger.signed_head(""))


def test_a_draft_names_accountants_code_and_every_ledger(ledger):
    pay(ledger)
    told = {"Ash": ledger_record("shop", ledger.signer, ledger.entries())}
    statement = draft_statement(
        PLAN,
        {"Ash": make_merchant(PLAN)},
        told,
        (),
        run_ids=frozenset({"9", "10", "1"}),
        seeded_noise=False,
    )
    assert statement.run_ids == ("1", "10", "9")
    assert statement.privacy_plan == PLAN
    assert dict(statement.ledgers) == told
    assert statement.journal is None
    assert statement.code_sha256 == code_digest()
    assert statement.accountants["pld"].startswith("dp-accounting 0.")
    assert statement.accountants["prv"].startswith("opacus 1.")
    assert statement.several == several_merchants(PLAN)
    assert statement.audit.confidence == CONFIDENCE
    assert statement.audit.blocking_confidence == BLOCKING_CONFIDENCE
    assert [one.merchants for one in statement.several] == [1, 2, 3, 4, 5]
