"""A party's part before the first round: keys are told, the others' are checked, shares are dealt.

    Setup --advertise()--> keys told --share(roster)--> shares dealt --accept(sealed)--> Member

A violation raises and ends the setup for good: keys that were told once are never told again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from common.errors import SecureSumError
from common.identity.signing_key import PublicKey, SigningKey
from common.privacy.secagg.keys import KEY_BYTES, KeyPair, RoundSecret, digest, seal, unseal
from common.privacy.secagg.messages import (
    Acceptance,
    Advertisement,
    Roster,
    SealedShares,
    Terms,
)
from common.privacy.secagg.shamir import PRIME, SHARE_BYTES, split
from common.privacy.secagg.topology import Topology, neighbours, topology

ShapeOf = Callable[[int], Topology]


@dataclass(frozen=True, slots=True)
class Party:
    """Who takes part, and what it insists on, whatever the server says.

    Attributes:
        name: As in `identities`.
        key: Signs, under the identity that the node enrolled with.
        identities: The keys of all that may take part, by name; not from the server of the run.
        least_cohort: The smallest roster that the party joins, from its policy: at least 2.
        shape_of: The rule for the graph, the thresholds and the quorum.
    """

    name: str
    key: SigningKey = field(repr=False)
    identities: Mapping[str, PublicKey]
    least_cohort: int = 2
    shape_of: ShapeOf = topology


@dataclass(slots=True)
class RoundSecrets:
    """A party's two secrets of one round, and its neighbours' shares of theirs, by name."""

    own_self: RoundSecret = field(repr=False)
    own_key: RoundSecret = field(repr=False)
    self_shares: dict[str, int] = field(default_factory=dict, repr=False)
    key_shares: dict[str, int] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Member:
    """A party after setup: what it needs in the rounds. `rounds` empties as they go by."""

    roster: Roster
    digest: str
    shape: Topology
    numbers: dict[str, int]
    number: int
    around: tuple[str, ...]
    rounds: dict[int, RoundSecrets] = field(repr=False)


class Setup:
    """See the module. Messages in any other order are refused with `secure_sum:phase`."""

    def __init__(self, terms: Terms, party: Party, *, fresh: bool = True) -> None:
        """Draw all keys and secrets of the run; none if not `fresh`, for who sets the kept ones."""
        self._terms, self._party = terms, party
        self.cipher = KeyPair()
        self.rounds = {
            number: RoundSecrets(RoundSecret(), RoundSecret())
            for number in range(1, terms.rounds * fresh + 1)
        }
        self.member: Member | None = None
        self.told: Advertisement | None = None
        self.over = False

    def advertise(self) -> Advertisement:
        """Return this party's keys for the run: once."""
        if self.told is not None:
            self._refuse("keys", "Keys are told once a run.")
        secrets = self.rounds.values()
        told = Advertisement(
            name=self._party.name,
            signature=b"",
            terms=self._terms.digest,
            cipher_key=self.cipher.public,
            mask_keys=b"".join(one.own_key.mask_key().public for one in secrets),
            commitments=b"".join(one.own_self.commitment() for one in secrets),
        )
        self.told = told.signed(self._party.key)
        return self.told

    def share(self, roster: Roster) -> SealedShares:
        """Check the roster and deal shares of all secrets to the neighbours.

        Raises:
            SecureSumError: naming what is wrong: `phase`, `cohort`, `roster`, `identity`, `plan`,
                `signature`, `keys` or `threshold`.
        """
        if self.over or self.told is None or self.member is not None:
            self._refuse("phase", "A roster comes once, after the keys were told.")
        self._check_roster(roster)
        shape = self._party.shape_of(len(roster.advertisements))
        if not shape.threshold <= roster.threshold <= shape.degree:
            self._refuse("threshold", "The threshold is below what hides a summand.")
        self.member = member = self.member_of(roster)
        around = tuple(member.numbers[name] for name in member.around)
        dealt = self._deal(around, roster.threshold)
        sealed = {
            name: seal(
                self._key_with(name, self._party.name, name),
                dealt[member.numbers[name]],
                self._about(self._party.name, name),
            )
            for name in member.around
        }
        message = SealedShares(self._party.name, b"", member.digest, sealed)
        return message.signed(self._party.key)

    def accept(self, sealed: Mapping[str, bytes]) -> tuple[Member | None, Acceptance]:
        """Open the neighbours' shares, by name, end the setup, and say whose do not open.

        Whose do not is told and not proved: either may lie, the neighbour or this party, and the
        server, which carries the shares, too. It costs nothing but this setup.

        Returns:
            This party in the run, None where the setup is over without it, and its signed word.

        Raises:
            SecureSumError: `phase`, or `shares` if one is missing, not a neighbour's or this
                party's own.
        """
        member = self.member
        if self.over or member is None:
            self._refuse("phase", "Shares come once, after the roster.")
        if set(sealed) != set(member.around):
            self._refuse("shares", "Shares come from each neighbour, and from nobody else.")
        unread = tuple(name for name in sorted(sealed) if not self._opens(member, name, sealed))
        self.over = True
        told = Acceptance(self._party.name, b"", member.digest, unread).signed(self._party.key)
        return (None if unread else member), told

    def _opens(self, member: Member, name: str, sealed: Mapping[str, bytes]) -> bool:
        """Keep a neighbour's shares; return whether they open."""
        key = self._key_with(name, name, self._party.name)
        plain = unseal(key, sealed[name], self._about(name, self._party.name))
        if plain is None or len(plain) != 2 * SHARE_BYTES * self._terms.rounds:
            return False
        self._keep(member, name, plain)
        return True

    def member_of(self, roster: Roster) -> Member:
        """Return this party in a roster that was checked."""
        shape = self._party.shape_of(len(roster.advertisements))
        numbers, fixed = roster.numbers, roster.digest
        names = {number: name for name, number in numbers.items()}
        number = numbers[self._party.name]
        around = neighbours(shape, bytes.fromhex(fixed))[number]
        named = tuple(names[one] for one in around)
        return Member(roster, fixed, shape, numbers, number, named, self.rounds)

    def _check_roster(self, roster: Roster) -> None:
        names = [one.name for one in roster.advertisements]
        if len(names) < max(2, self._party.least_cohort):
            self._refuse("cohort", f"Fewer than {self._party.least_cohort} merchants take part.")
        if names != sorted(set(names)) or self.told not in roster.advertisements:
            self._refuse("roster", "The roster names each party once, in order, and this one.")
        for one in roster.advertisements:
            identity = self._party.identities.get(one.name)
            if identity is None:
                self._refuse("identity", "The roster names a party that is not enrolled.")
            if one.terms != self._terms.digest:
                self._refuse("plan", "A party's keys are for another run or plan.")
            if not one.is_by(identity):
                self._refuse("signature", "A party's keys are not signed by it.")
            length = KEY_BYTES * self._terms.rounds
            if len(one.cipher_key) != KEY_BYTES or not (
                len(one.mask_keys) == len(one.commitments) == length
            ):
                self._refuse("keys", "A party's keys have another size.")
        self._check_once(roster)

    def _check_once(self, roster: Roster) -> None:
        """No key is any other: a key that two parties or rounds share may be known to one more."""
        keys = [one.cipher_key for one in roster.advertisements]
        for one in roster.advertisements:
            keys += [one.mask_key(number) for number in self.rounds]
        if len(set(keys)) != len(keys):
            self._refuse("keys", "A key is used twice.")

    def _deal(self, around: tuple[int, ...], threshold: int) -> dict[int, bytes]:
        """Return each neighbour's shares: two of 32 bytes a round, of self mask and key."""
        dealt: dict[int, list[bytes]] = {one: [] for one in around}
        for secrets in self.rounds.values():
            for secret in (secrets.own_self, secrets.own_key):
                shares = split(secret.number, around, threshold)
                for one, share in zip(around, shares, strict=True):
                    dealt[one].append(share.to_bytes(SHARE_BYTES, "big"))
        return {one: b"".join(parts) for one, parts in dealt.items()}

    def _keep(self, member: Member, name: str, plain: bytes) -> None:
        for number, secrets in member.rounds.items():
            start = 2 * SHARE_BYTES * (number - 1)
            middle, end = start + SHARE_BYTES, start + 2 * SHARE_BYTES
            secrets.self_shares[name] = int.from_bytes(plain[start:middle], "big") % PRIME
            secrets.key_shares[name] = int.from_bytes(plain[middle:end], "big") % PRIME

    def _key_with(self, other: str, sender: str, receiver: str) -> bytes:
        """Return the key under which `sender` seals its one message to `receiver`."""
        member = self.member
        assert member is not None  # noqa: S101 - both callers have it
        public = member.roster.advertisements[member.numbers[other] - 1].cipher_key
        try:
            return self.cipher.agreed(public, "shares", member.digest, sender, receiver)
        except ValueError:
            self._refuse("keys", "A party's key is no key.")

    def _about(self, sender: str, receiver: str) -> bytes:
        member = self.member
        assert member is not None  # noqa: S101 - the roster is there
        return digest(
            self._terms.digest.encode(), member.digest.encode(), sender.encode(), receiver.encode()
        ).encode()

    def _refuse(self, what: str, message: str) -> NoReturn:
        """End the setup: a server that broke the protocol once gets no second try."""
        self.over = True
        raise SecureSumError(message, field=what)
