"""Heads and receipts on the wire: a record of their own beside whatever else a message holds.

A request names the server's journal and carries the merchant's last receipt; a protected reply
carries the node's head after its charge. Neither depends on a shopper.
"""

from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError, LedgerError
from common.privacy.ledger.heads import Head, Receipt
from common.wire.totality import total

RECEIPT = "query.receipt"  # a receipt alone: after the last round, or to a node that rolled back
MOST_HEAD = 65_536  # characters: what some five hundred runs leave on a ledger's head
_JOURNAL = "journal"
_HEAD = "head"


@dataclass(frozen=True, slots=True)
class JournalNote:
    """What a request says of the server's journal.

    Attributes:
        journal: The journal's public key, hex.
        receipt: For the merchant's last head; None where the journal has none.
    """

    journal: str
    receipt: Receipt | None


def with_note(content: RecordDict, note: JournalNote) -> RecordDict:
    """Add the note to a request's records and return them."""
    record = ConfigRecord({"key": note.journal})
    if note.receipt is not None:  # not "": Flower cannot count the bytes of an empty text
        record["receipt"] = note.receipt.to_json()
    content[_JOURNAL] = record
    return content


@total
def read_note(content: RecordDict) -> JournalNote | None:
    """Return a request's note; None where the server keeps no journal.

    Raises:
        FederationError: if there is one and it is not readable.
    """
    if _JOURNAL not in content:
        return None
    record = content[_JOURNAL]
    key, text = (
        (record.get("key"), record.get("receipt", ""))
        if isinstance(record, ConfigRecord)
        else (None, None)
    )
    if not isinstance(key, str) or not isinstance(text, str):
        raise FederationError("The request's journal is not readable.", field=_JOURNAL)
    try:
        return JournalNote(key, Receipt.from_json(text) if text else None)
    except LedgerError as error:
        raise FederationError("The request's receipt is not readable.", field=_JOURNAL) from error


def with_head(content: RecordDict, head: Head) -> RecordDict:
    """Add a head to a reply's records and return them."""
    content[_HEAD] = ConfigRecord({"head": head.to_json()})
    return content


@total
def read_head(content: RecordDict) -> Head:
    """Return a reply's head.

    Raises:
        FederationError: if there is none, or it is not readable.
    """
    record = content.get(_HEAD)
    text = record.get("head") if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str):
        raise FederationError("The reply has no ledger head.", field=_HEAD)
    if len(text) > MOST_HEAD:
        raise FederationError(
            f"The reply's ledger head has more than {MOST_HEAD} characters.", field=_HEAD
        )
    try:
        return Head.from_json(text)
    except LedgerError as error:
        raise FederationError("The reply's ledger head is not readable.", field=_HEAD) from error
