"""Hold ledgers against the journal: every head it countersigned, every round it counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.audit.findings import Checklist, Marks
from common.audit.layout import JOURNAL
from common.errors import SettingsError
from common.files import sha256_hex
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.entry import Entry, spent_events
from common.privacy.ledger.heads import Head, Receipt, missing_events, place_of
from common.privacy.ledger.journal import JournalEntry

ROUNDS = ("popularity", "train")


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
        rounds = [entry for entry in journal if entry.kind in ROUNDS]
        refused = sum(entry.kind == "refusal" for entry in journal)
        marks.says(f"{len(rounds)} rounds, {refused} refusals")
        return plans
    return {}


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
            if plan is not None and entry.event != plan.event(_kind(entry)):
                marks.wrong("noise_multiplier", "This is not its plan's price.", entry=entry.number)
            if plan is not None and entry.dp_model != plan.dp_model:
                marks.wrong("dp_model", "This is not its plan's.", entry=entry.number)
        charged: Counter[tuple[str, str, int, str]] = Counter(
            (one.kind, one.run_id, one.round_number, one.plan_digest) for one in entries
        )
        recovered = any(one.recovers for one in entries)
        rounds = [one for one in journal if one.kind in ROUNDS and node in one.participants]
        for round_ in rounds:
            key = (round_.kind, round_.run_id, round_.round_number, round_.plan_digest)
            charged[key] -= 1  # a round that was run twice costs twice
            if charged[key] < 0 and not recovered:
                marks.wrong(
                    "round_number",
                    f"The node took part in round {round_.round_number} of run {round_.run_id} "
                    f"({round_.kind}; entry {round_.number} of the journal), and its ledger has "
                    "no charge for it.",
                )
        marks.says(f"{len(rounds)} rounds")
        if recovered:
            marks.note("the ledger was recovered: charges before that are counted by their heads")


def _kind(entry: Entry) -> EventKind:
    return "popularity" if entry.kind == "popularity" else "train"


def _receipts_of(journal: Sequence[JournalEntry], node: str) -> list[Receipt]:
    """Return the receipts that a journal gave one node, in order."""
    return [
        receipt
        for entry in journal
        for receipt in entry.read_receipts()
        if receipt.head.merchant == node
    ]
