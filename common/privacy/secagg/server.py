"""The server of the secure sum: it collects, forwards and adds up, and does no I/O of its own.

    setup      receive_advertisement(...)  roster()  receive_shares(...)  sealed_for(name)
               receive_acceptance(...)
                   |
                   v
      +----->    idle
      |            | start(round) -> MaskRequest
      |            v
      |          collecting   receive_masked(...): in any order
      |            | close() -> ViewRequest, or UnmaskRequest where nobody is missing
      |            v
      |          viewing      receive_view(...)       unmask_request() -> UnmaskRequest
      |            v
      |          unmasking    receive_unmask(...)
      +------------+
               finish() -> SecureSum

A party's message that is not what it must be raises `MaskedReplyError` and changes nothing: the
caller leaves that party out and goes on. What cannot go on raises `QuorumError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError, MaskedReplyError, QuorumError
from common.identity.signing_key import PublicKey
from common.privacy.secagg.keys import KEY_BYTES, KeyPair
from common.privacy.secagg.messages import (
    Acceptance,
    Advertisement,
    Binding,
    MaskedVector,
    MaskRequest,
    Phase,
    Roster,
    SealedShares,
    Signed,
    Terms,
    UnmaskReply,
    UnmaskRequest,
    View,
    ViewRequest,
    view_digest,
)
from common.privacy.secagg.setup import ShapeOf
from common.privacy.secagg.shamir import PRIME
from common.privacy.secagg.topology import Topology, neighbours, topology
from common.privacy.secagg.unmasking import Opened, without_masks

Stage = Literal["idle", "mask", "view", "unmask"]


@dataclass(frozen=True, slots=True, eq=False)
class SecureSum:
    """What a round gives.

    Attributes:
        vector: uint64 [length], the sum over the survivors modulo 2^64.
        survivors: Whose vectors are in it.
        dropouts: Whose are not.
    """

    vector: NDArray[np.uint64]
    survivors: tuple[str, ...]
    dropouts: tuple[str, ...]


class SecureSumServer:
    """See the module."""

    def __init__(
        self,
        terms: Terms,
        identities: Mapping[str, PublicKey],
        *,
        shape_of: ShapeOf = topology,
    ) -> None:
        """Start a run.

        Args:
            terms: Of the run.
            identities: Who may take part, and their keys.
            shape_of: The rule for graph and thresholds, the same as the parties'.
        """
        self._terms, self._identities, self._shape_of = terms, identities, shape_of
        self._told: dict[str, Advertisement] = {}
        self._keys: set[bytes] = set()
        self._roster: Roster | None = None
        self._sealed: dict[str, SealedShares] = {}
        self._accepted: dict[str, Acceptance] = {}
        self._opening = ""
        self._stage: Stage = "idle"
        self._number, self._asked = 0, ""
        self._masked: dict[str, MaskedVector] = {}
        self._views: dict[str, View] = {}
        self._replies: dict[str, UnmaskReply] = {}

    @property
    def terms(self) -> Terms:
        """Of the run."""
        return self._terms

    @property
    def round_number(self) -> int:
        """The round that was started last; 0 before the first."""
        return self._number

    @property
    def stage(self) -> Stage:
        """What is collected now."""
        return self._stage

    @property
    def unopened(self) -> str:
        """Whose secret did not open though enough gave shares of it; empty where none failed so.

        That party dealt false ones, or more holders gave false ones than there were to spare.
        """
        return self._opening

    @property
    def shape(self) -> Topology:
        """What follows from the number of parties, once the roster is made."""
        return self._shape_of(len(self.roster().advertisements))

    @property
    def received(
        self,
    ) -> tuple[Mapping[str, MaskedVector], Mapping[str, View], Mapping[str, UnmaskReply]]:
        """All that was taken in of the round that was started last, by sender."""
        return self._masked, self._views, self._replies

    # ------------------------------------------------------------------ setup
    def receive_advertisement(self, message: Advertisement) -> None:
        """Take a party's keys, before the roster is made.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `plan` or `keys`.
        """
        if self._roster is not None or message.name in self._told:
            raise MaskedReplyError("A party's keys come once, before the roster.", field="phase")
        self._check_signed(message)
        if message.terms != self._terms.digest:
            raise MaskedReplyError("Keys are for another run or plan.", field="plan")
        keys = _pieces(message.mask_keys) + _pieces(message.cipher_key)
        sizes = {len(message.mask_keys), len(message.commitments)}
        alone = KeyPair()
        try:
            for key in keys:
                alone.agreed(key, "check")
        except ValueError:
            raise MaskedReplyError("A party's key is no key.", field="keys") from None
        if sizes != {KEY_BYTES * self._terms.rounds} or len(message.cipher_key) != KEY_BYTES:
            raise MaskedReplyError("A party's keys have another size.", field="keys")
        if len(set(keys)) < len(keys) or not self._keys.isdisjoint(keys):
            raise MaskedReplyError("A key is used twice.", field="keys")
        self._keys.update(keys)
        self._told[message.name] = message

    def roster(self) -> Roster:
        """Close the list of parties and return it; the same at each call.

        Raises:
            QuorumError: if there are fewer than two.
        """
        if self._roster is None:
            if len(self._told) < 2:
                raise QuorumError("A secure sum has at least two parties.", field="cohort")
            self._shape = self._shape_of(len(self._told))
            told = tuple(self._told[name] for name in sorted(self._told))
            self._roster = Roster(self._shape.threshold, told)
            self._digest, numbers = self._roster.digest, self._roster.numbers
            names = {number: name for name, number in numbers.items()}
            around = neighbours(self._shape, bytes.fromhex(self._digest))
            self._around = {
                names[one]: tuple(names[other] for other in others)
                for one, others in around.items()
            }
        return self._roster

    def receive_shares(self, message: SealedShares) -> None:
        """Take a party's sealed shares.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `roster` or `shares`.
        """
        if self._roster is None or message.name in self._sealed:
            raise MaskedReplyError("Shares come once, after the roster.", field="phase")
        self._check_party(message)
        if message.roster != self._digest:
            raise MaskedReplyError("Shares are for another roster.", field="roster")
        if set(message.sealed) != set(self._around[message.name]):
            raise MaskedReplyError("Shares go to the neighbours, and to each.", field="shares")
        self._sealed[message.name] = message

    def sealed_for(self, name: str) -> dict[str, bytes]:
        """Return what `name`'s neighbours sealed to it, by sender.

        Raises:
            QuorumError: if a party dealt none: the setup is to be made anew without it.
        """
        if len(self._sealed) < len(self.roster().advertisements):
            raise QuorumError("A party dealt no shares.", field="shares")
        return {other: self._sealed[other].sealed[name] for other in self._around[name]}

    def receive_acceptance(self, message: Acceptance) -> None:
        """Take a party's word for the shares that were sealed to it; see `disputes`.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `roster` or `shares`.
        """
        if self._roster is None or message.name in self._accepted:
            raise MaskedReplyError("A party accepts once, after the roster.", field="phase")
        self._check_party(message)
        if message.roster != self._digest:
            raise MaskedReplyError("A party accepts another roster.", field="roster")
        unread = set(message.unread)
        if len(unread) < len(message.unread) or not unread <= set(self._around[message.name]):
            raise MaskedReplyError("Shares are a neighbour's, each once.", field="shares")
        self._accepted[message.name] = message

    @property
    def disputes(self) -> frozenset[tuple[str, str]]:
        """Who says of whom that its shares do not open: one of the two is not honest."""
        return frozenset(
            (one.name, other) for one in self._accepted.values() for other in one.unread
        )

    # ----------------------------------------------------------------- rounds
    def start(self, round_number: int, asked: str = "") -> MaskRequest:
        """Open a round, past all that were open before; see `Binding` for what is `asked`."""
        if not self._number < round_number <= self._terms.rounds:
            raise FederationError("Rounds go up, and are the run's.", field="round")
        self._number, self._asked, self._stage = round_number, asked, "mask"
        self._opening = ""
        self._masked, self._views, self._replies = {}, {}, {}
        return MaskRequest(self._binding("mask"), self._terms.length_of(round_number))

    def receive_masked(self, message: MaskedVector) -> None:
        """Take a party's masked vector: one a round.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `round` or `vector`.
        """
        self._check_round(message, message.binding, "mask")
        vector = message.vector
        if message.name in self._masked or (vector.dtype, vector.shape) != (
            np.dtype(np.uint64),
            (self._terms.length_of(self._number),),
        ):
            raise MaskedReplyError("A vector comes once, of the plan's length.", field="vector")
        self._masked[message.name] = message

    def close(self) -> ViewRequest | UnmaskRequest:
        """Take no more vectors, and return what the survivors are asked next.

        Raises:
            QuorumError: if too few are there.
        """
        self._expect("mask")
        if len(self._masked) < self._shape.least_survivors:
            self._stage = "idle"
            raise QuorumError(
                f"{len(self._masked)} masked vectors; {self._shape.least_survivors} are needed.",
                field="cohort",
            )
        if self._dropouts or self._shape.views_always:
            self._stage = "view"
            return ViewRequest(self._binding("view"), self._survivors, self._dropouts)
        self._stage = "unmask"
        return UnmaskRequest(self._binding("unmask"), self._survivors, ())

    def receive_view(self, message: View) -> None:
        """Take a party's signed view.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `round` or `views`.
        """
        self._check_round(message, message.binding, "view")
        same = view_digest(self._survivors, self._dropouts)
        if message.digest != same or message.name not in self._masked:
            raise MaskedReplyError("A party signed another view.", field="views")
        self._views[message.name] = message

    def unmask_request(self) -> UnmaskRequest:
        """Return what the survivors are asked once a quorum has signed.

        Raises:
            QuorumError: if too few have.
        """
        self._expect("view")
        if len(self._views) < self._shape.quorum:
            self._stage = "idle"
            raise QuorumError("Too few parties signed the view.", field="views")
        self._stage = "unmask"
        views = tuple(self._views[name] for name in sorted(self._views))[: self._shape.quorum]
        return UnmaskRequest(self._binding("unmask"), self._survivors, self._dropouts, views)

    def receive_unmask(self, message: UnmaskReply) -> None:
        """Take a survivor's shares: one reply a round.

        Raises:
            MaskedReplyError: `phase`, `identity`, `signature`, `round` or `shares`.
        """
        self._check_round(message, message.binding, "unmask")
        if message.name not in self._masked or message.name in self._replies:
            raise MaskedReplyError("Shares come once, from who is there.", field="shares")
        around = set(self._around[message.name])
        expected = (around & set(self._survivors), around & set(self._dropouts))
        told = (message.self_shares, message.key_shares)
        alike = all(set(one) == wanted for one, wanted in zip(told, expected, strict=True))
        numbers = [*message.self_shares.values(), *message.key_shares.values()]
        if not alike or not all(0 <= number < PRIME for number in numbers):
            raise MaskedReplyError("Shares are of all neighbours, one each.", field="shares")
        self._replies[message.name] = message

    def finish(self) -> SecureSum:
        """Take the masks off, close the round and return the sum.

        Raises:
            QuorumError: if a secret cannot be opened: too few shares, or too many false ones.
        """
        self._expect("unmask")
        self._stage = "idle"
        roster = self.roster()
        opened = Opened(roster, roster.threshold, self._around, self._number, self._asked)
        for name in self._survivors:
            self._note_opening(name)
            opened.open_self(name, self._replies)
        for name in self._dropouts:
            self._note_opening(name)
            opened.open_key(name, self._replies)
        self._opening = ""
        vector = without_masks({name: one.vector for name, one in self._masked.items()}, opened)
        return SecureSum(vector, self._survivors, self._dropouts)

    def _note_opening(self, name: str) -> None:
        """Note whose secret is opened next, if enough gave shares of it."""
        given = sum(other in self._replies for other in self._around[name])
        self._opening = name if given >= self.roster().threshold else ""

    @property
    def _survivors(self) -> tuple[str, ...]:
        return tuple(sorted(self._masked))

    @property
    def _dropouts(self) -> tuple[str, ...]:
        return tuple(sorted(set(self._told) - set(self._masked)))

    def _binding(self, phase: Phase) -> Binding:
        terms = self._terms
        return Binding(
            terms.run_id, self._number, phase, terms.plan_digest, self._digest, self._asked
        )

    def _expect(self, stage: Stage) -> None:
        if self._stage != stage:
            raise FederationError("The round is in another phase.", field="phase")

    def _check_round(self, message: Signed, binding: Binding, phase: Phase) -> None:
        if self._stage != phase:
            raise MaskedReplyError("The round is in another phase.", field="phase")
        self._check_party(message)
        if binding != self._binding(phase):
            raise MaskedReplyError("A message is for another round.", field="round")

    def _check_party(self, message: Signed) -> None:
        if message.name not in self._told:
            raise MaskedReplyError("The sender is not in the roster.", field="identity")
        self._check_signed(message)

    def _check_signed(self, message: Signed) -> None:
        identity = self._identities.get(message.name)
        if identity is None:
            raise MaskedReplyError("The sender is not enrolled.", field="identity")
        if not message.is_by(identity):
            raise MaskedReplyError("A message is not signed by its sender.", field="signature")


def _pieces(keys: bytes) -> list[bytes]:
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
