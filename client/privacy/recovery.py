"""Bring a node back whose ledger rolled back: charge what is missing, from the server's journal.

A backup put back, a lost disk, a copied machine: the ledger then says less than was spent. The
journal has the heads that were countersigned, and each says all that was spent until then.
"""

import logging

from client.privacy.receipts import accept, read_receipts
from common.errors import LedgerError
from common.privacy.accounting.accountants import Events
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.heads import Receipt, holds, missing_events
from common.privacy.ledger.journal import JournalEntry
from common.privacy.ledger.ledger import Ledger
from common.wire.heads import JournalNote

logger = logging.getLogger(__name__)


def recover(ledger: Ledger, journal: tuple[JournalEntry, ...]) -> tuple[Entry, ...]:
    """Charge what a ledger lacks of the last head that a journal countersigned for it.

    What is charged is the difference between that head and the last one that the ledger still
    holds. What the ledger was charged for since then stays charged: at worst a round counts twice.

    Args:
        ledger: The merchant's, open; it may be a new one where the old one is lost.
        journal: Entries that `read_journal` has checked.

    Returns:
        The entries written; none if the ledger lacks nothing.

    Raises:
        LedgerError: if the journal knows nothing of this merchant, or is itself older than a
            receipt that the node holds from it; or as `Ledger.recover`.

    Formal guarantee:
        Afterwards the ledger's events include all that the countersigned head had spent, so the
        budget counts them again.
    """
    receipts = [one for one in _receipts(journal) if one.head.merchant == ledger.merchant]
    if not receipts:
        raise LedgerError("The journal has no head of this merchant.", field="merchant")
    last = receipts[-1].head
    kept = read_receipts(ledger.path).get(receipts[-1].journal)
    if kept is not None and missing_events(kept.head.spent, last.spent):
        raise LedgerError(
            "The journal is older than a receipt that this node holds from it; ask the operator "
            "for the whole journal.",
            field="journal",
        )
    entries = ledger.entries()
    if holds(entries, last):
        accept(ledger, JournalNote(receipts[-1].journal, receipts[-1]))
        return ()
    known: Events = ()
    for receipt in receipts:
        if holds(entries, receipt.head):
            known = receipt.head.spent
    written = ledger.recover(missing_events(last.spent, known), last.hash)
    accept(ledger, JournalNote(receipts[-1].journal, receipts[-1]))
    steps = sum(entry.steps for entry in written)
    logger.warning("The ledger was recovered: %d step(s) charged again.", steps)
    return written


def _receipts(journal: tuple[JournalEntry, ...]) -> list[Receipt]:
    return [receipt for entry in journal for receipt in entry.read_receipts()]
