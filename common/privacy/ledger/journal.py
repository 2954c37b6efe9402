"""The server's journal as anybody can read it: entries, their chain, their signatures.

`server.run.journal` writes it. An entry says which plan a run has; which canaries a node
committed to before it trained; who took part in a round and with which ledger heads, both
signatures kept; who was refused and why.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import JournalError, LedgerError
from common.files import sha256_hex
from common.privacy.ledger.canonical_json import canonical, fields_of, read_canonical, read_lines
from common.privacy.ledger.entry import GENESIS
from common.privacy.ledger.heads import Receipt, accepts

JournalKind = Literal["run", "joined", "canaries", "popularity", "season", "train", "refusal"]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the journal.

    Attributes:
        number: From 1, without a gap.
        kind: `run` opens a run or goes on with it; `joined` is a node's head as it comes in, before
            it is asked for anything; `canaries` is a node's commitment to its canaries;
            `popularity`, `season` and `train` are rounds; `refusal` is a node whose ledger was not
            accepted.
        run_id: Flower's number of the run.
        round_number: Counted from 1; 0 before the first round.
        plan: The plan as JSON, in `run`; empty elsewhere.
        plan_digest: The plan in force.
        participants: Merchants whose reply was used, sorted; in `canaries`, who committed.
        receipts: One receipt for each head that came in, used or not, as JSON.
        adapter: Digest of the adapter after the round; empty where there is none.
        reason: Why a node was refused, or, of a secure sum that failed, why: a round that was given
            up names the adapter that was there before it. Empty elsewhere.
        time: Seconds since 1970 UTC by the server's clock.
        signer: The journal's public key, hex.
        prior: Hash of the entry before, `GENESIS` for the first.
        commitment: In `canaries`, what the revealed canaries must match
            (`CanaryRecord.commitment`); empty elsewhere, and then not in the body, as in entries of
            earlier versions.
        app_digest: In `run`, SHA-256 of the app bundle whose code the server runs
            (`common.release.app_bundle`); empty elsewhere, and then not in the body.
        contributions: In `popularity`, `season` and `train`, what each participant signed of the
            vector it sent (`Contribution`), as JSON, in order of names; empty elsewhere, and then
            not in the body.
    """

    number: int
    kind: JournalKind
    run_id: str
    round_number: int
    plan: str
    plan_digest: str
    participants: tuple[str, ...]
    receipts: tuple[str, ...]
    adapter: str
    reason: str
    time: float
    signer: str
    prior: str
    commitment: str = ""
    app_digest: str = ""
    contributions: tuple[str, ...] = ()

    def body(self) -> str:
        """Return the entry as canonical JSON: what is hashed and signed."""
        fields = fields_of(self)
        for later in ("commitment", "app_digest", "contributions"):  # unknown to earlier versions
            if not fields[later]:
                del fields[later]
        return canonical(fields)

    @property
    def failed(self) -> bool:
        """Whether this is a secure sum that failed."""
        return bool(self.reason) and self.kind in {"popularity", "season", "train"}

    @property
    def given_up(self) -> bool:
        """Whether this is a round without a step, which the run went on from."""
        return self.failed and self.kind == "train" and not self.participants

    @property
    def hash(self) -> str:
        """SHA-256 of `body`."""
        return sha256_hex(self.body().encode())

    def read_receipts(self) -> tuple[Receipt, ...]:
        """Return the receipts, read.

        Raises:
            LedgerError: if one is not readable.
        """
        return tuple(Receipt.from_json(text) for text in self.receipts)

    @classmethod
    def from_body(cls, body: str) -> "JournalEntry":
        """Read `body` back.

        Raises:
            JournalError: unless it is exactly what `body` writes.
        """
        try:
            return read_canonical(cls, body, cls.body)
        except ValueError as error:
            raise JournalError(f"An entry of the journal is {error}.", field="body") from None


def read_journal(content: bytes, signer: str | None = None) -> tuple[JournalEntry, ...]:
    """Return a journal's entries, each checked: numbering, chain, hashes, all signatures.

    Args:
        content: The file.
        signer: The journal's public key, hex, got on another way; the first entry's if None.

    Raises:
        JournalError: naming the first entry that is wrong.
        InputError: if a line is not one.
    """
    entries: list[JournalEntry] = []
    prior = GENESIS
    for number, (body, digest, signature) in enumerate(read_lines(content), 1):
        entry = JournalEntry.from_body(body)
        signer = entry.signer if signer is None else signer
        expected = {
            "number": entry.number == number,
            "prior": entry.prior == prior,
            "hash": entry.hash == digest,
            "signer": entry.signer == signer,
            "signature": accepts(signer, signature, bytes.fromhex(entry.hash)),
        }
        for field, right in expected.items():
            if not right:
                raise JournalError(f"Entry {number} of the journal: wrong {field}.", field=field)
        _check_receipts(entry)
        entries.append(entry)
        prior = entry.hash
    return tuple(entries)


def load_journal(path: Path, signer: str) -> tuple[JournalEntry, ...]:
    """Read a journal's file, as `read_journal` does.

    Raises:
        JournalError: if it cannot be read, or as `read_journal`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(
            f"The journal {path} cannot be read: {error.strerror}.", field="journal"
        ) from error
    return read_journal(content, signer)


def _check_receipts(entry: JournalEntry) -> None:
    try:
        for receipt in entry.read_receipts():
            receipt.check(receipt.head.merchant, entry.signer)
    except LedgerError as error:
        raise JournalError(
            f"Entry {entry.number} of the journal has a wrong receipt: {error}", field=error.field
        ) from error


def last_receipts(entries: tuple[JournalEntry, ...]) -> dict[str, Receipt]:
    """Return each merchant's last receipt."""
    return {
        receipt.head.merchant: receipt for entry in entries for receipt in entry.read_receipts()
    }
