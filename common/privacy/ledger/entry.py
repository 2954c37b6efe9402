"""One entry of a ledger: what it says, how it is hashed and checked. No file is touched here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from common.errors import LedgerError
from common.files import sha256_hex
from common.privacy.accounting.accountants import Events, MechanismEvent, merge
from common.privacy.ledger.canonical_json import canonical, fields_of, read_canonical

EntryKind = Literal["popularity", "season", "train", "data", "recovery", "retired"]

DAY_SECONDS = 86_400.0
GENESIS = "0" * 64  # the hash before the first entry
_LATER = ("recovers", "app_digest", "reason")  # no earlier version had them: left out where empty
_DP_MODEL = "placement"  # its name in what is signed: a ledger lasts longer than our words


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Attributes:
        number: From 1, without a gap.
        merchant: Whose ledger this is.
        dataset: The import in use: a number drawn by chance when the shop was imported, so that
            it tells nothing of what was in it. Empty before the first one; earlier versions wrote
            a keyed fingerprint of the data.
        kind: `train`, `popularity` and `season` cost privacy; `data` says that the shop was
            imported, changed or not, and costs nothing: what was spent stays spent; `recovery`
            charges again what a ledger that rolled back has lost; `retired` is the last one, and
            costs nothing.
        run_id: The run it was for; empty for `data`.
        round_number: Counted from 1; 0 before the first round.
        steps: How many private steps it pays for.
        sample_rate: q of each.
        noise_multiplier: sigma of each; 0 is no noise.
        plan_digest: The plan in force; empty for `data`.
        DP model: The plan's DP model; empty for `data`.
        seeded_noise: Whether noise from a fixed seed was allowed, which protects nobody.
        time: The day, as seconds since 1970 UTC at its start, by the node's clock. Earlier versions
            wrote milliseconds: how long a round takes at a node depends on its shoppers.
        signer: The node's public key, hex.
        prior: Hash of the entry before, `GENESIS` for the first.
        recovers: In the last entry of a recovery, hash of the countersigned head that it makes
            good; empty otherwise, and then not in the body, as in entries of earlier versions.
        app_digest: SHA-256 of the app bundle whose code wrote the entry and trained on it
            (`common.release.app_bundle`); empty where it is not known, and then not in the body.
        reason: In `retired`, why, in the merchant's words; empty elsewhere, and then not in the
            body.
    """

    number: int
    merchant: str
    dataset: str
    kind: EntryKind
    run_id: str
    round_number: int
    steps: int
    sample_rate: float
    noise_multiplier: float
    plan_digest: str
    dp_model: Annotated[str, Field(alias=_DP_MODEL)]
    seeded_noise: bool
    time: float
    signer: str
    prior: str
    recovers: str = ""
    app_digest: str = ""
    reason: str = ""

    def body(self) -> str:
        """Return the entry as canonical JSON: what is hashed and signed."""
        fields = fields_of(self)
        fields[_DP_MODEL] = fields.pop("dp_model")
        for later in _LATER:
            if not fields[later]:
                del fields[later]
        return canonical(fields)

    @property
    def hash(self) -> str:
        """SHA-256 of `body`."""
        return sha256_hex(self.body().encode())

    @property
    def event(self) -> MechanismEvent | None:
        """What the accountants compose for it; None where it cost nothing."""
        if self.kind in {"data", "retired"}:
            return None
        return MechanismEvent(self.sample_rate, self.noise_multiplier, self.steps)

    @classmethod
    def from_body(cls, body: str) -> "Entry":
        """Read `body` back.

        Raises:
            LedgerError: unless it is exactly what `body` writes.
        """
        try:
            return read_canonical(cls, body, cls.body)
        except ValueError as error:
            raise LedgerError(f"An entry is {error}.", field="body") from None


def day_of(seconds: float) -> float:
    """Return the start of the day of a time, both as seconds since 1970 UTC."""
    return float(seconds // DAY_SECONDS * DAY_SECONDS)


def spent_events(entries: Iterable[Entry]) -> Events:
    """Return what the accountants compose for a ledger's entries, merged."""
    return merge(entry.event for entry in entries if entry.event is not None)


def check_entry(row: tuple[Any, ...], number: int, prior: str, merchant: str, signer: str) -> Entry:
    """Return the entry of one row (number, body, hash, signature).

    Args:
        row: As stored.
        number: The number it must have.
        prior: The hash of the entry before.
        merchant: The ledger's merchant.
        signer: The ledger's public key, hex.

    Raises:
        LedgerError: if anything about it is not as it must be.
    """
    stored_number, body, stored_hash, signature = row
    entry = Entry.from_body(body)
    expected = {
        "number": entry.number == stored_number == number,
        "prior": entry.prior == prior,
        "hash": entry.hash == stored_hash,
        "signer": entry.signer == signer,
        "merchant": entry.merchant == merchant,
    }
    for field, holds in expected.items():
        if not holds:
            raise LedgerError(f"Entry {number} of the ledger has a wrong {field}.", field=field)
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer))
        public.verify(signature, bytes.fromhex(stored_hash))
    except (InvalidSignature, ValueError):
        raise LedgerError(
            f"Entry {number} of the ledger has a wrong signature.", field="signature"
        ) from None
    return entry
