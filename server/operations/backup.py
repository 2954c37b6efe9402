"""Copy a server's folder while it runs, and put a copy back only where nothing is forgotten.

A copy holds all but what is made again: caches, logs, the proxy's own files. SQLite's database is
copied by SQLite itself, in one piece. Every file's SHA-256 stands in the copy's list, and how far
the journal was.

What a copy does not know is what came after it. The journal is where that matters: an entry that is
lost is a ledger head that nobody remembers, so a merchant's ledger could roll back unseen. So a
copy is put back only with the journal as it was last, or, where that is lost, with receipts from
the nodes, which hold the last one each: if one is of a later entry than the copy's last, it is
refused.
"""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from common.errors import InputError, JournalError, LedgerError
from common.files import PRIVATE_MODE, sync_folder, write_atomic, write_atomic_by
from common.identity.enrolment import FOLDER_MODE, make_folder
from common.privacy.ledger.heads import Receipt
from common.privacy.ledger.journal import JournalEntry, last_receipts, read_journal
from server.operations.folder import ServerFolder
from server.operations.registry import read_registry

LIST = "backup.json"
VERSION = 1
_MADE_AGAIN = frozenset({"cache", "log", "proxy"})


@dataclass(frozen=True)
class Backup:
    """What a copy says about itself.

    Attributes:
        made: UTC, ISO 8601.
        entries: How many entries the journal had.
        files: SHA-256 of each file, by its path in the folder.
    """

    made: str
    entries: int
    files: dict[str, str]


def back_up(folder: ServerFolder, out: Path, now: datetime) -> Backup:
    """Copy a server's folder to the new folder `out`, whole or not at all.

    Raises:
        EnrolmentError: if `out` holds anything.
        SettingsError: if `folder` is no server's.
        JournalError: if the journal was altered.
    """
    folder.settings()
    make_folder(out, "copy")
    out.rmdir()
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        fresh = Path(temporary) / out.name
        fresh.mkdir(FOLDER_MODE)
        for path in _kept(folder):
            _copy(path, fresh / path.relative_to(folder.root))
        journal = ServerFolder(fresh).journal
        _whole_lines_only(journal)
        made = Backup(
            made=now.isoformat(timespec="seconds"),
            entries=len(_entries(journal)),
            files={name: _digest(fresh / name) for name in _names(fresh)},
        )
        content = {"version": VERSION, **vars(made)}
        write_atomic(
            fresh / LIST, json.dumps(content, indent=2).encode() + b"\n", mode=PRIVATE_MODE
        )
        fresh.rename(out)
        sync_folder(out.parent)
    return made


def read_backup(copy: Path) -> Backup:
    """Read a copy's list and hold every file to it.

    Raises:
        InputError: if it is no copy, or a file is missing, altered or one too many.
    """
    try:
        content = json.loads((copy / LIST).read_bytes())
        known = content.pop("version") == VERSION
        backup = Backup(**content)
        found = {name: _digest(copy / name) for name in _names(copy) if name != LIST}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{copy} is no whole copy of a server's folder ({type(error).__name__}).", field="copy"
        ) from error
    if not known:
        raise InputError(f"{copy} was made by another version of fedtail.", field="copy")
    wrong = sorted(
        name
        for name in found.keys() | backup.files.keys()
        if found.get(name) != backup.files.get(name)
    )
    if wrong:
        raise InputError(
            f"{copy} is not as it was made: {wrong[0]} and {len(wrong) - 1} more differ.",
            field="copy",
        )
    return backup


def restore(
    copy: Path,
    root: Path,
    *,
    journal: Path | None = None,
    receipts: Sequence[Receipt] = (),
) -> int:
    """Put a copy back as the new folder `root`; return how many journal entries came after it.

    Args:
        copy: What `back_up` made.
        root: The server's folder, which must not hold anything.
        journal: The journal as it was last, if the disk still has it. It must go on from the
            copy's, under the same key.
        receipts: Of nodes (`read_receipt`), where the journal is lost.

    Raises:
        InputError: if the copy is not whole.
        JournalError: if `journal` does not go on from the copy's; if a receipt is of a later entry
            than the copy knows; or if nothing was given that says what came after, unless no
            node was enrolled yet.
        EnrolmentError: if `root` holds anything.
    """
    read_backup(copy)
    held = ServerFolder(copy).journal
    entries, later = _entries(held), None
    if journal is not None:
        later = _continued(held, journal, entries)
    elif entries:
        _check_receipts(entries, receipts)
    elif read_registry(ServerFolder(copy).registry).nodes:
        raise JournalError(
            "The copy is older than the first round, and nodes are enrolled: name the journal as "
            "it was last (--journal). Where there never was a round, name an empty file.",
            field="journal",
        )
    make_folder(root, "server")
    root.rmdir()
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        fresh = Path(temporary) / root.name
        shutil.copytree(copy, fresh, ignore=shutil.ignore_patterns(LIST))
        fresh.chmod(FOLDER_MODE)
        if later is not None:
            mode = _mode(held) if held.exists() else PRIVATE_MODE
            write_atomic(ServerFolder(fresh).journal, later, mode=mode)
        fresh.rename(root)
        sync_folder(root.parent)
    return 0 if later is None else later.count(b"\n") - len(entries)


def read_receipt(copy: Path, path: Path) -> Receipt:
    """Read the receipt for the copy's journal in the file that a node keeps beside its ledger.

    Raises:
        InputError: if the file has none for this journal, or it is not signed by it.
    """
    entries = _entries(ServerFolder(copy).journal)
    signer = entries[-1].signer if entries else ""
    try:
        receipt = Receipt.from_json(json.loads(path.read_bytes())[signer])
        receipt.check(receipt.head.merchant, signer)
    except (OSError, ValueError, TypeError, KeyError, LedgerError) as error:
        raise InputError(
            f"{path} holds no receipt of this server's journal ({type(error).__name__}).",
            field="receipt",
        ) from error
    return receipt


def unheard(copy: Path, receipts: Sequence[Receipt]) -> list[str]:
    """Return who is enrolled in the copy, has no entry on its journal, and gave no receipt.

    Whether such a merchant took part in a round after the copy, nothing here says.
    """
    folder = ServerFolder(copy)
    told = last_receipts(_entries(folder.journal)).keys() | {one.head.merchant for one in receipts}
    nodes = read_registry(folder.registry).nodes
    return sorted(name for name, one in nodes.items() if name not in told and not one.revoked)


def _continued(held: Path, journal: Path, entries: tuple[JournalEntry, ...]) -> bytes:
    before, after = held.read_bytes() if held.exists() else b"", journal.read_bytes()
    after = after[: after.rfind(b"\n") + 1]
    if not after.startswith(before):
        raise JournalError(
            f"{journal} does not go on from the journal in the copy: it is an older one, or "
            "another server's.",
            field="journal",
        )
    read_journal(after, entries[-1].signer if entries else None)
    return after


def _check_receipts(entries: tuple[JournalEntry, ...], receipts: Sequence[Receipt]) -> None:
    known = last_receipts(entries)
    told = {one.head.merchant: one for one in receipts}
    for name, receipt in sorted(told.items()):
        last = known.get(name)
        if last is None or receipt.head.number > last.head.number:
            raise JournalError(
                f"The copy is older than a receipt that {name} holds: rounds after it would be "
                "forgotten. Put back the journal as it was last (--journal), or a later copy.",
                field="journal",
            )
    missing = sorted(known.keys() - told.keys())
    if missing:
        raise JournalError(
            f"Nothing says what came after the copy: name the journal as it was last (--journal), "
            f"or the receipt of {missing[0]} and of each other merchant (--receipt).",
            field="journal",
        )


def _kept(folder: ServerFolder) -> Iterator[Path]:
    # The journal last: it may know more than a checkpoint, and never less.
    paths = sorted(folder.root.rglob("*"), key=lambda path: (path == folder.journal, path))
    for path in paths:
        inner = path.relative_to(folder.root)
        database = path.name.startswith(folder.database.name) and path != folder.database
        lock = path.suffix == ".lock" or any(part.startswith(".") for part in inner.parts)
        if path.is_file() and inner.parts[0] not in _MADE_AGAIN and not (database or lock):
            yield path


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.parent.chmod(_mode(path.parent))
    write_atomic_by(to, partial(_fill, path), mode=_mode(path))


def _fill(path: Path, to: Path) -> None:
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)
    else:
        shutil.copy2(path, to)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _whole_lines_only(journal: Path) -> None:
    """Cut a line that was being written while it was copied."""
    if journal.exists():
        content = journal.read_bytes()
        write_atomic(journal, content[: content.rfind(b"\n") + 1], mode=_mode(journal))


def _entries(journal: Path) -> tuple[JournalEntry, ...]:
    return read_journal(journal.read_bytes()) if journal.exists() else ()


def _names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
