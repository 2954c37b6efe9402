"""What a secure sum sends. A party signs each message; what the server asks is checked.

A message in a round says which one, by its `Binding`. One for another run, round, phase, plan or
roster is none, and a signature under one purpose is none under another.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from common.errors import SettingsError
from common.identity.signing_key import SIGNATURE_BYTES, PublicKey, SigningKey
from common.privacy.ledger.canonical_json import canonical
from common.privacy.secagg.keys import digest

Phase = Literal["mask", "view", "unmask"]
MOST_ROUNDS: Final = 10_000
MOST_NUMBERS: Final = 2**24  # of one vector: 128 MiB


@dataclass(frozen=True, slots=True)
class Terms:
    """What all parties of a run know before it starts: public, from the plan.

    Attributes:
        run_id: Flower's number of the run.
        plan_digest: The plan in force.
        rounds: How many sums there are at most: 1 to 10,000.
        length: How many numbers a vector has: 1 to 2^24.
        first: How many those of the first rounds have, where they have others.
        setup: Digest of all else that the parties compute on from the first sum to the last.

    Raises:
        SettingsError: if a value is out of bounds.
    """

    run_id: str
    plan_digest: str
    rounds: int
    length: int
    first: tuple[int, ...] = ()
    setup: str = ""

    def __post_init__(self) -> None:
        told = (("rounds", self.rounds, MOST_ROUNDS), ("length", self.length, MOST_NUMBERS))
        for name, value, most in (*told, *(("length", one, MOST_NUMBERS) for one in self.first)):
            if not 1 <= value <= most:
                raise SettingsError(f"{name} of a secure sum must be 1 to {most}.", field=name)
        if len(self.first) > self.rounds:
            raise SettingsError("A secure sum has fewer rounds than lengths.", field="rounds")

    def length_of(self, round_number: int) -> int:
        """Return how many numbers a vector of a round, from 1, has."""
        return self.first[round_number - 1] if round_number <= len(self.first) else self.length

    @property
    def longest(self) -> int:
        """How many numbers the longest vector has."""
        return max(self.length, *self.first, 1)

    @property
    def digest(self) -> str:
        """SHA-256 of all terms."""
        fields = [self.run_id, self.plan_digest, self.rounds, self.length, list(self.first)]
        fields.append(self.setup)
        return digest(b"terms", canonical(fields).encode())


@dataclass(frozen=True, slots=True)
class Binding:
    """Which message this is.

    Attributes:
        run_id: Of the terms.
        round_number: From 1.
        phase: What is asked or answered.
        plan_digest: Of the terms.
        roster: Digest of the parties' keys.
        asked: Digest of what each party is asked to compute on, where that is the same for all;
            empty where there is nothing. Masks of parties that were told different ones do not
            cancel.
    """

    run_id: str
    round_number: int
    phase: Phase
    plan_digest: str
    roster: str
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Signed(ABC):
    """A party's message: its sender and a signature over the rest."""

    name: str
    signature: bytes

    @abstractmethod
    def body(self) -> bytes:
        """Return what is signed."""

    def signed(self, key: SigningKey) -> Self:
        """Return the message with its sender's signature."""
        return replace(self, signature=key.sign(self._bytes()))

    def is_by(self, key: PublicKey) -> bool:
        """Return whether it was signed with the private half of `key`."""
        return len(self.signature) == SIGNATURE_BYTES and key.accepts(self.signature, self._bytes())

    def _bytes(self) -> bytes:
        kind = type(self).__name__
        return b"fedtail secure sum " + canonical([kind, self.name]).encode() + self.body()


@dataclass(frozen=True, slots=True)
class Advertisement(Signed):
    """A party's keys for a run, sent once.

    Attributes:
        terms: Digest of the terms they are for.
        cipher_key: X25519, for what other parties seal to this one.
        mask_keys: X25519, 32 bytes a round: each is used in its own round and never again.
        commitments: 32 bytes a round, to the secret of the self mask.
    """

    terms: str
    cipher_key: bytes
    mask_keys: bytes
    commitments: bytes

    def body(self) -> bytes:
        """Return what is signed."""
        keys = (self.cipher_key, self.mask_keys, self.commitments)
        return digest(self.terms.encode(), *keys).encode()

    def mask_key(self, round_number: int) -> bytes:
        """Return the public mask key of a round."""
        return self.mask_keys[32 * (round_number - 1) : 32 * round_number]

    def commitment(self, round_number: int) -> bytes:
        """Return the commitment of a round."""
        return self.commitments[32 * (round_number - 1) : 32 * round_number]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part, by name. A party's number is its place here, from 1.

    Attributes:
        threshold: How many shares open a secret, as the server has it.
        advertisements: Sorted by name.
    """

    threshold: int
    advertisements: tuple[Advertisement, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of threshold, names and keys; signatures do not count."""
        keys = [one.name.encode() + b"\n" + one.body() for one in self.advertisements]
        return digest(b"roster", str(self.threshold).encode(), *keys)

    @property
    def numbers(self) -> dict[str, int]:
        """Each party's number."""
        return {one.name: number for number, one in enumerate(self.advertisements, 1)}


@dataclass(frozen=True, slots=True)
class SealedShares(Signed):
    """A party's shares for all rounds, each neighbour's sealed to it, by name."""

    roster: str
    sealed: Mapping[str, bytes]

    def body(self) -> bytes:
        """Return what is signed."""
        parts = [
            part for name in sorted(self.sealed) for part in (name.encode(), self.sealed[name])
        ]
        return digest(self.roster.encode(), *parts).encode()


@dataclass(frozen=True, slots=True)
class Acceptance(Signed):
    """A party's word for the shares that were sealed to it.

    Attributes:
        roster: Digest of the parties' keys.
        unread: The neighbours whose shares do not open, by name. Where there are any, the party's
            setup is over.
    """

    roster: str
    unread: tuple[str, ...]

    def body(self) -> bytes:
        """Return what is signed."""
        return digest(self.roster.encode(), canonical(sorted(self.unread)).encode()).encode()


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """The server asks for a masked vector of `length` numbers."""

    binding: Binding
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class MaskedVector(Signed):
    """A party's vector under its masks: uint64 [length]."""

    binding: Binding
    vector: NDArray[np.uint64]

    def body(self) -> bytes:
        """Return what is signed."""
        numbers = np.ascontiguousarray(self.vector, dtype="<u8").tobytes()
        return digest(_told(self.binding), numbers).encode()


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """The server tells whose vectors it has, and whose it has not, and asks to sign that."""

    binding: Binding
    survivors: tuple[str, ...]
    dropouts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View(Signed):
    """A party's word for whom it was told: a digest, see `view_digest`."""

    binding: Binding
    digest: str

    def body(self) -> bytes:
        """Return what is signed."""
        return digest(_told(self.binding), self.digest.encode()).encode()


@dataclass(frozen=True, slots=True)
class UnmaskRequest:
    """The server asks for shares: of survivors' self masks, and of dropouts' keys.

    Attributes:
        binding: Which round.
        survivors: As in the views.
        dropouts: As in the views.
        views: What the others signed; none where nobody is missing and the graph is complete.
    """

    binding: Binding
    survivors: tuple[str, ...]
    dropouts: tuple[str, ...]
    views: tuple[View, ...] = ()


@dataclass(frozen=True, slots=True)
class UnmaskReply(Signed):
    """A party's shares of its neighbours' secrets for one round, by name; none of its own.

    Attributes:
        binding: Which round.
        self_shares: Of survivors' self masks.
        key_shares: Of dropouts' mask keys.
    """

    binding: Binding
    self_shares: Mapping[str, int]
    key_shares: Mapping[str, int]

    def body(self) -> bytes:
        """Return what is signed."""
        shares = [sorted(self.self_shares.items()), sorted(self.key_shares.items())]
        return digest(_told(self.binding), canonical(shares).encode()).encode()


def view_digest(survivors: tuple[str, ...], dropouts: tuple[str, ...]) -> str:
    """Return the digest of who is there and who is missing, in whatever order they are named."""
    return digest(b"view", canonical([sorted(survivors), sorted(dropouts)]).encode())


def _told(binding: Binding) -> bytes:
    fields = [
        binding.run_id,
        binding.round_number,
        binding.phase,
        binding.plan_digest,
        binding.roster,
        binding.asked,
    ]
    return canonical(fields).encode()
