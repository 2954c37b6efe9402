"""Compute the lower bound again from the revealed canaries, and hold them to their commitment."""

from collections import Counter
from collections.abc import Mapping, Sequence

from common.audit.findings import Checklist, Marks
from common.audit.layout import MANIFEST, RELEASE
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.journal import JournalEntry
from common.privacy.mechanism.canaries import CanaryRecord, unpack_records
from common.privacy.mechanism.empirical_bound import (
    BLOCKING_CONFIDENCE,
    CONFIDENCE,
    LowerBound,
    audit_canaries,
    audit_sums,
)
from common.privacy.mechanism.measured_noise import SHOWN_CHANCE, MeasuredNoise
from common.privacy.mechanism.sum_canaries import CanarySums
from common.release.manifest import CANARIES_FILE, CANARY_SUMS_FILE, Manifest
from common.release.statement import AuditedNoise, MerchantPrivacy, Statement
from common.release.verify import VerifiedRelease

FILE = f"{RELEASE}/{CANARIES_FILE}"
_SHOWN = f"{RELEASE}/{CANARY_SUMS_FILE}"
_ROUNDING = 1e-6  # two computations of one bound may differ by this much


def read_canaries(sheet: Checklist, release: VerifiedRelease) -> Mapping[str, CanaryRecord]:
    """Return the opened records by node."""
    statement = release.manifest.privacy
    records: Mapping[str, CanaryRecord] = {}
    with sheet.check("Canaries: opened, each of a merchant of the statement", FILE) as marks:
        if CANARIES_FILE not in release.files:
            marks.note("no merchant opened any: no lower bound can be computed")
            return records
        records = unpack_records(release.files[CANARIES_FILE])
        nodes = {record.node for record in statement.ledgers.values()}
        for node in sorted(set(records) - nodes):
            marks.wrong("merchant", f"{node!r} is no merchant of the statement.")
        marks.says(f"{len(records)} records")
    return records


def canaries_demanded(manifest: Manifest) -> bool:
    """Return whether a run's settings say that each merchant's canaries are revealed after it.

    Only noise that merchants add, by themselves or in shares, is watched by them. Where the
    settings do not say, they must be there.
    """
    asked = manifest.adapter.settings.get("audit_canaries", 1)
    return manifest.privacy.dp_model in {"local", "distributed"} and asked != 0


def read_canary_sums(release: VerifiedRelease) -> CanarySums | None:
    """Return what a release shows of its sums' canaries; None where it shows none.

    Raises:
        PrivacyError: if the file is not one.
    """
    content = release.files.get(CANARY_SUMS_FILE)
    return None if content is None else CanarySums.from_bytes(content)


def bound_of_sums(
    sheet: Checklist, release: VerifiedRelease, records: Mapping[str, CanaryRecord]
) -> LowerBound | None:
    """Return the one bound that the sums of a run prove, for all merchants; None elsewhere."""
    statement = release.manifest.privacy
    if statement.dp_model != "distributed" or not records:
        return None
    with sheet.check("Canaries: what the sums show of them", _SHOWN) as marks:
        sums = read_canary_sums(release)
        if sums is None:
            marks.wrong("canaries", "Canaries were revealed, and what the sums show is not there.")
            return None
        if sums.run_id not in statement.run_ids:
            marks.wrong("run_id", "What the sums show is of another run.")
        found = audit_sums(sums, records, statement.privacy_plan.delta)
        marks.says(
            f"{len(sums.rounds)} sums, {found.canaries} columns of {len(sums.roster)} merchants"
        )
        return found
    return None  # the check found the columns unreadable, or of another run


def committed(journal: Sequence[JournalEntry], statement: Statement) -> frozenset[str]:
    """Return the nodes that committed to canaries in the run of a statement."""
    runs = set(statement.run_ids)
    return frozenset(
        name
        for one in journal
        if one.kind == "canaries" and one.run_id in runs
        for name in one.participants
    )


def check_bound(
    sheet: Checklist,
    name: str,
    statement: Statement,
    record: CanaryRecord | None,
    *,
    demanded: bool,
    sums: LowerBound | None = None,
) -> LowerBound | None:
    """Check what the statement says of one merchant's canaries; return the bound they prove.

    Args:
        sheet: Takes the findings.
        name: The merchant.
        statement: Of a verified release.
        record: Its revealed canaries, if there are any.
        demanded: Whether there must be some (`canaries_demanded`).
        sums: What the run's sums prove (`bound_of_sums`), where the noise is distributed.
    """
    one, bound = statement.merchants[name], sums
    with sheet.check("Lower bound: computed again from the canaries", FILE, name) as marks:
        if record is None and one.audit is None and demanded:
            marks.wrong(
                "audit",
                f"The run was audited, and the canaries of {name} are not there.",
                file=MANIFEST,
            )
        elif record is None and one.audit is None:
            marks.note("it was not audited: nothing measures its claim")
        elif record is None:
            marks.wrong(
                "canaries", f"The statement has a bound of {name}, and there are no canaries."
            )
        else:
            if statement.dp_model != "distributed":
                bound = audit_canaries(record, one.delta)
            if bound is None:
                marks.wrong("canaries", f"What the canaries of {name} prove cannot be computed.")
                return None
            _compare(marks, one, record, bound)
            _compare_confidences(marks, statement)
            if record.plan != statement.privacy_plan.to_json():
                marks.wrong("plan", f"The canaries of {name} are of another plan.")
            marks.says(
                f"epsilon at least {bound.epsilon:.3f}, claimed {one.epsilon or 0:.3f}; "
                f"{bound.noise.deviation or 0:.3f} of the noise claimed, over {bound.noise.draws} "
                "draws"
            )
    return bound


def _compare(marks: Marks, one: MerchantPrivacy, record: CanaryRecord, bound: LowerBound) -> None:
    if one.audit is None:
        marks.wrong("audit", "There are canaries, and the statement has no bound.", file=RELEASE)
        return
    told = one.audit
    for field, stated, found in (
        ("epsilon", told.epsilon, bound.epsilon),
        ("blocking", told.blocking, bound.blocking),
        ("one_run", told.one_run, bound.one_run),
        ("canaries", told.canaries, bound.canaries),
        ("steps", told.steps, bound.steps),
    ):
        if abs(stated - found) > _ROUNDING:
            marks.wrong(field, f"The statement says {stated:g}; the canaries give {found:g}.")
    _compare_noise(marks, told.noise, bound.noise)
    if told.commitment != record.commitment:
        marks.wrong("commitment", "The canaries are not those that the statement names.")
    if one.epsilon is not None and bound.blocking > one.epsilon:
        marks.wrong(
            "epsilon",
            f"The claim is {one.epsilon:.3f}, and the canaries prove at least "
            f"{bound.blocking:.3f}.",
        )
    elif one.epsilon is not None and bound.epsilon > one.epsilon:
        marks.note("the bound at 95% is above the claim, as one in a hundred honest runs has it")


def _compare_noise(marks: Marks, told: AuditedNoise | None, found: MeasuredNoise) -> None:
    if told is None:
        marks.wrong("noise", "There are canaries, and the statement has no measured noise.")
        return
    for field, stated, measured in (
        ("noise.deviation", told.deviation or 0.0, found.deviation or 0.0),
        ("noise.chance", told.chance, found.chance),
        ("noise.draws", told.draws, found.draws),
        ("noise.refuted", told.refuted, found.refuted),
    ):
        if abs(stated - measured) > _ROUNDING:
            marks.wrong(field, f"The statement says {stated:g}; the canaries give {measured:g}.")
    if found.refuted:
        marks.wrong(
            "noise",
            f"The canaries show {found.deviation or 0:.3f} of the noise that is claimed, or noise "
            f"of another kind; an honest run looks so with a chance of at most {found.chance:.1e}.",
        )
    elif found.chance < SHOWN_CHANCE:
        marks.note("the noise looks short, as in one in a hundred honest runs")


def _compare_confidences(marks: Marks, statement: Statement) -> None:
    for field, found in (("confidence", CONFIDENCE), ("blocking_confidence", BLOCKING_CONFIDENCE)):
        stated = getattr(statement.audit, field)
        if stated != found:
            marks.wrong(
                f"audit.{field}",
                f"The statement says {stated:g}; its bounds are computed with {found:g}.",
                file=MANIFEST,
            )


def check_commitment(
    sheet: Checklist,
    name: str,
    statement: Statement,
    record: CanaryRecord,
    *,
    journal: Sequence[JournalEntry],
    entries: Sequence[Entry],
    sums: CanarySums | None = None,
) -> None:
    """Check that canaries were committed to before the rounds they watched, and no others.

    Where sums are what is watched, `sums` says which: those that the merchant is in.
    """
    title = "Canaries: committed to on the journal before training"
    with sheet.check(title, FILE, name) as marks:
        if record.run_id not in statement.run_ids:
            marks.wrong("run_id", f"The canaries of {name} are of another run.")
        own = [one for one in journal if one.run_id == record.run_id]
        told = [
            one for one in own if one.kind == "canaries" and one.participants == (record.merchant,)
        ]
        right = [one.number for one in told if one.commitment == record.commitment]
        seen = record.rounds.tolist() if sums is None else sums.rounds_of(record.merchant)
        watched = set(seen)
        rounds = [
            one.number
            for one in own
            if one.kind == "train"
            and one.round_number in watched
            and record.merchant in one.participants
        ]
        if not right:
            marks.wrong("commitment", f"The journal has no commitment to the canaries of {name}.")
        elif rounds and min(rounds) < min(right):
            marks.wrong(
                "commitment",
                f"The canaries of {name} were committed to at entry {min(right)} of the journal, "
                f"after a round that they watched, at entry {min(rounds)}.",
            )
        _check_rounds(marks, name, record.run_id, seen, entries)
        if len({one.commitment for one in told}) > 1:
            marks.note("the node committed to several records; this is one of them")


def _check_rounds(
    marks: Marks, name: str, run_id: str, seen: Sequence[int], entries: Sequence[Entry]
) -> None:
    """Find fault with steps that were watched and not charged; tell of those not watched."""
    charged: Counter[int] = Counter()
    for entry in entries:
        if entry.kind == "train" and entry.run_id == run_id:
            charged[entry.round_number] += entry.steps
    watched = Counter(seen)
    for number in sorted(watched - charged):
        marks.wrong(
            "rounds", f"The canaries of {name} watched round {number}, which was not charged."
        )
    marks.says(f"{watched.total()} steps watched")
    if charged - watched:
        marks.note(f"{(charged - watched).total()} charged steps were not watched")
