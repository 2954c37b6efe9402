"""A ledger as text, for whoever is to check it: one line an entry, in which every bit counts.

The SQLite file is the node's own working copy. It has bytes that mean nothing, so that a change in
it can go unseen, and beside it lies a secret key. This text holds the same entries with the same
signatures and no secret, and reading it needs neither SQLite nor the node.
"""

from pathlib import Path

from common.errors import InputError, LedgerError
from common.privacy.ledger.canonical_json import read_lines, write_line
from common.privacy.ledger.entry import GENESIS, Entry, check_entry
from common.privacy.ledger.sqlite_file import ledger_file

SQLITE_START = b"SQLite format 3\x00"


def export_ledger(path: Path) -> bytes:
    """Return the ledger in the SQLite file at `path` as text, checked.

    Raises:
        LedgerError: if there is none, or it cannot be read or trusted.
    """
    if not path.is_file():
        raise LedgerError(f"There is no ledger at {path}.", field="ledger")
    with ledger_file(path) as connection:
        rows = connection.execute(
            "SELECT body, hash, signature FROM entries ORDER BY number"
        ).fetchall()
    content = b"".join(
        write_line((body, digest, signature.hex())) for body, digest, signature in rows
    )
    read_ledger(content)
    return content


def read_ledger(
    content: bytes, signer: str | None = None, merchant: str | None = None
) -> tuple[Entry, ...]:
    """Return an exported ledger's entries, each checked: numbering, chain, hashes, signatures.

    Args:
        content: What `export_ledger` returned.
        signer: The node's public key, hex, got on another way; the first entry's if None.
        merchant: Whose it must be; the first entry's if None.

    Raises:
        LedgerError: naming the first entry that is wrong, and its field.
    """
    if content.startswith(SQLITE_START):
        raise LedgerError(
            "This is a node's SQLite file; export it with `fedtail client export-ledger`.",
            field="ledger",
        )
    entries: list[Entry] = []
    prior = GENESIS
    try:
        lines = read_lines(content)
    except InputError as error:
        raise LedgerError(str(error), field=error.field) from None
    for number, (body, digest, signature) in enumerate(lines, 1):
        try:
            first = Entry.from_body(body)
        except LedgerError as error:
            raise LedgerError(f"Entry {number} of the ledger: {error}", field="body") from None
        signer = first.signer if signer is None else signer
        merchant = first.merchant if merchant is None else merchant
        row = (number, body, digest, _signature(number, signature))
        entries.append(check_entry(row, number, prior, merchant, signer))
        prior = entries[-1].hash
    return tuple(entries)


def _signature(number: int, text: str) -> bytes:
    """Return a signature from its one form in hex: capitals would be a second one."""
    try:
        signature = bytes.fromhex(text)
    except ValueError:
        signature = b""
    if signature.hex() != text:
        raise LedgerError(f"Entry {number} of the ledger has a wrong signature.", field="signature")
    return signature
