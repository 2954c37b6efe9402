"""Merchants' names of any script: one page whatever their order, and no name breaks it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.release.statement import Statement
from common.release.statement_page import statement_page
from tests.support.honest_runs import NAMES
from tests.support.statements import HEX, PLAN, make_statement, merchant_fields, statement_fields


def page_of(names):
    return statement_page(make_statement(PLAN, {name: merchant_fields(PLAN) for name in names}))


def signed_and_read(statement):
    """The statement as whoever reads the manifest has it: keys sorted in canonical JSON."""
    return Statement.model_validate_json(statement.model_dump_json(), strict=True)


def ledgers_by(names):
    return {
        name: {"node": f"{sorted(names).index(name):03d}", "entries": 1, "hash": HEX, "signer": HEX}
        for name in names
    }


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.integers(0, 2**32))
@settings(max_examples=60)
def test_the_page_is_the_same_in_every_order_of_the_merchants(names, seed):
    rng = random.Random(seed)
    orders = [sorted(names), rng.sample(sorted(names), len(names))]
    pages = []
    for order in orders:
        held = {name: merchant_fields(PLAN) for name in order}
        statement = make_statement(PLAN, held, ledgers=ledgers_by(order))
        pages += [statement_page(statement), statement_page(signed_and_read(statement))]
    assert len(set(pages)) == 1


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_a_name_breaks_neither_the_table_nor_the_page(name):
    plain, page = page_of(["plain"]), page_of([name])
    assert page.count("\n") == plain.count("\n")  # splitlines would take more for an end of line
    assert len(page.splitlines()) == len(plain.splitlines())
    unescaped = page.replace("\\|", "")
    assert unescaped.count("|") == plain.count("|")
    page.encode()


@pytest.mark.parametrize(
    "node", ["a/b", "..", ".hidden", "a\\b", "two\nlines", "tab\t", "\x00", ""]
)
def test_a_node_whose_file_would_lie_elsewhere_is_refused(node):
    fields = statement_fields()
    (one,) = fields["ledgers"].values()
    one["node"] = node
    with pytest.raises(ValidationError, match="node"):
        Statement.model_validate(fields)


@pytest.mark.parametrize(
    ("one", "other"), [("ash", "Ash"), ("Caf\u00e9", "Cafe\u0301"), ("STRASSE", "straße")]
)
def test_two_nodes_whose_files_are_one_on_some_disks_are_refused(one, other):
    fields = statement_fields(merchants={name: merchant_fields() for name in ("a", "b")})
    fields["ledgers"]["a"]["node"], fields["ledgers"]["b"]["node"] = one, other
    with pytest.raises(ValidationError, match="two merchants name one ledger"):
        Statement.model_validate(fields)
    fields["ledgers"]["b"]["node"] = f"{other} 2"
    Statement.model_validate(fields)


@pytest.mark.parametrize("run_ids", [["2", "1"], ["1", "1"]])
def test_the_runs_numbers_are_sorted_and_each_is_told_once(run_ids):
    with pytest.raises(ValidationError, match="sorted, each once"):
        Statement.model_validate(statement_fields(run_ids=run_ids))
