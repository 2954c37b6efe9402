"""Claims against entries: two accountants that disagree, DP models that protect from few."""

import pytest

from common.audit import claims
from common.audit.claims import (
    CURVE_POINTS,
    check_absent,
    check_epsilon,
    check_several,
    curve,
    tell_trust,
)
from common.audit.findings import Checklist
from common.privacy.accounting.accountants import epsilon_pld, epsilon_prv, epsilon_rdp
from common.privacy.accounting.second_accountant import SecondOpinion
from common.privacy.ledger.entry import spent_events
from common.release.statement_draft import absent_costs, ledger_cost
from tests.support.ledgers import PLAN, pay, reopen
from tests.support.shops import make_plan
from tests.support.statements import SHARED, make_statement, merchant_fields


@pytest.fixture
def entries(tmp_path):
    ledger = reopen(tmp_path / "ledger.sqlite")
    for number in range(1, 4):
        pay(ledger, number)
    return ledger.entries()


def statement_for(entries):
    events, delta = spent_events(entries), PLAN.delta
    told = {name: count(events, delta) for name, count in ACCOUNTANTS.items()}
    ledger = ledger_cost(events, delta).model_dump()
    one = merchant_fields(PLAN, epsilon=told["pld"], accountants=told, ledger=ledger)
    statement = make_statement(PLAN, merchants={"Ash": one})
    record = {**statement.ledgers["Ash"].model_dump(), "entries": len(entries)}
    return make_statement(PLAN, merchants={"Ash": one}, ledgers={"Ash": record})


ACCOUNTANTS = {"pld": epsilon_pld, "prv": epsilon_prv, "rdp": epsilon_rdp}


def test_a_claim_that_both_accountants_come_to_passes(entries):
    sheet = Checklist()
    other = check_epsilon(sheet, "Ash", statement_for(entries), entries)
    assert sheet.sound
    assert abs(other.epsilon - epsilon_pld(spent_events(entries), PLAN.delta)) < 0.02


def test_two_accountants_that_disagree_let_nothing_stand(entries, monkeypatch):
    statement = statement_for(entries)
    wrong = SecondOpinion(
        "PRV by another", statement.merchants["Ash"].epsilon + 0.03, numerical=True
    )
    monkeypatch.setattr(claims, "second_opinion", lambda events, delta: wrong)
    sheet = Checklist()
    check_epsilon(sheet, "Ash", statement, entries)
    assert "accountants" in {one.field for one in sheet.checks[0].findings}


@pytest.mark.parametrize(
    ("dp_model", "status", "said"),
    [
        ("local", "passed", "nobody else need be trusted"),
        ("central", "noted", "no protection against whoever added up the sum"),
        ("none", "noted", "There is no privacy guarantee of any kind"),
    ],
)
def test_who_must_be_trusted_is_told(dp_model, status, said):
    silent = {"noise_multiplier": 0.0, "popularity_noise_multiplier": 0.0}
    plan = make_plan(dp_model=dp_model, **(silent if dp_model == "none" else {}))
    sheet = Checklist()
    tell_trust(sheet, make_statement(plan))
    assert sheet.checks[0].status == status
    assert said in sheet.checks[0].detail


def test_without_noise_there_is_nothing_to_tell_of_several_merchants():
    plan = make_plan(dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0)
    sheet = Checklist()
    check_several(sheet, make_statement(plan))
    assert sheet.sound


def test_a_long_ledger_is_drawn_with_few_points_that_end_at_its_end(entries):
    long = tuple(entries) * 40
    points = curve(long, PLAN.delta)
    assert len(points) <= CURVE_POINTS + 2
    assert (points[0].entry, points[-1].entry) == (1, len(long))
    assert points[-1].epsilon == epsilon_pld(spent_events(long), PLAN.delta)
    assert curve((), PLAN.delta) == ()


@pytest.mark.parametrize("wrong", [None, 0, 2])
def test_epsilon_by_absent_merchants_is_computed_again(wrong):
    costs = [one.model_dump() for one in absent_costs(SHARED)]
    if wrong is not None:
        costs[wrong]["epsilon"] -= 0.01 if wrong == 0 else -0.01
    sheet = Checklist()
    check_absent(sheet, make_statement(SHARED, absent=costs))
    (check,) = sheet.checks
    assert check.status == ("passed" if wrong is None else "failed")
    assert f"0: {costs[0]['epsilon']:.3f}" in check.detail or wrong is not None
    check_absent(local := Checklist(), make_statement())
    assert not local.checks
