"""One secure sum, taken again from its transcript, and held against the entry that is about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.audit.findings import Marks
from common.audit.layout import CONTRIBUTIONS
from common.audit.rebuilt import told_of
from common.errors import FedtailError, InputError
from common.federation.contribution_files import MOST_BYTES
from common.identity.signing_key import PublicKey
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.journal import JournalEntry
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.server import SecureSum
from common.privacy.secagg.slots import slot_of
from common.privacy.secagg.transcript import Transcript

KINDS: Mapping[str, EventKind] = {
    "train": "train",
    "popularity": "popularity",
    "season": "season",
}


@dataclass(frozen=True, eq=False)
class Taken:
    """A sum that was taken again: the run it is of, its roster, what was asked, its total."""

    run_id: str
    roster: tuple[str, ...]
    asked: str
    total: SecureSum


def take_again(  # noqa: PLR0917 - each is of another type or named as its caller has it
    marks: Marks,
    path: Path,
    entry: JournalEntry,
    plan: PrivacyPlan,
    setup: str,
    signers: Mapping[str, PublicKey],
) -> Taken | None:
    """Return an entry's sum; None, and a finding, where it is not what the journal says.

    Args:
        marks: Takes the findings.
        path: The transcript's file.
        entry: Of the journal. Of a sum that failed it tells no participants, but has the head of
            each merchant that is in it, and so its charge.
        plan: The release's.
        setup: Digest of settings and basis.
        signers: See `signers_at`.
    """
    kind, number = KINDS[entry.kind], entry.round_number
    file, told = f"{CONTRIBUTIONS}/{path.name}", told_of((kind, number))
    try:
        transcript = Transcript.from_bytes(_read(path))
        total = sum_again(transcript, signers)
    except FedtailError as error:
        marks.wrong(error.field or "transcript", f"{told}: {error}", file=file)
        return None
    terms = transcript.terms
    roster = tuple(one.name for one in transcript.roster.advertisements)
    there, heads = set(total.survivors), {one.head.merchant for one in entry.read_receipts()}
    faults = {
        "run_id": terms.run_id != entry.run_id,
        "plan_digest": terms.plan_digest != plan.digest,
        "setup": terms.setup != setup,
        "round_number": transcript.round_number != slot_of(plan, kind, number),
        "participants": not there <= heads if entry.failed else there != set(entry.participants),
        "survivors": len(total.survivors) < plan.least_merchants,
        "merchants": len(roster) > plan.merchants,
    }
    for field in (field for field, wrong in faults.items() if wrong):
        marks.wrong(
            field,
            f"{told}: it is of another {field} than the journal has."
            if field not in {"survivors", "merchants"}
            else f"{told}: {len(total.survivors)} of {len(roster)} merchants are in it; the plan's "
            f"noise is for {plan.least_merchants} to {plan.merchants}.",
            file=file,
        )
    return None if any(faults.values()) else Taken(terms.run_id, roster, transcript.asked, total)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} has more than {MOST_BYTES} bytes.", field="size")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.", field="file") from error


def signers_at(journal: Sequence[JournalEntry], entry: JournalEntry) -> dict[str, PublicKey]:
    """Return each node's key as its latest head before, or in, an entry tells it."""
    known: dict[str, PublicKey] = {}
    for one in journal:
        if one.number > entry.number:
            break
        for receipt in one.read_receipts():
            known[receipt.head.merchant] = PublicKey(bytes.fromhex(receipt.head.signer))
    return known
