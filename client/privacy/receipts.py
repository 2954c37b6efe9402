"""Receipts for ledger heads, kept beside the ledger: a ledger that rolled back lacks one of them.

One receipt for each journal, the latest, in one file that is replaced whole. Restoring an older
copy of the ledger alone is found here; restoring this file too is found by the journal.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from common.errors import LedgerError
from common.files import write_atomic
from common.privacy.ledger.canonical_json import canonical
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.heads import Receipt, holds, place_of
from common.privacy.ledger.ledger import Ledger
from common.wire.heads import JournalNote


def receipts_path(ledger_path: Path) -> Path:
    """Return where a ledger's receipts lie."""
    return ledger_path.with_name(f"{ledger_path.name}.receipts")


def read_receipts(ledger_path: Path) -> dict[str, Receipt]:
    """Return the receipts by journal.

    Raises:
        LedgerError: if the file is altered or cannot be read.
    """
    path = receipts_path(ledger_path)
    if not path.exists():
        return {}
    try:
        held = {
            name: Receipt.from_json(text) for name, text in json.loads(path.read_text()).items()
        }
        for journal, receipt in held.items():
            receipt.check(receipt.head.merchant, journal)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LedgerError(f"The receipts {path} cannot be read.", field="receipts") from error
    return held


def check_receipts(ledger_path: Path, entries: Sequence[Entry]) -> None:
    """Refuse a ledger that lacks an entry for which there is a receipt.

    Raises:
        LedgerError: `rollback`, with what the merchant can do.
    """
    for receipt in read_receipts(ledger_path).values():
        if not holds(entries, receipt.head):
            raise _rollback(receipt)


def accept(ledger: Ledger, note: JournalNote | None) -> None:
    """Take the receipt that a request brings, and keep it.

    A receipt for an earlier head than the one kept is left: a server may send one twice.

    Raises:
        LedgerError: if the receipt is not for this ledger, or the ledger lacks what it names.
    """
    if note is None or note.receipt is None:
        return
    receipt, entries = note.receipt, ledger.entries()
    receipt.check(ledger.merchant, note.journal)
    held = read_receipts(ledger.path)
    # Signed by this node, so the ledger has gone back if it lacks it: kept, to refuse from now on.
    # Signed by another key it may be anybody's invention: refused, not kept.
    if receipt.head.signer == ledger.signer or holds(entries, receipt.head):
        known = held.get(note.journal)
        if known is None or not _is_earlier(receipt, known, entries):
            held[note.journal] = receipt
            _write(ledger.path, held)
    if not holds(entries, receipt.head):
        raise _rollback(receipt)


def covered(ledger: Ledger, journal: str) -> str:
    """Return the hash of the last receipt of a journal; empty where there is none.

    Raises:
        LedgerError: if the ledger lacks what the receipt names.
    """
    receipt = read_receipts(ledger.path).get(journal)
    if receipt is None:
        return ""
    if not holds(ledger.entries(), receipt.head):
        raise _rollback(receipt)
    return receipt.head.hash


def _is_earlier(one: Receipt, other: Receipt, entries: Sequence[Entry]) -> bool:
    """Return whether the ledger held one head before the other; a lost one counts as last."""
    place, known = place_of(entries, one.head), place_of(entries, other.head)
    return place is not None and (known is None or place < known)


def _write(ledger_path: Path, held: dict[str, Receipt]) -> None:
    texts = {name: receipt.to_json() for name, receipt in held.items()}
    try:
        write_atomic(receipts_path(ledger_path), canonical(texts).encode())
    except OSError as error:
        raise LedgerError(
            f"The receipts cannot be written: {error.strerror}.", field="receipts"
        ) from error


def _rollback(receipt: Receipt) -> LedgerError:
    return LedgerError(
        f"The ledger rolled back: entry {receipt.head.number}, which a server has countersigned, "
        "is not in it. Put the newest copy back, or charge what is missing with `fedtail client "
        "recover`; nothing is trained until then.",
        field="rollback",
    )
