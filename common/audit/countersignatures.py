"""Hold ledgers against the journal: every head it countersigned, every round it counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.audit.findings import Checklist, Marks
from common.audit.journaled_run import JournaledRun
from common.audit.layout import JOURNAL, MANIFEST
from common.errors import SettingsError
from common.files import sha256_hex
from common.privacy.accounting.accountants import MechanismEvent, merge
from common.privacy.accounting.claim import epsilon_claimed
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.entry import Entry, spent_events
from common.privacy.ledger.heads import Head, Receipt, missing_events, place_of
from common.privacy.ledger.journal import JournalEntry, last_receipts
from common.release.statement import LedgerRecord

ROUNDS = ("popularity", "season", "train")


@dataclass(frozen=True)
class NamedLedger:
    """A ledger that was read: its merchant as a report calls it, its file, node and entries."""

    name: str
    file: str
    node: str
    entries: tuple[Entry, ...]


def read_plans(marks: Marks, journal: Sequence[JournalEntry]) -> dict[str, PrivacyPlan]:
    """Return the plans that a journal's runs had, by digest, and find fault with what does not fit.

    Every entry of a run must stand behind the run's opening, and name its plan.
    """
    plans: dict[str, PrivacyPlan] = {}
    open_runs: set[tuple[str, str]] = set()
    for entry in journal:
        if entry.kind == "run":
            try:
                plan = PrivacyPlan.from_json(entry.plan)
                fits = sha256_hex(entry.plan.encode()) == entry.plan_digest == plan.digest
            except SettingsError:
                fits = False
            if not fits:
                marks.wrong(
                    "plan_digest", "It is not the digest of the run's plan.", entry=entry.number
                )
                continue
            plans[entry.plan_digest] = plan
            open_runs.add((entry.run_id, entry.plan_digest))
        elif (entry.run_id, entry.plan_digest) not in open_runs:
            marks.wrong("run_id", "No run with this plan was opened before.", entry=entry.number)
    return plans


def check_journal(sheet: Checklist, journal: Sequence[JournalEntry]) -> dict[str, PrivacyPlan]:
    """Check that a journal's entries make sense; return the plans of its runs by digest."""
    with sheet.check("Journal: each round under a run and its plan", JOURNAL) as marks:
        plans = read_plans(marks, journal)
        for entry in journal:
            heads = {one.head.merchant for one in entry.read_receipts()}
            if entry.kind in ROUNDS and not heads.issuperset(entry.participants):
                marks.wrong(
                    "receipts", "A merchant took part without a ledger head.", entry=entry.number
                )
        _check_order(marks, journal)
        _check_places(marks, journal, plans)
        rounds = [entry for entry in journal if entry.kind in ROUNDS]
        refused = sum(entry.kind == "refusal" for entry in journal)
        marks.says(f"{len(rounds)} rounds, {refused} refusals")
        return plans
    return {}


def _check_order(marks: Marks, journal: Sequence[JournalEntry]) -> None:
    """Find fault with a head that was not told after the one before it.

    A node signs which head of this journal it told last, so rounds can neither be taken out
    between two others, nor repeated, nor told in another order, by whoever has the journal's key.
    """
    last: dict[str, str] = {}
    for entry in journal:
        for head in (receipt.head for receipt in entry.read_receipts()):
            if head.covers != last.get(head.merchant, ""):
                marks.wrong(
                    "covers",
                    f"The head of {head.merchant} does not follow its last one on the journal.",
                    entry=entry.number,
                )
            last[head.merchant] = head.hash


def _check_places(
    marks: Marks, journal: Sequence[JournalEntry], plans: Mapping[str, PrivacyPlan]
) -> None:
    """Find fault with rounds that are none of their plan's."""
    for entry in journal:
        plan = plans.get(entry.plan_digest)
        if plan is None or entry.kind not in ROUNDS:
            continue
        first, last = (1, plan.rounds) if entry.kind == "train" else (0, 0)
        if not first <= entry.round_number <= last:
            marks.wrong("round_number", "Its plan has no such round.", entry=entry.number)
        if entry.kind == "season" and not plan.takes_season and plan.dp_model != "none":
            marks.wrong("kind", "Its plan takes no season.", entry=entry.number)


def check_coverage(
    sheet: Checklist,
    ledger: NamedLedger,
    record: LedgerRecord,
    run: JournaledRun,
    journal: Sequence[JournalEntry],
) -> int:
    """Check that the length which the statement names covers the run; return what must be charged.

    Args:
        sheet: Takes the findings.
        ledger: One merchant's, all of it.
        record: Where the statement says that it stood.
        run: The rounds behind the adapter.
        journal: The part of it that the release pins.

    Returns:
        The number of the last entry that the merchant's claim must cover: the one that the
        statement names, or a later one that a head on the journal or a round of the run stands
        at.
    """
    title = "Ledger: its named length covers every round of the run"
    reach = record.entries
    with sheet.check(title, ledger.file, ledger.name) as marks:
        receipt = last_receipts(tuple(journal)).get(ledger.node)
        if receipt is not None:
            reach = max(reach, place_of(ledger.entries, receipt.head) or 0)
        for round_ in run.entries:
            if ledger.node in round_.participants:
                reach = max(reach, _charged_at(marks, ledger, round_))
        if reach > record.entries:
            marks.wrong(
                "entries",
                f"The statement names entry {record.entries} of the ledger of {ledger.name}; what "
                f"it was charged for the run goes on to entry {reach}.",
                entry=record.entries,
                file=MANIFEST,
            )
        marks.says(f"up to entry {reach}")
        _tell_unanswered(marks, ledger.entries, reach, run)
    return reach


def _tell_unanswered(marks: Marks, entries: Sequence[Entry], reach: int, run: JournaledRun) -> None:
    """Note what was charged for the run behind all that the journal knows, and what it comes to.

    An answer that came late looks like one that the operator kept to itself, so it is no fault.
    """
    numbers, digest = {one.run_id for one in run.entries}, run.plan.digest
    late = [one for one in entries[reach:] if one.run_id in numbers and one.plan_digest == digest]
    if late:
        spent = spent_events([*entries[:reach], *late])
        whole = epsilon_claimed(run.plan.events(), spent, run.plan.delta)
        marks.note(
            f"{len(late)} charges for this run lie behind it, and no answer to them is on the "
            f"journal; with them epsilon is {whole:.3f}"
        )


def _charged_at(marks: Marks, ledger: NamedLedger, round_: JournalEntry) -> int:
    """Return at which entry a round was first charged; 0 where it was not, which is told elsewhere.

    Its head on the journal must stand there, or later.
    """
    charged = next((one.number for one in ledger.entries if _round(one) == _round(round_)), 0)
    heads = {one.head.merchant: one.head for one in round_.read_receipts()}
    place = place_of(ledger.entries, heads[ledger.node]) if ledger.node in heads else None
    if place is not None and place < charged:
        marks.wrong(
            "receipts",
            f"The head of {ledger.name} stands at entry {place} of its ledger; this round was "
            f"charged at entry {charged}.",
            entry=round_.number,
            file=JOURNAL,
        )
    return charged


def _round(entry: Entry | JournalEntry) -> tuple[str, str, int, str]:
    """Return what a charge and the round that it paid for have in common."""
    return entry.kind, entry.run_id, entry.round_number, entry.plan_digest


def check_heads(sheet: Checklist, ledger: NamedLedger, journal: Sequence[JournalEntry]) -> None:
    """Check that a ledger has every head that the journal countersigned, and spent what it said."""
    entries, receipts = ledger.entries, _receipts_of(journal, ledger.node)
    title = "Ledger: every countersigned head is in it"
    with sheet.check(title, ledger.file, ledger.name) as marks:
        if not receipts:
            marks.note("the journal has no head of it")
            return
        last = 0
        made_good: Head | None = None  # the nearest later head that a recovery made good
        for head in (receipt.head for receipt in reversed(receipts)):
            place = place_of(entries, head)
            if place is None:
                lost = made_good is None or missing_events(head.spent, made_good.spent)
                if lost:
                    marks.wrong("rollback", "A countersigned head is not in it.", entry=head.number)
                continue
            last = max(last, place)
            spent = spent_events(entries[:place])
            exact = place == 0 or entries[place - 1].hash == head.hash
            if missing_events(head.spent, spent) or (exact and spent != head.spent):
                marks.wrong("spent", "Its head told the server another cost.", entry=place)
            made_good = made_good if exact else head
        marks.says(f"{len(receipts)} heads, the last at entry {last}")
        if last < len(entries):
            marks.note(f"{len(entries) - last} entries after the last one: charged, no head told")


def check_charges(
    sheet: Checklist,
    ledger: NamedLedger,
    journal: Sequence[JournalEntry],
    plans: Mapping[str, PrivacyPlan],
) -> None:
    """Check that each round the node took part in is on its ledger, at the plan's own price."""
    title = "Ledger: every round was charged, at its plan's price"
    node, entries = ledger.node, ledger.entries
    with sheet.check(title, ledger.file, ledger.name) as marks:
        for entry in entries:
            plan = plans.get(entry.plan_digest)
            if plan is not None and entry.event != _price(plan, entry):
                marks.wrong("noise_multiplier", "This is not its plan's price.", entry=entry.number)
            if plan is not None and entry.dp_model != plan.dp_model:
                marks.wrong("dp_model", "This is not its plan's.", entry=entry.number)
        charged = Counter(_round(one) for one in entries)
        recovered = next((one.number for one in entries if one.recovers), None)
        rounds = [one for one in journal if one.kind in ROUNDS and node in one.participants]
        for round_ in rounds:
            charged[_round(round_)] -= 1  # a round that was run twice costs twice
            if charged[_round(round_)] < 0 and not recovered:
                marks.wrong(
                    "round_number",
                    f"The node took part in round {round_.round_number} of run {round_.run_id} "
                    f"({round_.kind}; entry {round_.number} of the journal), and its ledger has "
                    "no charge for it.",
                )
        marks.says(f"{len(rounds)} rounds")
        if recovered:
            priced = (
                _price(plan, one)
                for one in rounds
                if (plan := plans.get(one.plan_digest)) is not None
            )
            cost = merge(event for event in priced if event is not None)
            if missing_events(cost, spent_events(entries)):
                marks.wrong("steps", "All of it is less than its rounds cost.", entry=recovered)
            marks.note("the ledger was recovered: charges before that are counted by their cost")


def _price(plan: PrivacyPlan, entry: Entry | JournalEntry) -> MechanismEvent | None:
    """Return what a round of an entry's kind costs under its plan; None where it has no such."""
    kinds: dict[str, EventKind] = {"popularity": "popularity", "season": "season"}
    try:
        return plan.event(kinds.get(entry.kind, "train"))
    except SettingsError:
        return None


def _receipts_of(journal: Sequence[JournalEntry], node: str) -> list[Receipt]:
    """Return the receipts that a journal gave one node, in order."""
    return [
        receipt
        for entry in journal
        for receipt in entry.read_receipts()
        if receipt.head.merchant == node
    ]
