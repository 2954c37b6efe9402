"""The merchant's ledger: what its shoppers' data has been used for, written before it is used.

A SQLite file on the node's own disk, in WAL mode with every commit forced to disk. Entries are
only ever added (triggers refuse the rest), each holds the hash of the one before it, and each is
signed with the node's key, which lies beside the file. A `Charge`, the key to private training,
exists only once its entry is on disk: a crash may cost budget, never privacy.
"""

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import LedgerError, PrivacyError
from common.files import sync_folder
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import Events, MechanismEvent, merge
from common.privacy.accounting.plan import EVENT_KINDS, EventKind, PrivacyPlan
from common.privacy.ledger.contributions import Contribution, Purpose
from common.privacy.ledger.entry import GENESIS, Entry, check_entry, day_of, spent_events
from common.privacy.ledger.heads import Head
from common.privacy.ledger.signing_key import load_key
from common.privacy.ledger.sqlite_file import ledger_file, migrate

_MADE_HERE = object()


class Charge:
    """Proof that a round is paid for, good for that round's steps. Only `Ledger.append` makes one.

    Attributes:
        entry: The ledger's entry, on disk.
        plan: The plan it pays for.
    """

    def __init__(self, entry: Entry, plan: PrivacyPlan, *, made_by: object = None) -> None:
        if made_by is not _MADE_HERE:
            raise PrivacyError(
                "A Charge comes from Ledger.append only: nothing else puts the cost on disk.",
                field="charge",
            )
        self.entry = entry
        self.plan = plan
        self._left = entry.steps
        self._lock = threading.Lock()

    def use_step(self) -> None:
        """Take one private step off the charge.

        Raises:
            PrivacyError: if all its steps are taken: a charge pays once.
        """
        with self._lock:
            if self._left == 0:
                raise PrivacyError(
                    f"The charge of round {self.entry.round_number} is used up: it paid for "
                    f"{self.entry.steps} step(s).",
                    field="charge",
                )
            self._left -= 1

    def __reduce__(self) -> str:
        raise PrivacyError("A Charge cannot be copied or saved.", field="charge")

    __copy__ = __reduce__

    def __deepcopy__(self, _memo: object) -> "Charge":
        raise PrivacyError("A Charge cannot be copied or saved.", field="charge")


Admission = Callable[[tuple[Entry, ...]], None]


class Ledger:
    """One merchant's ledger, open and checked."""

    def __init__(
        self, path: Path, merchant: str, dataset: str, key: Ed25519PrivateKey, *, made_by: object
    ) -> None:
        if made_by is not _MADE_HERE:
            raise LedgerError("A Ledger comes from Ledger.open only.", field="ledger")
        self.path = path
        self.merchant = merchant
        self.dataset = dataset
        self._key = key
        self.signer = key.public_key().public_bytes_raw().hex()
        self._checked: tuple[Entry, ...] = ()
        # An idle connection: when the last one closes, SQLite empties the WAL and deletes it,
        # which would cost each entry seven disk syncs instead of one or two.
        try:
            idle = sqlite3.connect(path, check_same_thread=False)
            idle.execute("SELECT COUNT(*) FROM entries").fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger {path} failed: {error}.", field="ledger") from error
        weakref.finalize(self, idle.close)

    @classmethod
    def open(cls, path: Path, merchant: str, dataset: str | None = None) -> "Ledger":
        """Open the ledger at `path`, or start one, and check all of it.

        A ledger belongs to the shop for life, whatever was imported since: see `note_import`.

        Args:
            path: The SQLite file; the key lies beside it as `<name>.key`.
            merchant: The merchant's id, in every entry.
            dataset: What new entries name as the import in use; that of the last entry if None.

        Raises:
            LedgerError: if it cannot be read or written, if an entry was altered, is missing or
                is signed by another key, or if it belongs to another merchant.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        with ledger_file(path) as connection:
            migrate(connection)
            connection.execute("BEGIN IMMEDIATE")  # two first openings must not make two keys
            empty = connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0] == 0
            key = load_key(path, create=empty)
            connection.execute("COMMIT")
        if fresh:
            sync_folder(path.parent)
        ledger = cls(path, merchant, dataset or "", key, made_by=_MADE_HERE)
        entries = ledger.verify()
        if entries and dataset is None:
            ledger.dataset = entries[-1].dataset
        return ledger

    def note_import(self, dataset: str) -> None:
        """Note that the shop was imported: once for each import, whether or not anything changed.

        An entry only where data changed would tell that it changed. What was spent stays spent:
        most shoppers are in both.

        Args:
            dataset: The import's own number (`client.shop.dataset.MerchantData.import_id`).

        Raises:
            LedgerError: if the entry cannot be written or the ledger cannot be trusted.
        """
        self.dataset = dataset
        if any(one.kind == "data" and one.dataset == dataset for one in self.entries()):
            return
        self._note("data")

    def append(
        self,
        plan: PrivacyPlan,
        *,
        run_id: str,
        round_number: int,
        kind: EventKind,
        admit: Admission,
        seeded_noise: bool = False,
        app_digest: str = "",
    ) -> Charge:
        """Write what one round costs, and return the charge once it is on disk.

        The same round may be charged more than once, as after a crash: each entry counts.

        Args:
            plan: The plan in force.
            run_id: The run.
            round_number: From 1; 0 for what comes before the first round.
            kind: `train`, `popularity` or `season`.
            admit: Called with all entries so far, while no other process can add one; it raises
                to refuse. `client.privacy.budget.charge_round` passes the merchant's budget.
            seeded_noise: Whether noise from a fixed seed may be drawn under this charge.
            app_digest: SHA-256 of the app bundle that trains on it; empty where it is not known.

        Raises:
            LedgerError: if the entry cannot be written or the ledger cannot be trusted. Nothing
                is charged then, and nothing may be drawn.

        Formal guarantee:
            When this returns, the entry survives a crash of the process and of the machine, as
            far as the disk keeps what it has confirmed.
        """
        if kind not in EVENT_KINDS:
            raise LedgerError(f"kind must be one of {', '.join(EVENT_KINDS)}.", field="kind")
        entry = self._write(
            admit,
            kind=kind,
            run_id=run_id,
            round_number=round_number,
            event=plan.event(kind),
            plan_digest=plan.digest,
            dp_model=plan.dp_model,
            seeded_noise=seeded_noise,
            app_digest=app_digest,
        )
        return Charge(entry, plan, made_by=_MADE_HERE)

    def retire(self, reason: str) -> Entry:
        """Close the ledger: after this entry it takes no other. Closed before, it is left as it is.

        Raises:
            LedgerError: if the entry cannot be written or the ledger cannot be trusted.
        """
        entries = self.entries()
        if entries and entries[-1].kind == "retired":
            return entries[-1]
        return self._note("retired", reason)

    def _note(self, kind: Literal["data", "retired"], reason: str = "") -> Entry:
        """Write an entry that costs nothing and belongs to no run."""
        return self._write(
            lambda _entries: None,
            kind=kind,
            run_id="",
            round_number=0,
            event=MechanismEvent(1.0, 0.0, 0),
            plan_digest="",
            dp_model="",
            seeded_noise=False,
            reason=reason,
        )

    def recover(self, missing: Events, recovered_head: str) -> tuple[Entry, ...]:
        """Charge what this ledger lacks of a head that was countersigned, and name that head.

        The entry that names it comes last, so that a stop half-way charges too much, never less.

        Args:
            missing: What the countersigned head had spent and this ledger has not.
            recovered_head: That head's hash.

        Raises:
            LedgerError: if an entry cannot be written.
        """
        events = merge(missing) or (MechanismEvent(1.0, 0.0, 0),)
        return tuple(
            self._write(
                lambda _entries: None,
                kind="recovery",
                run_id="",
                round_number=0,
                event=event,
                plan_digest="",
                dp_model="",
                seeded_noise=False,
                recovers=recovered_head if place == len(events) else "",
            )
            for place, event in enumerate(events, 1)
        )

    def signed_head(self, covers: str) -> Head:
        """Return the ledger's head with what is spent, signed by the node: what a server is told.

        Args:
            covers: Hash of the last countersigned head that this ledger holds or has recovered;
                empty if there is none.

        Raises:
            LedgerError: if the ledger cannot be read or trusted.
        """
        entries = self.entries()
        head = Head(
            merchant=self.merchant,
            number=len(entries),
            hash=entries[-1].hash if entries else GENESIS,
            signer=self.signer,
            spent=spent_events(entries),
            covers=covers,
        )
        return head.signed(self._key.sign(head.message()))

    def signed_contribution(self, purpose: Purpose, digest: str, seal: str = "") -> Contribution:
        """Return the node's signed word for a vector of that digest and its canaries' seal."""
        one = Contribution(self.merchant, purpose, digest, self.signer, seal)
        return one.signed(self._key.sign(one.message()))

    @property
    def signing_key(self) -> SigningKey:
        """The node's key: it also signs its messages to a secure sum, each for one purpose."""
        return SigningKey(self._key)

    def _write(self, admit: Admission, *, event: MechanismEvent, **fields: Any) -> Entry:
        with ledger_file(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            entries = self._read(connection)
            if entries and entries[-1].kind == "retired":
                raise LedgerError("The ledger was retired; it takes no entry.", field="retired")
            admit(entries)
            entry = Entry(
                number=len(entries) + 1,
                merchant=self.merchant,
                dataset=self.dataset,
                steps=event.count,
                sample_rate=event.sample_rate,
                noise_multiplier=event.noise_multiplier,
                time=day_of(time.time()),
                signer=self.signer,
                prior=entries[-1].hash if entries else GENESIS,
                **fields,
            )
            body = entry.body()
            signature = self._key.sign(bytes.fromhex(entry.hash))
            connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                (entry.number, body, entry.hash, signature),
            )
            connection.execute("COMMIT")
        self._checked = (*entries, entry)
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries in order, each checked.

        Raises:
            LedgerError: if the ledger cannot be read or trusted.
        """
        with ledger_file(self.path) as connection:
            connection.execute("BEGIN")
            return self._read(connection)

    def verify(self) -> tuple[Entry, ...]:
        """Check every entry from the first: numbering, chain, hashes, signatures, owner.

        Raises:
            LedgerError: naming the first entry that is wrong.
        """
        self._checked = ()
        return self.entries()

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry; (0, GENESIS) for an empty ledger."""
        entries = self.entries()
        return (entries[-1].number, entries[-1].hash) if entries else (0, GENESIS)

    def _read(self, connection: sqlite3.Connection) -> tuple[Entry, ...]:
        """Return all entries, checking those this object has not seen yet."""
        known = len(self._checked)
        rows = connection.execute(
            "SELECT number, body, hash, signature FROM entries WHERE number >= ? ORDER BY number",
            (max(known, 1),),  # from the last one seen, which must still be there
        ).fetchall()
        if known and (not rows or rows[0][1] != self._checked[-1].body()):
            raise LedgerError(
                f"Entry {known} is gone or altered since it was last read.", field="entries"
            )
        fresh = rows[1:] if known else rows
        prior = self._checked[-1].hash if known else GENESIS
        checked = list(self._checked)
        for row in fresh:
            entry = check_entry(row, len(checked) + 1, prior, self.merchant, self.signer)
            checked.append(entry)
            prior = entry.hash
        self._checked = tuple(checked)
        return self._checked
