"""Dishonest runs: each is refused, with the file, the entry and the field that give it away.

One small run is forged over and over: two merchants, a histogram and three rounds. A forger has
keys, and whatever they can sign is signed anew and made to fit: claims follow the ledgers as they
are shown, heads follow each other. Nothing is trained again.
"""

import functools
import shutil
from dataclasses import dataclass, replace

import pytest

from common.adapter import AdapterState
from common.audit import audits, claims
from common.audit.audits import audit_run
from common.audit.layout import JOURNAL, LEDGERS, MANIFEST, RELEASE
from common.privacy.mechanism.canaries import pack_records, unpack_records
from common.release.manifest import ADAPTER_FILE, CANARIES_FILE
from tests.support.forging import ACCOUNTANTS, found

CANARIES = f"{RELEASE}/{CANARIES_FILE}"
FIRST, SECOND = "ledgers/first", "ledgers/second"
OPERATOR, ONE, ALL = (), ("first",), ("first", "second")
# The run's journal: its opening, two commitments, the histogram, three rounds.
HISTOGRAM, ROUND_1, ROUND_2, ROUND_3 = 4, 5, 6, 7


@dataclass(frozen=True)
class Forgery:
    """What is done, with whose keys beside the operator's, and what must be found."""

    forge: object
    finds: tuple
    keys: tuple = OPERATOR


# ------------------------------------------------------------------------------ the means
def is_round(*numbers):
    return lambda one: one.kind == "train" and one.round_number in numbers


def is_histogram(one):
    return one.kind == "popularity"


def drop(gone):
    return lambda entries: [one for one in entries if not gone(one)]


def fraud(forger, keys, *, journal=None, ledger=None, entries=None):
    """Change journal and ledgers, as far as the keys go, and make all the rest fit."""
    nodes = [forger.nodes[ALL.index(one)] for one in keys]
    if ledger is not None:
        for node in nodes:
            forger.ledger(node, ledger)
    if journal is not None:
        forger.journal(journal)
    if nodes:
        forger.retell(nodes)
    forger.claim(entries)


def named_early(count, *, without_canaries=False):
    """Name an early, genuine entry of each ledger, and claim what lies before it."""

    def forge(forger, keys):
        if without_canaries:
            forger.no_canaries(audit_canaries=0)
        fraud(forger, keys, entries=count)

    return forge


def journal_of(change):
    return lambda forger, keys: fraud(forger, keys, journal=change)


def ledgers_of(change):
    return lambda forger, keys: fraud(forger, keys, ledger=change)


def everywhere(gone):
    return lambda forger, keys: fraud(forger, keys, journal=drop(gone), ledger=drop(gone))


def changed(which, **fields):
    """Change fields of some entries; a callable is given the entry."""

    def change(entries):
        values = lambda one: {k: v(one) if callable(v) else v for k, v in fields.items()}  # noqa: E731
        return [replace(one, **values(one)) if which(one) else one for one in entries]

    return change


def doubled(entries):
    return [one for entry in entries for one in ([entry] * (2 if is_round(2)(entry) else 1))]


def swapped(entries):
    first, second = (next(one for one in entries if is_round(n)(one)) for n in (1, 2))
    order = {first.number: second, second.number: first}
    return [order.get(one.number, one) for one in entries]


def histogram_last(entries):
    return [*drop(is_histogram)(entries), *(one for one in entries if is_histogram(one))]


def stale_heads(entries):
    """Show the heads of round 1 again with every later round."""
    early = next(one.receipts for one in entries if is_round(1)(one))
    return changed(is_round(2, 3), receipts=early)(entries)


def cut_ledgers(forger, keys):
    """Hand over ledgers cut after round 1, and the heads of then with each later round."""
    for node in forger.nodes:
        path = forger.ledger_file(node)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    fraud(forger, keys, journal=stale_heads)


def emptied(forger, keys):
    fraud(forger, keys)
    forger.ledger_file(forger.nodes[0]).write_bytes(b"")


def exchanged(forger, keys):
    fraud(forger, keys)
    first, second = (forger.ledger_file(node) for node in forger.nodes)
    held = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(held)


def no_ledger(forger, keys):
    fraud(forger, keys)
    forger.ledger_file(forger.nodes[0]).unlink()


def less_of(merchants):
    """Take canaries of so many merchants out of the release and out of the statement."""

    def forge(forger, keys):
        records = unpack_records((forger.folder / CANARIES).read_bytes())
        nodes = forger.nodes[:merchants]
        kept = [one for node, one in records.items() if node not in nodes]
        gone = {name for name, one in forger.manifest.privacy.ledgers.items() if one.node in nodes}

        def change(document):
            for name in gone:
                document["privacy"]["merchants"][name]["audit"] = None

        forger.release(change, **{CANARIES_FILE: pack_records(kept) if kept else None})

    return forge


def without_merchant(everywhere_but):
    """Leave the first merchant out of the statement, and of all rounds but some."""

    def forge(forger, keys):
        less_of(1)(forger, keys)
        node = forger.nodes[0]
        name = next(n for n, one in forger.manifest.privacy.ledgers.items() if one.node == node)

        def absent(entry):
            if everywhere_but(entry) or entry.kind == "run":
                return [entry]
            others = tuple(one for one in entry.participants if one != node)
            receipts = tuple(
                one.to_json() for one in entry.read_receipts() if one.head.merchant != node
            )
            left = replace(entry, participants=others, receipts=receipts)
            return [left] if others else []

        forger.journal(lambda entries: [one for entry in entries for one in absent(entry)])
        forger.statement(
            merchants=lambda held: {one: held[one] for one in held if one != name},
            ledgers=lambda held: {one: held[one] for one in held if one != name},
        )
        forger.ledger_file(node).unlink()

    return forge


def of_plan(**fields):
    """Say that the run had another plan, in the statement alone."""

    def forge(forger, keys):
        def change(document):
            told = document["privacy"]
            told["plan"] |= fields
            for one in told["merchants"].values():
                one |= {name: told["plan"][name] for name in ("steps", "noise_multiplier")}

        forger.release(change)
        fraud(forger, keys)

    return forge


def of_plan_on_journal(**fields):
    """Say so on the journal too."""

    def forge(forger, keys):
        old = forger.manifest.privacy.privacy_plan
        new = replace(old, **fields)
        forger.journal(
            changed(lambda one: one.kind == "run", plan=new.to_json(), plan_digest=new.digest)
        )
        forger.journal(changed(lambda one: True, plan_digest=new.digest))
        of_plan(**fields)(forger, keys)

    return forge


def shorter(forger, keys):
    """Release what the last but one round came to, as if it were the end."""
    middle = next(one.adapter for one in forger.journal_entries() if is_round(2)(one))
    forger.release(lambda document: document["adapter"].update(digest=middle))
    fraud(forger, keys)


def other_adapter(forger, keys):
    """Release an adapter that no round came to, under its right digest."""
    held = AdapterState.from_bytes((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    nudged = held.with_vector(held.flatten() + 1)
    only_b = {name: one for name, one in nudged.tensors.items() if ".lora_B." in name}
    digest = AdapterState(only_b).digest
    forger.release(
        lambda document: document["adapter"].update(digest=digest),
        **{ADAPTER_FILE: nudged.to_bytes()},
    )
    fraud(forger, keys)


def another_run(forger, keys):
    forger.statement(run_ids=["2"])
    fraud(forger, keys)


def canaries_of_another_run(forger, keys):
    records = unpack_records((forger.folder / CANARIES).read_bytes())
    node = forger.nodes[0]
    records[node] = replace(records[node], run_id="2")
    forger.release(**{CANARIES_FILE: pack_records(records.values())})
    fraud(forger, keys)


def recovered_for_nothing(entries):
    """A recovery without cost, in the place of every charge."""
    free = replace(
        entries[0],
        kind="recovery",
        run_id="",
        steps=0,
        sample_rate=1.0,
        noise_multiplier=0.0,
        plan_digest="",
        dp_model="",
        recovers="ab" * 32,
    )
    return [entries[0], free]


def one_round_called_the_first(forger, keys):
    """Of three rounds keep the last, and call it the first and only one."""
    fraud(forger, keys, journal=drop(is_round(1, 2)), ledger=drop(is_round(1, 2)))
    first = changed(is_round(3), round_number=1)
    fraud(forger, keys, journal=first, ledger=first)


def rounds_of_others(entries):
    return changed(is_round(2), run_id="2")(entries)


def unattended(forger, keys):
    """Say that nobody took part in the second round, and charge nobody."""
    nobody = changed(is_round(2), participants=(), receipts=())
    fraud(forger, keys, journal=nobody, ledger=drop(is_round(2)))


def early_of_one(forger, keys):
    """Name an early entry of one ledger alone, the dearer one's."""
    name, one = next(iter(forger.manifest.privacy.ledgers.items()))
    held = forger.entries(one.node)[:2]
    told = {"node": one.node, "entries": 2, "hash": held[-1].hash, "signer": one.signer}
    forger.statement(ledgers=lambda ledgers: {**ledgers, name: told})


# -------------------------------------------------------------------------- the forgeries
FORGERIES = {
    # ------------------------------------------------ the operator, merchants honest
    "an early entry, the histogram alone": Forgery(named_early(1), ((MANIFEST, 1, "entries"),)),
    "an early entry, all but two rounds": Forgery(named_early(2), ((MANIFEST, 2, "entries"),)),
    "an early entry, all but one round": Forgery(named_early(3), ((MANIFEST, 3, "entries"),)),
    "an early entry of one merchant": Forgery(early_of_one, ((MANIFEST, 2, "entries"),)),
    "an early entry, and no canaries": Forgery(
        named_early(2, without_canaries=True),
        ((MANIFEST, 2, "entries"), (MANIFEST, None, "audit")),
    ),
    "an early entry, and stale heads": Forgery(
        lambda forger, keys: fraud(forger, keys, journal=stale_heads, entries=2),
        ((JOURNAL, ROUND_2, "covers"), (JOURNAL, ROUND_3, "receipts"), (MANIFEST, 2, "entries")),
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
        journal_of(drop(is_round(1))), ((JOURNAL, 5, "round_number"), (JOURNAL, 5, "covers"))
    ),
    "the second round taken out": Forgery(
        journal_of(drop(is_round(2))), ((JOURNAL, 6, "round_number"), (JOURNAL, 6, "covers"))
    ),
    "the last round taken out": Forgery(
        journal_of(drop(is_round(3))), ((JOURNAL, None, "adapter"),)
    ),
    "all rounds but the last taken out": Forgery(
        journal_of(drop(is_round(1, 2))), ((JOURNAL, 5, "round_number"),)
    ),
    "the histogram taken out": Forgery(
        journal_of(drop(is_histogram)), ((JOURNAL, 4, "kind"), (JOURNAL, 4, "covers"))
    ),
    "the histogram after the last round": Forgery(
        journal_of(histogram_last), ((JOURNAL, 4, "kind"), (JOURNAL, 7, "covers"))
    ),
    "everything but the last round, in a journal cut at its front": Forgery(
        journal_of(drop(lambda one: one.number in {4, 5, 6})),
        ((JOURNAL, 4, "round_number"), (JOURNAL, 4, "kind")),
    ),
    "a round twice": Forgery(
        journal_of(doubled), ((JOURNAL, 7, "covers"), (FIRST, None, "round_number"))
    ),
    "two rounds in the other order": Forgery(
        journal_of(swapped), ((JOURNAL, 5, "covers"), (JOURNAL, 5, "round_number"))
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
        lambda forger, keys: (
            forger.release(larger_delta),
            fraud(forger, keys),
        ),
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
        ((FIRST, 3, "noise_multiplier"),),
        ONE,
    ),
    "one merchant: a lower sampling rate": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), sample_rate=0.001)),
        ((FIRST, 2, "noise_multiplier"),),
        ONE,
    ),
    "one merchant: noise placed elsewhere": Forgery(
        ledgers_of(changed(is_round(1), dp_model="central")), ((FIRST, 2, "dp_model"),), ONE
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
        ledgers_of(recovered_for_nothing), ((FIRST, 2, "steps"),), ONE
    ),
    # ---------------------------------------------- the operator and all merchants' keys
    "all keys: two rounds taken out everywhere": Forgery(
        everywhere(is_round(1, 2)), ((JOURNAL, 5, "round_number"),), ALL
    ),
    "all keys: the second round taken out everywhere": Forgery(
        everywhere(is_round(2)), ((JOURNAL, 6, "round_number"),), ALL
    ),
    "all keys: the histogram taken out everywhere": Forgery(
        everywhere(is_histogram), ((JOURNAL, 4, "kind"),), ALL
    ),
    "all keys: one round, called the first": Forgery(
        one_round_called_the_first, ((JOURNAL, 5, "round_number"),), ALL
    ),
    "all keys: a round of nobody": Forgery(unattended, ((JOURNAL, ROUND_2, "participants"),), ALL),
    "all keys: rounds charged at no price": Forgery(
        ledgers_of(changed(is_round(1, 2, 3), noise_multiplier=90.0)),
        ((FIRST, 2, "noise_multiplier"), (SECOND, 2, "noise_multiplier")),
        ALL,
    ),
    "all keys: all ledgers recovered for nothing": Forgery(
        ledgers_of(recovered_for_nothing), ((FIRST, 2, "steps"), (SECOND, 2, "steps")), ALL
    ),
    "all keys: an early entry": Forgery(named_early(2), ((MANIFEST, 2, "entries"),), ALL),
}


def larger_delta(document):
    told = document["privacy"]
    told["plan"]["delta"] = 0.05
    for one in told["merchants"].values():
        one["delta"] = 0.05


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
