"""How many sums a journal says have failed, and what it may say of those that nobody gave."""

from types import SimpleNamespace

import pytest

from common.audit.findings import Checklist
from common.audit.secure_sums.evidence import signers_at
from common.audit.secure_sums.failed import check_failed
from common.federation.failed_sums import ENDED, MOST_FAILED, is_beyond
from common.privacy.ledger.journal import JournalEntry

PLAN = SimpleNamespace(digest="p", dp_model="distributed")
STATEMENT = SimpleNamespace(privacy_plan=PLAN, run_ids=("1", "2"))
RELEASE = SimpleNamespace(manifest=SimpleNamespace(privacy=STATEMENT))


def failed(number, reason="quorum:train", *, run_id="1", participants=(), receipts=("{}",)):
    return JournalEntry(
        number, "train", run_id, number, "", "p", participants, receipts, "", reason, 0.0, "", ""
    )


def told(journal, tmp_path):
    sheet = Checklist()
    check_failed(sheet, RELEASE, tmp_path, (), journal)
    (check,) = sheet.checks
    return {(one.field, one.entry) for one in check.findings}


ALL = [failed(number) for number in range(1, MOST_FAILED + 1)]
LAST = MOST_FAILED + 1


def test_a_start_that_ended_after_as_many_as_it_bears_is_as_it_must_be(tmp_path):
    assert told([*ALL, failed(LAST, ENDED, receipts=())], tmp_path) == set()
    assert told([*ALL, failed(LAST, run_id="2")], tmp_path) == set()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (failed(LAST), "reason"),
        (failed(LAST, ENDED), "reason"),  # somebody was asked, and charged
        (failed(LAST, ENDED, run_id="2", receipts=()), "reason"),
        (failed(LAST, run_id="2", participants=("ash",)), "participants"),
    ],
    ids=["one more", "one asked", "ended too early", "one took part"],
)
def test_what_no_start_does_is_found(entry, field, tmp_path):
    assert told([*ALL, entry], tmp_path) == {(field, LAST)}


def test_a_sum_is_signed_with_the_key_that_a_node_had_then():
    """A key that was renewed later did not sign it, and one of before did not either."""
    keys = {1: "11" * 32, 2: "22" * 32, 3: "33" * 32}
    journal = [
        SimpleNamespace(
            number=number,
            read_receipts=lambda key=key: [
                SimpleNamespace(head=SimpleNamespace(merchant="ash", signer=key))
            ],
        )
        for number, key in keys.items()
    ]
    for entry in journal:
        assert signers_at(journal, entry)["ash"].raw.hex() == keys[entry.number]


def test_a_sum_is_refused_for_its_own_kind_of_bound_alone():
    assert is_beyond("federation:update_norm", "train")
    assert not is_beyond("federation:update_norm", "season")
    assert not is_beyond("quorum:train", "train")
