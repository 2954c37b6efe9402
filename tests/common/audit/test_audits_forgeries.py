"""Dishonest runs: each is refused, with the file, the entry and the field that give it away.

One small run is forged over and over: two merchants, a histogram and three rounds. A forger has
keys, and whatever they can sign is signed anew and made to fit: claims follow the ledgers as they
are shown, heads follow each other. Nothing is trained again.
"""

import functools
from dataclasses import dataclass

import pytest

from common.audit import audits, claims
from common.audit.audits import audit_run
from common.audit.layout import JOURNAL, LEDGERS, MANIFEST
from tests.support.forging import ACCOUNTANTS, found
from tests.support.frauds import (
    ALL,
    CANARIES,
    ONE,
    OPERATOR,
    another_run,
    canaries_of_another_run,
    changed,
    cut_ledgers,
    doubled,
    drop,
    early_of_one,
    emptied,
    everywhere,
    exchanged,
    fraud,
    histogram_last,
    is_histogram,
    is_round,
    journal_of,
    larger_delta,
    ledgers_of,
    less_of,
    named_early,
    no_ledger,
    of_plan,
    of_plan_on_journal,
    one_round_called_the_first,
    other_adapter,
    recovered_for_nothing,
    rounds_of_others,
    shorter,
    stale_heads,
    swapped,
    unattended,
    without_merchant,
)

FIRST, SECOND = "ledgers/first", "ledgers/second"
# The run's journal: its opening; that each merchant joined, and its commitment; the histogram;
# three rounds. A ledger: the import, the histogram, three rounds.
HISTOGRAM, ROUND_1, ROUND_2, ROUND_3 = 6, 7, 8, 9


@dataclass(frozen=True)
class Forgery:
    """What is done, with whose keys beside the operator's, and what must be found."""

    forge: object
    finds: tuple
    keys: tuple = OPERATOR


# -------------------------------------------------------------------------- the forgeries
FORGERIES = {
    # ------------------------------------------------ the operator, merchants honest
    "an early entry, the histogram alone": Forgery(named_early(2), ((MANIFEST, 2, "entries"),)),
    "an early entry, all but two rounds": Forgery(named_early(3), ((MANIFEST, 3, "entries"),)),
    "an early entry, all but one round": Forgery(named_early(4), ((MANIFEST, 4, "entries"),)),
    "an early entry of one merchant": Forgery(early_of_one, ((MANIFEST, 3, "entries"),)),
    "an early entry, and no canaries": Forgery(
        named_early(3, without_canaries=True),
        ((MANIFEST, 3, "entries"), (MANIFEST, None, "audit")),
    ),
    "an early entry, and stale heads": Forgery(
        lambda forger, keys: fraud(forger, keys, journal=stale_heads, entries=3),
        ((JOURNAL, ROUND_2, "covers"), (JOURNAL, ROUND_3, "receipts"), (MANIFEST, 3, "entries")),
    ),
    "stale heads": Forgery(
        journal_of(stale_heads), ((JOURNAL, ROUND_2, "covers"), (JOURNAL, ROUND_2, "receipts"))
    ),
    "ledgers cut after the first round": Forgery(
        cut_ledgers, ((FIRST, None, "round_number"), (SECOND, None, "round_number"))
    ),
    "a ledger without an entry": Forgery(emptied, ((FIRST, None, "entries"),)),
    "no ledger": Forgery(no_ledger, ((FIRST, None, "file"),)),
    "each other's ledgers": Forgery(exchanged, ((FIRST, 1, "signer"), (SECOND, 1, "signer"))),
    "the first round taken out": Forgery(
        journal_of(drop(is_round(1))), ((JOURNAL, 7, "round_number"), (JOURNAL, 7, "covers"))
    ),
    "the second round taken out": Forgery(
        journal_of(drop(is_round(2))), ((JOURNAL, 8, "round_number"), (JOURNAL, 8, "covers"))
    ),
    "the last round taken out": Forgery(
        journal_of(drop(is_round(3))), ((JOURNAL, None, "adapter"),)
    ),
    "all rounds but the last taken out": Forgery(
        journal_of(drop(is_round(1, 2))), ((JOURNAL, 7, "round_number"),)
    ),
    "the histogram taken out": Forgery(
        journal_of(drop(is_histogram)), ((JOURNAL, 6, "kind"), (JOURNAL, 6, "covers"))
    ),
    "the histogram after the last round": Forgery(
        journal_of(histogram_last), ((JOURNAL, 6, "kind"), (JOURNAL, 9, "covers"))
    ),
    "everything but the last round, in a journal cut at its front": Forgery(
        journal_of(drop(lambda one: one.number in {6, 7, 8})),
        ((JOURNAL, 6, "round_number"), (JOURNAL, 6, "kind")),
    ),
    "a round twice": Forgery(
        journal_of(doubled), ((JOURNAL, 9, "covers"), (FIRST, None, "round_number"))
    ),
    "two rounds in the other order": Forgery(
        journal_of(swapped), ((JOURNAL, 7, "covers"), (JOURNAL, 7, "round_number"))
    ),
    "a round under another number": Forgery(
        journal_of(changed(is_round(2), round_number=1)),
        ((JOURNAL, ROUND_3, "round_number"), (FIRST, None, "round_number")),
    ),
    "a round that the plan does not have": Forgery(
        journal_of(changed(is_round(2), round_number=4)),
        ((JOURNAL, ROUND_2, "round_number"), (JOURNAL, ROUND_3, "round_number")),
    ),
    "a round of another run": Forgery(
        journal_of(rounds_of_others), ((JOURNAL, ROUND_2, "run_id"), (FIRST, None, "round_number"))
    ),
    "a round under another plan": Forgery(
        journal_of(changed(is_round(2), plan_digest="ab" * 32)),
        ((JOURNAL, ROUND_2, "run_id"), (JOURNAL, ROUND_3, "round_number")),
    ),
    "a statement of another run": Forgery(another_run, ((JOURNAL, None, "adapter"),)),
    "a plan of fewer rounds": Forgery(of_plan(steps=1), ((JOURNAL, None, "adapter"),)),
    "a plan with more noise": Forgery(
        of_plan(noise_multiplier=50.0), ((JOURNAL, None, "adapter"),)
    ),
    "a larger delta": Forgery(
        larger_delta,
        ((JOURNAL, None, "adapter"),),
    ),
    "a plan with more noise, on the journal too": Forgery(
        of_plan_on_journal(noise_multiplier=50.0),
        ((FIRST, None, "round_number"), (SECOND, None, "round_number")),
    ),
    "a plan of fewer rounds, on the journal too": Forgery(
        of_plan_on_journal(steps=1),
        ((JOURNAL, ROUND_2, "round_number"), (FIRST, None, "round_number")),
    ),
    "an adapter of before the end": Forgery(shorter, ((JOURNAL, ROUND_2, "round_number"),)),
    "an adapter that was nudged": Forgery(other_adapter, ((JOURNAL, None, "adapter"),)),
    "one merchant's canaries left out": Forgery(less_of(1), ((MANIFEST, None, "audit"),)),
    "all canaries left out": Forgery(less_of(2), ((MANIFEST, None, "audit"),)),
    "canaries left out, and settings that ask for none": Forgery(
        lambda forger, keys: forger.no_canaries(audit_canaries=0), ((MANIFEST, None, "audit"),)
    ),
    "canaries of another run": Forgery(canaries_of_another_run, ((CANARIES, None, "run_id"),)),
    "a merchant left out of the statement": Forgery(
        without_merchant(lambda one: True), ((MANIFEST, None, "ledgers"),)
    ),
    "a merchant left out of all but the histogram": Forgery(
        without_merchant(is_histogram), ((MANIFEST, None, "ledgers"),)
    ),
    "a merchant left out of all but the first round": Forgery(
        without_merchant(is_round(1)), ((MANIFEST, None, "ledgers"),)
    ),
    "a round of nobody": Forgery(
        journal_of(changed(is_round(2), participants=())), ((JOURNAL, ROUND_2, "participants"),)
    ),
    "a merchant twice in a round": Forgery(
        journal_of(changed(is_round(2), participants=lambda one: one.participants * 2)),
        ((JOURNAL, ROUND_2, "participants"),),
    ),
    # ------------------------------------------- the operator and one merchant, by its key
    "one merchant: rounds not charged": Forgery(
        ledgers_of(drop(is_round(2, 3))), ((FIRST, None, "round_number"),), ONE
    ),
    "one merchant: its histogram not charged": Forgery(
        ledgers_of(drop(is_histogram)), ((FIRST, None, "round_number"),), ONE
    ),
    "one merchant: a round below its price": Forgery(
        ledgers_of(changed(is_round(2), noise_multiplier=90.0)),
        ((FIRST, 4, "noise_multiplier"),),
        ONE,
    ),
    "one merchant: a lower sampling rate": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), sample_rate=0.001)),
        ((FIRST, 3, "noise_multiplier"),),
        ONE,
    ),
    "one merchant: noise placed elsewhere": Forgery(
        ledgers_of(changed(is_round(1), dp_model="central")), ((FIRST, 3, "dp_model"),), ONE
    ),
    "one merchant: one round charged three times": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), round_number=1)),
        ((FIRST, None, "round_number"),),
        ONE,
    ),
    "one merchant: charges of another run": Forgery(
        ledgers_of(changed(is_round(2), run_id="2")), ((FIRST, None, "round_number"),), ONE
    ),
    "one merchant: charges of another plan": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), plan_digest="ab" * 32, noise_multiplier=90.0)),
        ((FIRST, None, "round_number"),),
        ONE,
    ),
    "one merchant: recovered for nothing": Forgery(
        ledgers_of(recovered_for_nothing), ((FIRST, 3, "steps"),), ONE
    ),
    # ---------------------------------------------- the operator and all merchants' keys
    "all keys: two rounds taken out everywhere": Forgery(
        everywhere(is_round(1, 2)), ((JOURNAL, 7, "round_number"),), ALL
    ),
    "all keys: the second round taken out everywhere": Forgery(
        everywhere(is_round(2)), ((JOURNAL, 8, "round_number"),), ALL
    ),
    "all keys: two rounds taken out everywhere, canaries too": Forgery(
        everywhere(is_round(1, 2), 1, 2), ((JOURNAL, 7, "round_number"),), ALL
    ),
    "all keys: the second round taken out everywhere, canaries too": Forgery(
        everywhere(is_round(2), 2), ((JOURNAL, 8, "round_number"),), ALL
    ),
    "all keys: the histogram taken out everywhere": Forgery(
        everywhere(is_histogram), ((JOURNAL, 6, "kind"),), ALL
    ),
    "all keys: one round, called the first": Forgery(
        one_round_called_the_first, ((JOURNAL, 7, "round_number"),), ALL
    ),
    "all keys: a round of nobody": Forgery(unattended, ((JOURNAL, ROUND_2, "participants"),), ALL),
    "all keys: rounds charged at no price": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), noise_multiplier=90.0)),
        ((FIRST, 3, "noise_multiplier"), (SECOND, 3, "noise_multiplier")),
        ALL,
    ),
    "all keys: all ledgers recovered for nothing": Forgery(
        ledgers_of(recovered_for_nothing), ((FIRST, 3, "steps"), (SECOND, 3, "steps")), ALL
    ),
    "all keys: an early entry": Forgery(named_early(3), ((MANIFEST, 3, "entries"),), ALL),
}


@pytest.fixture(autouse=True, scope="module")
def counted_once():
    """Count the same history once: sixty audits of one run ask the accountants the same things."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (audits, "epsilon_pld"),
            (audits, "epsilon_rdp"),
            (claims, "epsilon_pld"),
            (claims, "epsilon_rdp"),
            (claims, "second_opinion"),
            (claims, "several_merchants"),
        ):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        for name, count in ACCOUNTANTS.items():
            patch.setitem(ACCOUNTANTS, name, functools.cache(count))
        yield


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_run_is_refused_and_what_gives_it_away_is_named(forger, name):
    forgery = FORGERIES[name]
    files = dict(
        zip((FIRST, SECOND), (f"{LEDGERS}/{one}.jsonl" for one in forger.nodes), strict=True)
    )
    forgery.forge(forger, forgery.keys)
    report = audit_run(forger.folder, forger.key)
    assert report.verdict == "failed"
    wrong = set(found(report))
    missed = {(files.get(file, file), *rest) for file, *rest in forgery.finds} - wrong
    assert not missed, sorted(wrong, key=str)


def test_what_the_forger_makes_fit_passes_where_nothing_was_forged(forger):
    """So each refusal is for the forgery, not for the signing anew."""
    fraud(forger, ALL, journal=list, ledger=list)
    report = audit_run(forger.folder, forger.key)
    assert found(report) == []
    assert report.passed


def test_the_suite_is_as_large_as_it_claims_and_every_role_is_in_it():
    assert len(FORGERIES) >= 30
    assert {one.keys for one in FORGERIES.values()} == {OPERATOR, ONE, ALL}
