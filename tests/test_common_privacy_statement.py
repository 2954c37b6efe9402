"""The statement says what the manifest says, and nothing better."""

import pytest
from shops import make_plan

from common.privacy.statement import UNIT, privacy_statement
from common.release.manifest import Accountants, AuditedBound, MerchantPrivacy

AUDIT = AuditedBound(epsilon=2.345, one_run=0.9, lanes=512, steps=40, commitment="ab" * 32)


def merchant(plan, epsilon=3.987, audit=None):
    return MerchantPrivacy(
        epsilon=epsilon,
        delta=plan.delta,
        accountants=Accountants(pld=3.987, prv=3.991, rdp=4.4),
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
        steps=plan.steps,
        max_grad_norm=plan.max_grad_norm,
        audit=audit,
    )


def rows(text):
    """The table's lines as cells, heading and rule left out."""
    table = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table][1:]


def test_each_merchants_cost_stands_beside_what_its_audit_proves():
    plan = make_plan()
    merchants = {"Ash": merchant(plan, audit=AUDIT), "Birch": merchant(plan)}
    text = privacy_statement(plan, merchants, 2, seeded_noise=False)
    delta = f"{plan.delta:.1e}"
    assert rows(text) == [
        ["Ash", "3.987", delta, "3.987", "3.991", "4.400", "≥ 2.345"],
        ["Birch", "3.987", delta, "3.987", "3.991", "4.400", "none"],
    ]
    for said in (UNIT, "these 2 merchants", f"q = {plan.sample_rate:g}", f"{plan.steps} steps"):
        assert said in text
    assert "fixed seed" not in text


def test_a_run_with_a_fixed_seed_says_that_it_protects_nobody():
    plan = make_plan()
    text = privacy_statement(plan, {"Ash": merchant(plan)}, 1, seeded_noise=True)
    assert "protects anybody" in text.split("**Unit.**")[0]


@pytest.mark.parametrize("placement", ["central", "none"])
def test_a_placement_that_protects_from_nobody_promises_nothing(placement):
    silent = {"noise_multiplier": 0.0, "popularity_noise_multiplier": 0.0}
    plan = make_plan(placement=placement, **(silent if placement == "none" else {}))
    text = privacy_statement(plan, {"Ash": merchant(plan)}, 1, seeded_noise=False)
    assert "nobody but the merchant itself need be trusted" not in text
    assert ("no protection" in text) == (placement == "central")
    assert ("no privacy guarantee of any kind" in text) == (placement == "none")
    assert (rows(text) == []) == (placement == "none")
