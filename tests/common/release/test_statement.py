"""The record holds together or is refused, and nothing in it may be left out or made up."""

import json
from dataclasses import asdict

import pytest
from pydantic import ValidationError

from common.release.statement import NOT_PROTECTED, Statement, check_claims
from tests.support.shops import make_plan
from tests.support.statements import (
    HEX,
    PLAN,
    SHARED,
    absent_fields,
    make_statement,
    merchant_fields,
    statement_fields,
)

SILENT = make_plan(dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0)
AUDIT = {
    "epsilon": 2.345,
    "blocking": 1.3,
    "one_run": 0.9,
    "canaries": 512,
    "steps": 40,
    "noise": {"deviation": 1.004, "chance": 1.0, "draws": 10_240, "refuted": False},
    "commitment": HEX,
}


@pytest.mark.parametrize("plan", [PLAN, SILENT, SHARED, make_plan(dp_model="central")])
def test_a_statement_reads_back_as_itself(plan):
    statement = make_statement(plan)
    text = statement.model_dump_json()
    assert Statement.model_validate_json(text, strict=True) == statement
    assert statement.privacy_plan == plan


@pytest.mark.parametrize(
    "field", sorted(set(Statement.model_fields) - {"unit", "tuning", "absent"})
)
def test_each_part_must_be_there(field):
    fields = statement_fields()
    if field in {"not_protected", "journal"}:  # there, and not said to be nothing
        fields[field] = [] if field == "not_protected" else "none"
    else:
        del fields[field]
    with pytest.raises(ValidationError):
        Statement.model_validate(fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"plan": {**asdict(PLAN), "steps": "40"}}, "the plan is not one"),
        ({"plan": {**asdict(PLAN), "more": 1}}, "the plan is not one"),
        ({"dp_model": "central"}, "places the noise elsewhere"),
        ({"ledgers": {}}, "one ledger for each merchant"),
        ({"accountants": {"pld": "dp 1"}}, "pld, prv and rdp"),
        ({"not_protected": NOT_PROTECTED[1:]}, "told whole"),
        ({"several": []}, "1 to 5 merchants"),
        ({"several": statement_fields()["several"][:4]}, "1 to 5 merchants"),
        ({"noise": {"seeded": False, "cut_at": 13}}, "cut_at"),
        ({"tuning": "counted"}, "tuning"),
        ({"code_sha256": HEX[1:]}, "code_sha256"),
    ],
)
def test_a_statement_that_does_not_hold_together_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Statement.model_validate({**statement_fields(), **changes})


@pytest.mark.parametrize(
    ("plan", "changes", "message"),
    [
        (SHARED, {"absent": []}, "each number of absent"),
        (SHARED, {"absent": absent_fields(SHARED)[1:]}, "each number of absent"),
        (SHARED, {"absent": absent_fields(SHARED)[:2]}, "each number of absent"),
        (PLAN, {"absent": absent_fields(SHARED)}, "each number of absent"),
        (
            SHARED,
            {
                "absent": [
                    {**one, "epsilon": 1 / (1 + one["absent"])} for one in absent_fields(SHARED)
                ]
            },
            "must not fall",
        ),
        (SHARED, {"noise": {"seeded": False}}, "discrete where it is shared"),
        (PLAN, {"noise": statement_fields(SHARED)["noise"]}, "discrete where it is shared"),
    ],
)
def test_shared_noise_is_told_by_who_is_absent(plan, changes, message):
    with pytest.raises(ValidationError, match=message):
        make_statement(plan, **changes)


def test_a_statement_of_an_older_version_keeps_its_bytes():
    assert "absent" not in make_statement().model_dump()
    assert len(make_statement(SHARED).model_dump()["absent"]) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("noise_multiplier", 2.2), ("sample_rate", 0.2), ("steps", 39), ("max_grad_norm", 2.0)],
)
def test_a_merchants_numbers_are_the_plans(name, value):
    merchants = {"Ash": merchant_fields(), "Birch": merchant_fields(**{name: value})}
    with pytest.raises(ValidationError, match=r"'Birch' has other numbers"):
        make_statement(merchants=merchants)


def test_a_claim_is_at_the_plans_delta():
    with pytest.raises(ValidationError, match="another delta"):
        make_statement(merchants={"Ash": merchant_fields(delta=1e-4)})


def test_noise_that_the_canaries_refute_is_no_claim():
    noise = {"deviation": 0.61, "chance": 1e-30, "draws": 10_240, "refuted": True}
    merchants = {"Ash": merchant_fields(audit={**AUDIT, "noise": noise})}
    with pytest.raises(ValidationError, match=r"'Ash' claims noise that .*: 0\.610 of it"):
        make_statement(merchants=merchants)
    merchants["Ash"]["audit"]["noise"]["refuted"] = False
    make_statement(merchants=merchants)


def test_two_merchants_have_two_ledgers():
    merchants = {"Ash": merchant_fields(), "Birch": merchant_fields()}
    fields = statement_fields(merchants=merchants)
    fields["ledgers"]["Birch"] = fields["ledgers"]["Ash"]
    with pytest.raises(ValidationError, match="two merchants name one ledger"):
        Statement.model_validate(fields)


@pytest.mark.parametrize(
    ("dp_model", "fields"),
    [
        ("none", {"epsilon": 4.0}),
        ("none", {"delta": 1e-5}),
        ("local", {}),
        ("central", {"epsilon": 1}),
    ],
)
def test_epsilon_is_claimed_exactly_when_noise_was_added(dp_model, fields):
    plan = {"local": PLAN, "none": SILENT, "central": make_plan(dp_model="central")}[dp_model]
    one = {**merchant_fields(plan), "epsilon": None, "delta": None, **fields}
    with pytest.raises(ValidationError, match=r"claims epsilon|lacks epsilon"):
        make_statement(plan, merchants={"Ash": one})
    with pytest.raises(ValueError, match=r"claims epsilon|lacks epsilon"):
        check_claims(dp_model, {"Ash": _parsed(one)})


def _parsed(one):
    from common.release.statement import MerchantPrivacy

    return MerchantPrivacy.model_validate(one)


def test_a_claim_below_what_its_audit_proves_is_refused():
    proved = {**AUDIT, "epsilon": 4.9, "blocking": 3.988}
    for luck in (AUDIT, {**AUDIT, "epsilon": 4.5}):  # at 95% an honest run may lie above its claim
        make_statement(merchants={"Ash": merchant_fields(audit=luck)})
    with pytest.raises(ValidationError, match="prove at least"):
        make_statement(merchants={"Ash": merchant_fields(audit=proved)})


def test_an_infinite_number_is_refused():
    text = json.dumps(statement_fields(), default=str).replace("3.987", "Infinity")
    with pytest.raises(ValidationError):
        Statement.model_validate_json(text)


def test_both_kinds_of_neighbours_must_be_told_with_noise_and_not_without():
    cost = {"add_or_remove": 1.0, "replace_one": 2.0}
    for plan, changes in (
        (PLAN, {"run": None}),
        (PLAN, {"merchants": {"Ash": merchant_fields(ledger=None)}}),
        (SILENT, {"run": cost}),
        (SILENT, {"merchants": {"Ash": merchant_fields(SILENT, ledger=cost)}}),
    ):
        with pytest.raises(ValidationError, match="both kinds of neighbours"):
            make_statement(plan, **changes)
