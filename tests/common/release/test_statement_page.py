"""The page says what the record says, and nothing better."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.release.statement import NOT_PROTECTED, UNIT
from common.release.statement_page import SENTENCES, statement_page
from tests.support.shops import make_plan
from tests.support.statements import HEX, PLAN, SEVERAL, SHARED, make_statement, merchant_fields

AUDIT = {
    "epsilon": 2.345,
    "blocking": 1.3,
    "one_run": 0.9,
    "canaries": 512,
    "steps": 40,
    "commitment": HEX,
}
USUAL = statement_page(make_statement(merchants={"Ash": merchant_fields()}))


def rows(text, heading):
    """The cells of the table that `heading` opens, heading and rule left out."""
    table = text[text.index(heading) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table][2:]


def test_each_merchants_cost_stands_beside_what_its_audit_proves():
    merchants = {"Ash": merchant_fields(audit=AUDIT), "Birch": merchant_fields(epsilon=4.5)}
    text = statement_page(make_statement(merchants=merchants))
    delta = f"{PLAN.delta:.1e}"
    assert rows(text, "| merchant | ε") == [
        ["Ash", "3.987", delta, "3.987", "3.991", "4.400", "≥ 2.345"],
        ["Birch", "4.500", delta, "3.987", "3.991", "4.400", "none"],
    ]


def test_a_person_can_find_every_point_of_the_checklist():
    text = statement_page(make_statement())
    for said in (
        UNIT[1:],  # a sentence begins with it
        f"norm at most {PLAN.max_grad_norm:g}, in each of {PLAN.steps} steps",
        "nobody but the merchant itself need be trusted",
        f"Poisson sampling with q = {PLAN.sample_rate:g}",
        f"standard deviation {PLAN.noise_multiplier:.4g}",
        f"divided by {PLAN.divisor:g}",
        "PLD by dp 1; PRV by op 2; RDP by dp 1",
        "AES-256-CTR",
        "float64, rounded to the grid of the sum",
        "12 standard deviations",
        "95% confidence",
        "what they prove with 99.99%",
        f"| the server's journal | 46 | `{HEX}` | `{HEX}` |",
        f"Code, over its source files: `{HEX}`",
    ):
        assert said in text
    assert "fixed seed" not in text


@pytest.mark.parametrize(("epsilon", "sure"), [(0.0, "50%"), (1.0, "73.2%"), (3.987, "98.2%")])
def test_the_largest_claim_is_told_as_odds(epsilon, sure):
    merchants = {"Ash": merchant_fields(epsilon=0.0), "Birch": merchant_fields(epsilon=epsilon)}
    text = statement_page(make_statement(merchants=merchants))
    assert f"At ε = {epsilon:.2f}, " in text
    assert f"at most {sure} sure" in text


def test_a_shopper_of_several_merchants_is_told_both_ways():
    text = statement_page(make_statement())
    heading = "| merchants | **noise at each merchant** | noise once, on the sum |"
    found = rows(text, heading)
    assert found == [[str(k), f"{one:.2f}", f"{other:.2f}"] for k, one, other in SEVERAL]
    central = statement_page(make_statement(make_plan(dp_model="central")))
    assert "| merchants | noise at each merchant | **noise once, on the sum** |" in central


def test_shared_noise_is_told_by_how_many_merchants_are_absent():
    text = statement_page(make_statement(SHARED))
    assert rows(text, "| absent | ε of this run |") == [
        ["0", "3.200"],
        ["1", "3.300"],
        ["2", "3.400"],
    ]
    for said in (
        "8 merchants share the noise",
        "above is for 2 of them",
        "No sum of fewer than 6 merchants is opened",
        "while at most 2 merchants are with the operator",
        "Merchants that an operator makes up count as being with it",
        f"standard deviation {SHARED.noise_std('train'):.4g}",
        "integers on the grid of the sum, modulo 2^64",
        "| merchants | noise at each merchant | **noise once, on the sum** |",
    ):
        assert said in text
    assert "nobody but the merchant itself need be trusted" not in text
    assert "| absent |" not in USUAL


def test_all_that_is_not_protected_is_told():
    text = statement_page(make_statement()).split("## What is not protected")[1]
    assert [line[2:] for line in text.strip().splitlines()] == [
        SENTENCES[one] for one in NOT_PROTECTED
    ]


def test_a_run_with_a_fixed_seed_says_so_before_anything_else():
    text = statement_page(make_statement(noise={"seeded": True}))
    assert "protects anybody" in text.split("**Unit.**")[0]


@pytest.mark.parametrize("dp_model", ["central", "none"])
def test_a_dp_model_that_protects_from_nobody_promises_nothing(dp_model):
    silent = {"noise_multiplier": 0.0, "popularity_noise_multiplier": 0.0}
    plan = make_plan(dp_model=dp_model, **(silent if dp_model == "none" else {}))
    text = statement_page(make_statement(plan))
    assert "nobody but the merchant itself need be trusted" not in text
    assert ("no protection" in text) == (dp_model == "central")
    assert ("no privacy guarantee of any kind" in text) == (dp_model == "none")
    assert ("| merchant | ε" in text) == (dp_model == "central")


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=30))
def test_no_merchants_name_breaks_the_page(name):
    text = statement_page(make_statement(merchants={name: merchant_fields()}))
    assert len(text.splitlines()) == len(USUAL.splitlines())
    assert "<" not in text.replace("\\<", "")


def test_both_kinds_of_neighbours_are_told_of_the_run_and_of_each_ledger():
    text = statement_page(make_statement(merchants={"Ash": merchant_fields()}))
    assert rows(text, "| ε of | added") == [
        ["this run alone", "3.987", "7.600", "PLD"],
        ["all on the ledger of Ash", "4.410", "8.210", "the filter"],
    ]


@pytest.mark.parametrize(("size", "warned"), [(10_000, False), (10_001, True)])
def test_delta_is_held_against_the_declared_size(size, warned):
    text = statement_page(make_statement(make_plan(delta=1e-5, size_bracket=size)))
    assert f"declared size of {size:,} shoppers" in text
    assert ("**Warning: " in text) == warned


def test_sizes_that_a_simulation_counted_are_not_called_declared():
    assert "Nobody declared them" in statement_page(make_statement(sizes="counted"))
    assert "Nobody declared them" not in statement_page(make_statement())
