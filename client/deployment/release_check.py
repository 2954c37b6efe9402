"""Hold a release to what this node's own folder says: its ledger, its receipts, what it sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.privacy.contributions import kept_contributions
from client.privacy.receipts import read_receipts
from common.errors import LedgerError, ReleaseError
from common.privacy.accounting.claim import epsilon_claimed
from common.privacy.ledger.contributions import Contribution, read_contributions_file
from common.privacy.ledger.entry import Entry, spent_events
from common.privacy.ledger.export import export_ledger, read_ledger
from common.privacy.ledger.heads import Head, holds
from common.release.manifest import CONTRIBUTIONS_FILE
from common.release.statement import LedgerRecord, Statement
from common.release.verify import VerifiedRelease

_TOLERANCE = 1e-3  # of epsilon: one accountant, another version or machine


@dataclass(frozen=True)
class OwnPart:
    """What of a node is in a release.

    Attributes:
        charged: Entries of its ledger that the release's runs charged and a server countersigned.
        listed: Contributions of it that the release lists.
        unused: Contributions that it sent to the release's runs and the release does not list: it
            was too late, or the round was done again.
    """

    charged: int
    listed: int
    unused: int


def check_own_part(release: VerifiedRelease, ledger_path: Path, merchant: str) -> OwnPart:
    """Check that a release tells all that this node was charged, and nothing it did not send.

    Args:
        release: Verified.
        ledger_path: The node's ledger; there need be none.
        merchant: The node's name in the federation.

    Raises:
        ReleaseError: `ledgers` if the statement leaves out this node, or a charge of it that was
            countersigned, or names another ledger; `epsilon` if it claims less of this node than
            the entries it names have cost; `contributions` if the release lists a
            contribution under its name that it did not send, or none at all of a run it was in.
        LedgerError: if the node's own files cannot be read.
    """
    if not ledger_path.is_file():
        return OwnPart(0, 0, 0)
    entries = read_ledger(export_ledger(ledger_path), merchant=merchant)
    listed = _listed(release)
    if not listed and _took_part(release.manifest.privacy, entries):
        raise ReleaseError(
            "The release does not list what its merchants sent, this node among them. Do not use "
            "it; ask the operator.",
            field="contributions",
        )
    charged = _charged(release.manifest.privacy, ledger_path, entries, listed)
    _check_ledger(release.manifest.privacy, merchant, entries, charged)
    _check_epsilon(release.manifest.privacy, merchant, entries)
    own = kept_contributions(ledger_path)
    signer = entries[0].signer if entries else ""
    mine = [one for one in listed if one.merchant == merchant]
    for one in mine:
        # A node that was restored from a copy knows its signature and not what it signed since.
        recorded = any(held.purpose == one.purpose for held in own)
        if one not in own and (recorded or one.signer != signer):
            raise ReleaseError(
                f"The release lists a contribution of {merchant} to round "
                f"{one.purpose.round_number} that this node did not send. Do not use it; ask the "
                "operator.",
                field="contributions",
            )
    runs = {one.purpose.run_id for one in listed}
    sent = [one for one in own if one.purpose.run_id in runs]
    return OwnPart(len(charged), len(mine), sum(one not in mine for one in sent))


def _listed(release: VerifiedRelease) -> tuple[Contribution, ...]:
    try:
        return read_contributions_file(release.files.get(CONTRIBUTIONS_FILE, b""))
    except LedgerError as error:
        raise ReleaseError(
            f"The release's list of contributions is not one: {error}", field="contributions"
        ) from error


def _took_part(statement: Statement, entries: Sequence[Entry]) -> bool:
    digest = statement.privacy_plan.digest
    return statement.dp_model == "local" and any(one.plan_digest == digest for one in entries)


def _charged(
    statement: Statement,
    ledger_path: Path,
    entries: Sequence[Entry],
    listed: Sequence[Contribution],
) -> list[int]:
    """Return the numbers of the entries that the release's runs charged and its journal has.

    What was charged after the last receipt the server may not know of: no answer of it came there.
    """
    named = statement.journal
    receipt = None if named is None else read_receipts(ledger_path).get(named.key)
    last = 0 if receipt is None else receipt.head.number
    runs = {(one.purpose.run_id, one.purpose.plan_digest) for one in listed}
    return [
        one.number
        for one in entries
        if (one.run_id, one.plan_digest) in runs and one.number <= last
    ]


def _check_ledger(
    statement: Statement, merchant: str, entries: Sequence[Entry], charged: Sequence[int]
) -> None:
    records = [one for one in statement.ledgers.values() if one.node == merchant]
    record: LedgerRecord | None = records[0] if records else None
    if record is None:
        if charged:
            raise _wrong(merchant, "does not name it, though its run charged this node's shoppers")
        return
    if charged and record.entries < charged[-1]:
        raise _wrong(
            merchant,
            f"counts {record.entries} entries of its ledger; the run charged entry {charged[-1]}",
        )
    named = Head(merchant, record.entries, record.hash, record.signer, (), "")
    if not holds(entries, named):  # as it is, or charged again after a recovery
        raise _wrong(merchant, "names another ledger than this node's")


def _check_epsilon(statement: Statement, merchant: str, entries: Sequence[Entry]) -> None:
    """Compute what the named entries cost; after a recovery they stand elsewhere and are not."""
    for name, record in statement.ledgers.items():
        told, named = statement.merchants[name], entries[: record.entries]
        if record.node != merchant or told.epsilon is None or told.delta is None:
            continue
        if len(named) == record.entries and named[-1].hash == record.hash:
            plan = statement.privacy_plan.events()
            spent = epsilon_claimed(plan, spent_events(named), told.delta)
            if told.epsilon < spent - _TOLERANCE:
                what = f"claims epsilon {told.epsilon:.4f}; its ledger gives {spent:.4f}"
                raise _wrong(merchant, what, "epsilon")


def _wrong(merchant: str, what: str, field: str = "ledgers") -> ReleaseError:
    return ReleaseError(
        f"The release's statement about {merchant} {what}. Do not use it; ask the operator.",
        field=field,
    )
