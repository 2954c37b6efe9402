"""Put a ledger away for good: a named act, signed and on record, and the only way to a new budget.

The ledger's last entry says that it was retired and why. A copy of that line stays beside the place
in a file that only grows, and the ledger itself goes to a folder of its own: nothing is deleted.

A server's journal knows nothing of it. To a federation that has countersigned the old ledger, the
new one is a ledger that rolled back: it must charge what the old one had spent (`client recover`).
"""

from pathlib import Path

from common.errors import LedgerError
from common.files import PRIVATE_MODE, sync_folder, write_atomic
from common.privacy.ledger.canonical_json import read_lines
from common.privacy.ledger.export import export_ledger
from common.privacy.ledger.ledger import Ledger

RETIRED_FOLDER = "retired"


def retired_path(ledger_path: Path) -> Path:
    """Return the file that has one signed line for each ledger that was retired here."""
    return ledger_path.with_name(f"{ledger_path.name}.retired.jsonl")


def retire(path: Path, merchant: str, reason: str) -> Path:
    """Close a ledger with a signed entry, keep that entry beside, and move the ledger away.

    Stopped half-way, the same call goes on: the closed ledger pays for nothing meanwhile.

    Args:
        path: The ledger's file.
        merchant: Whose it must be.
        reason: Why, in the merchant's words; not empty.

    Returns:
        The folder that the ledger was moved to, with its key and receipts.

    Raises:
        LedgerError: if there is no such ledger, it is another merchant's or cannot be trusted, or
            no reason is given. Nothing is moved then.
    """
    if not path.is_file():
        raise LedgerError(f"There is no ledger at {path}.", field="ledger")
    if not reason.strip():
        raise LedgerError("Say why the ledger is retired.", field="reason")
    last = Ledger.open(path, merchant).retire(reason)
    line = export_ledger(path).splitlines(keepends=True)[-1]
    kept = retired_path(path)
    before = kept.read_bytes() if kept.exists() else b""
    read_lines(before)
    if line not in before:
        write_atomic(kept, before + line, mode=PRIVATE_MODE)
    folder = path.parent / RETIRED_FOLDER / last.hash[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".receipts", "-wal", "-shm", "", ".key"):  # the key last: without it none opens
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            part.replace(folder / part.name)
    sync_folder(folder)
    sync_folder(path.parent)
    return folder
