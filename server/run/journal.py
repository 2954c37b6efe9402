"""The server's journal on disk: appended to, forced to disk, never changed.

JSON lines beside the checkpoints, under a key of its own. One process writes it at a time. It
countersigns the head of each node's ledger, and refuses a head that does not build on the one it
countersigned last: a ledger that was put back, cut or exchanged.
"""

import fcntl
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from common.errors import FederationError, JournalError, LedgerError
from common.files import sync_folder
from common.identity.signing_key import SigningKey
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.canonical_json import write_line
from common.privacy.ledger.entry import GENESIS
from common.privacy.ledger.heads import Head, Receipt, missing_events
from common.privacy.ledger.journal import JournalEntry, JournalKind, last_receipts, read_journal
from common.release.app_bundle import app_digest

logger = logging.getLogger(__name__)


class Journal:
    """One server's journal, open for writing and checked."""

    def __init__(self, path: Path, plan: PrivacyPlan, run_id: str) -> None:
        """Open the journal at `path`, or start one, and note the run.

        Raises:
            JournalError: if it was altered, its key is missing, or another process writes it.
        """
        self.path, self.plan, self.run_id = path, plan, run_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise JournalError("Another process writes the journal.", field="journal") from None
        try:
            content = _whole_lines(path)
            self._key = journal_key(path, create=not content)
            self.signer = self._key.public.raw.hex()
            entries = read_journal(content, self.signer)
            self._number = len(entries)
            self._prior = entries[-1].hash if entries else GENESIS
            self.last = last_receipts(entries)
            self._committed = {
                (one.participants, one.commitment) for one in entries if one.run_id == run_id
            }
            self.append("run", plan=plan.to_json(), app_digest=app_digest())
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def next_number(self) -> int:
        """The number of the entry that is written next."""
        return self._number + 1

    def check(self, merchant: str, head: Head, *, charged: bool, may_renew: bool = False) -> None:
        """Refuse a head that does not build on the last one countersigned.

        Args:
            merchant: Who sends it.
            head: What it says.
            charged: Whether the node has just charged a round, so that the head must be new; else
                it may be the last one itself, or any later one.
            may_renew: Whether it is known by other means that this is the merchant, so that its
                ledger may be signed by another key than before. Otherwise a name belongs to the
                key that used it first.

        Raises:
            FederationError: `rollback`, `merchant`, `signer` or `signature`.
        """
        try:
            head.check(merchant)
        except LedgerError as error:
            raise FederationError(f"A ledger head is refused: {error}", field=error.field) from None
        held = self.last.get(merchant)
        if held is None:
            return
        last = held.head
        if head.signer != last.signer and not may_renew:
            raise FederationError(
                f"The ledger that is shown for {merchant} is signed by another key than the one "
                "this journal knows it by. If the merchant lost its key, the operator has to say "
                "so: see docs/how-to-recover-a-ledger.md.",
                field="signer",
            )
        builds = head.covers == last.hash and head.hash != last.hash
        if not charged:
            same = head.hash == last.hash
            later = head.number > last.number and head.signer == last.signer
            builds = builds or same or later
        if not builds or missing_events(last.spent, head.spent):
            raise FederationError(
                f"The ledger of {merchant} is older than, or another than, the one this journal "
                f"countersigned at entry {last.number}. The merchant must recover it: see "
                "`fedtail client recover`.",
                field="rollback",
            )
        if head.number <= last.number and head.hash != last.hash:
            logger.warning("%s is back with a ledger that was recovered.", merchant)

    def join(self, merchant: str, head: Head) -> None:
        """Countersign the head of a node that comes in, unless it is the last one countersigned.

        So a merchant's ledger is known before it is charged: a second one under the same name is
        found also where no reply of the first ever came in time.

        Raises:
            JournalError: if it cannot be written.
        """
        held = self.last.get(merchant)
        last = "" if held is None else held.head.hash
        if head.covers == last and head.hash != last:  # else it has yet to be told of the last one
            self.append("joined", heads={merchant: head}, participants=(merchant,))

    def commit(self, merchant: str, commitment: str) -> None:
        """Note which canaries a merchant has committed to in this run, once for each.

        Canaries that are opened later count only if this was written before the rounds they
        watched.

        Raises:
            JournalError: if it cannot be written.
        """
        told = ((merchant,), commitment)
        if commitment and told not in self._committed:
            self.append("canaries", participants=(merchant,), commitment=commitment)
            self._committed.add(told)

    def append(
        self,
        kind: JournalKind,
        *,
        round_number: int = 0,
        plan: str = "",
        heads: Mapping[str, Head] | None = None,
        participants: Sequence[str] = (),
        adapter: str = "",
        reason: str = "",
        commitment: str = "",
        app_digest: str = "",
        contributions: Sequence[str] = (),
    ) -> None:
        """Write an entry, `next_number`, and countersign its heads; on return it is on disk.

        Raises:
            JournalError: if it cannot be written.
        """
        given = {
            name: Receipt.give(head, self._key) for name, head in sorted((heads or {}).items())
        }
        entry = JournalEntry(
            number=self.next_number,
            kind=kind,
            run_id=self.run_id,
            round_number=round_number,
            plan=plan,
            plan_digest=self.plan.digest,
            participants=tuple(sorted(participants)),
            receipts=tuple(receipt.to_json() for receipt in given.values()),
            adapter=adapter,
            reason=reason,
            time=round(time.time(), 3),
            signer=self.signer,
            prior=self._prior,
            commitment=commitment,
            app_digest=app_digest,
            contributions=tuple(contributions),
        )
        signature = self._key.sign(bytes.fromhex(entry.hash)).hex()
        try:
            _append(self._file, write_line((entry.body(), entry.hash, signature)))
        except OSError as error:
            raise JournalError(f"The journal failed: {error.strerror}.", field="journal") from error
        self._number, self._prior = entry.number, entry.hash
        self.last.update(given)


def journal_key(path: Path, *, create: bool) -> SigningKey:
    """Return a journal's key, which lies beside it, mode 600.

    Raises:
        JournalError: if there is none and the journal has entries.
        ReleaseError: if others can read it, or it is no key.
    """
    key = path.with_name(f"{path.stem}.key")
    if key.exists():
        return SigningKey.load(key)
    if not create:
        raise JournalError("The journal has entries, but its key is missing.", field="key")
    return SigningKey.create(key)


def _append(file: int, line: bytes) -> None:
    """Write a whole line to disk, or leave the file as it was."""
    end = os.lseek(file, 0, os.SEEK_END)
    try:
        written = os.write(file, line)
        while written < len(line):  # the next write of a full disk says that it is full
            written += os.write(file, line[written:])
        os.fsync(file)
    except OSError:
        os.ftruncate(file, end)
        raise


def _whole_lines(path: Path) -> bytes:
    """Return the file's content without a last line that a crash cut short, and cut it off.

    Such a line was never confirmed to anybody. A whole entry that only lost its newline was
    damaged afterwards, and is kept for the check to find.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if content != whole and not content.endswith(b'"}'):
        logger.warning("The journal's last line was cut short by a crash; it is dropped.")
        with path.open("r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
        return whole
    if not content:
        sync_folder(path.parent)
    return content
