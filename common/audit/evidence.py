"""Read the exported files of a run, each checked as far as it can be on its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.audit.findings import Checklist, Marks
from common.audit.layout import JOURNAL, LEDGERS, PUBLIC_KEY, RELEASE
from common.errors import InputError, ReleaseError
from common.identity.signing_key import PublicKey
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.export import read_ledger
from common.privacy.ledger.journal import JournalEntry, read_journal
from common.release.manifest import STATEMENT_FILE, Manifest
from common.release.statement import LedgerRecord, Statement
from common.release.statement_page import statement_page
from common.release.verify import VerifiedRelease, verify_release

_RELEASE_FILE = re.compile(r"^Release file '([^']+)'")
MOST_BYTES = 256 << 20  # of a journal or ledger: a file of rubbish must not fill the memory


@dataclass
class Evidence:
    """What could be read; what could not is None, or not there.

    Attributes:
        folder: The run's.
        release: Its signature and every byte checked.
        journal: Its entries.
        ledgers: By node, entries checked for chain and signatures.
    """

    folder: Path
    release: VerifiedRelease | None = None
    journal: tuple[JournalEntry, ...] | None = None
    ledgers: dict[str, tuple[Entry, ...]] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest | None:
        """The release's, where it could be verified."""
        return None if self.release is None else self.release.manifest

    @property
    def statement(self) -> Statement | None:
        """The release's, where it could be verified."""
        return None if self.release is None else self.release.manifest.privacy


def load_public_key(path: Path) -> PublicKey:
    """Read the operator's public key from exactly the file that fedtail writes.

    Raises:
        ReleaseError: if it is not one, or the file holds anything besides.
    """
    key = PublicKey.load(path)
    if key.to_pem() != path.read_bytes():
        raise ReleaseError("The key's file is altered: it is not in its own form.", field="key")
    return key


def read_release(sheet: Checklist, folder: Path, key: PublicKey) -> VerifiedRelease | None:
    """Check a release folder and the page in it; return it if all of it is covered."""
    release: VerifiedRelease | None = None
    with sheet.check("Release: signature, manifest and every file", RELEASE) as marks:
        try:
            release = verify_release(folder, key)
        except ReleaseError as error:
            named = _RELEASE_FILE.search(str(error))
            file = f"{RELEASE}/{named[1]}" if named else RELEASE
            marks.wrong("content", str(error), file=file)
            return None
        manifest = release.manifest
        marks.says(
            f"version {manifest.version}, {len(manifest.files)} files, {manifest.digest[:16]}…"
        )
    with sheet.check("Statement: the page says what the record says", RELEASE) as marks:
        if release.files[STATEMENT_FILE] != statement_page(release.manifest.privacy).encode():
            where = f"{RELEASE}/{STATEMENT_FILE}"
            marks.wrong("text", "The page is not the one that the record makes.", file=where)
    return release


def read_evidence(sheet: Checklist, folder: Path, key_path: Path | None) -> Evidence:
    """Read release, journal and ledgers of a run.

    Args:
        sheet: Takes the findings.
        folder: The run's, laid out as `common.audit.layout` says.
        key_path: The operator's public key, got on another way; else the one in the folder.

    Raises:
        InputError: if the folder is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", field="folder")
    found = Evidence(folder)
    key: PublicKey | None = None
    with sheet.check("Key: the operator's public key", PUBLIC_KEY) as marks:
        key = load_public_key(key_path or folder / PUBLIC_KEY)
        marks.says(f"id {key.key_id[:16]}…")
    if key is None:
        with sheet.check("Release: signature, manifest and every file", RELEASE) as marks:
            marks.skip("there is no key to check it with")
    else:
        found.release = read_release(sheet, folder / RELEASE, key)
    found.journal = _read_journal(sheet, folder, found.statement)
    _read_ledgers(sheet, found)
    return found


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        InputError: if it is too large to be a journal or a ledger.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{path.name} has more than {MOST_BYTES} bytes.", field="size")
    return content


def _read_journal(
    sheet: Checklist, folder: Path, statement: Statement | None
) -> tuple[JournalEntry, ...] | None:
    entries: tuple[JournalEntry, ...] | None = None
    named = None if statement is None else statement.journal
    with sheet.check("Journal: numbering, chain, hashes and signatures", JOURNAL) as marks:
        read = read_journal(read_bytes(folder / JOURNAL), None if named is None else named.key)
        marks.says(f"{len(read)} entries")
        entries = read
    with sheet.check("Journal: the one that the statement names", JOURNAL) as marks:
        if entries is None or statement is None:
            marks.skip("it or the statement could not be read")
        elif named is None:
            marks.wrong("journal", "The statement names no journal.", file=RELEASE)
        elif len(entries) < named.entries:
            marks.wrong(
                "entries", f"It has {len(entries)} entries; the statement names {named.entries}."
            )
        elif entries[named.entries - 1].hash != named.hash:
            marks.wrong("hash", "It is another than the statement names.", entry=named.entries)
    return entries


def _read_ledgers(sheet: Checklist, found: Evidence) -> None:
    """Read every ledger that the statement names, and every other one in the folder."""
    place = found.folder / LEDGERS
    files = {path.stem: path for path in sorted(place.glob("*.jsonl"))}
    statement = found.statement
    named = {} if statement is None else dict(statement.ledgers)
    nodes = {record.node: (name, record) for name, record in named.items()}
    for node in sorted({*files, *nodes}):
        name, record = nodes.get(node, (node, None))
        file = f"{LEDGERS}/{node}.jsonl"
        with sheet.check("Ledger: numbering, chain, hashes and signatures", file, name) as m:
            if node not in files:
                m.wrong("file", "The statement names this ledger, and there is none.")
                continue
            if statement is not None and record is None:
                m.wrong("merchant", "No merchant of the statement has this ledger.")
            signer = None if record is None else record.signer
            entries = read_ledger(read_bytes(files[node]), signer, node)
            m.says(f"{len(entries)} entries")
            if not entries:
                m.wrong("entries", "The ledger has no entry.")
            found.ledgers[node] = entries
        with sheet.check("Ledger: the one that the statement names", file, name) as m:
            if record is None or node not in found.ledgers:
                m.skip("it or the statement could not be read")
            else:
                check_head(m, found.ledgers[node], record)


def check_head(marks: Marks, entries: Sequence[Entry], record: LedgerRecord) -> None:
    """Find fault with a ledger that does not go through the head that the statement names."""
    if len(entries) < record.entries:
        marks.wrong(
            "entries", f"It has {len(entries)} entries; the statement names {record.entries}."
        )
    elif record.entries and entries[record.entries - 1].hash != record.hash:
        marks.wrong("hash", "It is another than the statement names.", entry=record.entries)
