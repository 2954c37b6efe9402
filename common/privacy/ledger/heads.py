"""A ledger's head as a node signs it, and the receipt a server gives for it. No file is touched.

A node tells its head with each protected reply. The server countersigns it in its journal and
sends that receipt with its next request, and the node keeps it beside its ledger. So a ledger that
rolled back is found on both sides: the node lacks an entry for which it holds a receipt, or its
head does not build on the one the journal has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import LedgerError
from common.identity.signing_key import PublicKey, SigningKey
from common.privacy.accounting.accountants import Events, MechanismEvent, merge
from common.privacy.ledger.canonical_json import canonical, fields_of, read_canonical
from common.privacy.ledger.entry import GENESIS, Entry

_HEAD = b"fedtail head\n"  # so that a signature for one purpose is none for another
_RECEIPT = b"fedtail receipt\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What a node tells of its ledger: how long it is, where it ends and what it has spent.

    All of it follows from plans, which are public, and from a keyed fingerprint of the data.

    Attributes:
        merchant: Whose ledger.
        number: How many entries it has.
        hash: Of the last entry; `GENESIS` where there is none.
        signer: The node's public key, hex.
        spent: What the entries have spent, merged.
        covers: Hash of the last head of this journal that the ledger holds or has recovered.
        signature: The node's over the rest, hex.
    """

    merchant: str
    number: int
    hash: str
    signer: str
    spent: Events
    covers: str
    signature: str = ""

    def message(self) -> bytes:
        """Return the bytes that the node signs."""
        fields = {name: value for name, value in fields_of(self).items() if name != "signature"}
        return _HEAD + canonical(fields).encode()

    def signed(self, signature: bytes) -> "Head":
        """Return the head with a signature."""
        return replace(self, signature=signature.hex())

    def check(self, merchant: str) -> None:
        """Refuse a head of another merchant, or one that its signer did not sign.

        Raises:
            LedgerError: naming the field.
        """
        if self.merchant != merchant:
            raise LedgerError("A head belongs to another merchant.", field="merchant")
        if not accepts(self.signer, self.signature, self.message()):
            raise LedgerError("A head is not signed by its node.", field="signature")

    def to_json(self) -> str:
        """Return the head as canonical JSON."""
        return canonical(self)

    @classmethod
    def from_json(cls, text: str) -> "Head":
        """Read `to_json` back.

        Raises:
            LedgerError: unless it is exactly what `to_json` writes.
        """
        try:
            head = read_canonical(cls, text, cls.to_json)
        except ValueError as error:
            raise LedgerError(f"A head is {error}.", field="head") from None
        if head.number < 0 or (head.number == 0) != (head.hash == GENESIS):
            raise LedgerError("A head's number and hash do not fit.", field="number")
        if merge(head.spent) != head.spent:
            raise LedgerError("A head's spent events are not merged.", field="spent")
        return head


@dataclass(frozen=True, slots=True)
class Receipt:
    """A head with both signatures: the node's inside it, and the journal's over it.

    Attributes:
        head: As the node signed it.
        journal: The journal's public key, hex.
        signature: The journal's over the signed head, hex.
    """

    head: Head
    journal: str
    signature: str

    @classmethod
    def give(cls, head: Head, key: SigningKey) -> "Receipt":
        """Countersign a head."""
        signature = key.sign(_RECEIPT + head.to_json().encode())
        return cls(head, key.public.raw.hex(), signature.hex())

    def check(self, merchant: str, journal: str) -> None:
        """Refuse a receipt of another merchant or journal, or with a wrong signature.

        Raises:
            LedgerError: naming the field.
        """
        self.head.check(merchant)
        if self.journal != journal:
            raise LedgerError("A receipt is of another journal.", field="journal")
        message = _RECEIPT + self.head.to_json().encode()
        if not accepts(self.journal, self.signature, message):
            raise LedgerError("A receipt is not signed by its journal.", field="countersignature")

    def to_json(self) -> str:
        """Return the receipt as canonical JSON."""
        return canonical(self)

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        """Read `to_json` back.

        Raises:
            LedgerError: unless it is exactly what `to_json` writes.
        """
        try:
            receipt = read_canonical(cls, text, cls.to_json)
        except ValueError as error:
            raise LedgerError(f"A receipt is {error}.", field="receipt") from None
        Head.from_json(receipt.head.to_json())  # what its type does not say
        return receipt


def holds(entries: Sequence[Entry], head: Head) -> bool:
    """Return whether a ledger has a head among its entries, or has recovered it."""
    return place_of(entries, head) is not None


def place_of(entries: Sequence[Entry], head: Head) -> int | None:
    """Return the number of the entry by which a ledger holds a head; None where it does not."""
    if head.number == 0:
        return 0
    if head.number <= len(entries) and entries[head.number - 1].hash == head.hash:
        return head.number
    return next((entry.number for entry in entries if entry.recovers == head.hash), None)


def missing_events(spent: Events, known: Events) -> Events:
    """Return what is in `spent` and not in `known`, counted by (q, sigma)."""
    held = Counter({(one.sample_rate, one.noise_multiplier): one.count for one in known})
    return merge(
        MechanismEvent(
            one.sample_rate,
            one.noise_multiplier,
            max(one.count - held[one.sample_rate, one.noise_multiplier], 0),
        )
        for one in spent
    )


def accepts(signer: str, signature: str, message: bytes) -> bool:
    """Return whether a hex signature is that of a hex public key; what is no hex is not."""
    try:
        raw, signed = bytes.fromhex(signer), bytes.fromhex(signature)
        canonical_hex = (raw.hex(), signed.hex()) == (signer, signature)
        return canonical_hex and PublicKey(raw).accepts(signed, message)
    except ValueError:
        return False
