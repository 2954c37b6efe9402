"""A party of the secure sum: a state machine that reads and writes messages and does nothing else.

Bonawitz et al. 2017 in its form against a server that lies, with two changes. Each round has mask
keys of its own, all told and dealt before the first, so that what is opened of one round tells
nothing of another. And the views are exchanged only where somebody is missing:

    setup      advertise() -> Advertisement      once a run
               share(roster) -> SealedShares     once a run
               accept(sealed shares) -> Acceptance    once a run
                   |
                   v
      +----->    idle      (rounds below the last one asked for are over for good)
      |            | mask(request, vector) -> MaskedVector
      |            v
      |          masked ----------------------------+
      |            | view(request) -> View          | nobody is missing, and the graph is
      |            v                                | complete
      |          viewed                             |
      |            | a quorum signed the same       |
      +------------+--------------------------------+
               unmask(request) -> UnmaskReply

A violation raises `SecureSumError` and leads back to idle: the round is over for this party, its
secrets are gone, and the next round is another. In setup it ends the run.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.errors import SecureSumError
from common.privacy.secagg.keys import expand, pair_purpose
from common.privacy.secagg.messages import (
    Acceptance,
    Advertisement,
    Binding,
    MaskedVector,
    MaskRequest,
    Phase,
    Roster,
    SealedShares,
    Terms,
    UnmaskReply,
    UnmaskRequest,
    View,
    ViewRequest,
    view_digest,
)
from common.privacy.secagg.setup import Member, Party, RoundSecrets, Setup


@dataclass(slots=True)
class OpenRound:
    """The round that is open."""

    number: int
    phase: Phase
    secrets: RoundSecrets = field(repr=False)
    view: str = ""
    asked: str = ""


class SecureSumClient:
    """See the module.

    Formal guarantee:
        Let c parties be with the server, which may send anything, in any order, and c at most
        `Topology.colluders`. For each round, what server and those c see can be computed from the
        sum over a set S of the honest parties' vectors that holds at least `least_survivors` - c
        of them, or from nothing at all; for the ring but for a chance of 2^-40
        (`common.privacy.secagg.topology` derives the thresholds). It rests on X25519, HKDF-SHA256,
        AES-256 and Ed25519, on identities that are those of merchants, and on the party's random
        source. Times are not hidden: Python's integers take longer for some shares than others.
    """

    def __init__(self, terms: Terms, party: Party, *, fresh: bool = True) -> None:
        """Start a party for one run; one that is taken up is not `fresh`: see `kept`."""
        self.terms, self.party = terms, party
        self.setup = Setup(terms, party, fresh=fresh)
        self.member: Member | None = None
        self.opened: OpenRound | None = None
        self.last = 0

    def advertise(self) -> Advertisement:
        """See `Setup.advertise`."""
        return self.setup.advertise()

    def share(self, roster: Roster) -> SealedShares:
        """See `Setup.share`."""
        return self.setup.share(roster)

    def accept(self, sealed: Mapping[str, bytes]) -> Acceptance:
        """See `Setup.accept`."""
        self.member, told = self.setup.accept(sealed)
        return told

    def check(self, request: MaskRequest, round_number: int, asked: str = "") -> None:
        """Refuse what `mask` would refuse, before anything is paid for; nothing changes.

        Args:
            request: The server's.
            round_number: The round that the rest of its message is for.
            asked: Digest of that rest: see `Binding`.

        Raises:
            SecureSumError: `phase`, `run`, `plan`, `roster`, `asked`, `round` or `length`.
        """
        self._bound(request.binding, "mask")
        number = request.binding.round_number
        if request.binding.asked != asked:
            raise SecureSumError("The masks are for another request.", field="asked")
        if number != round_number or not self.last < number <= self.terms.rounds:
            raise SecureSumError("The round is over, or another than is asked for.", field="round")
        if request.length != self.terms.length_of(number):
            raise SecureSumError("The plan's vectors have another length.", field="length")

    def mask(self, request: MaskRequest, vector: NDArray[np.int64]) -> MaskedVector:
        """Return the vector under this round's masks, and open the round.

        Args:
            request: The server's.
            vector: int64 [length]; sums are modulo 2^64.

        Raises:
            SecureSumError: `phase`, `run`, `plan`, `roster`, `round` (over, repeated or past the
                last), `length`, `vector` or `keys`.
        """
        with self._round(request.binding, "mask") as member:
            number = request.binding.round_number
            self.opened = None  # a round that the server left is over
            if not self.last < number <= self.terms.rounds:
                raise SecureSumError("The round is over, or none of the run's.", field="round")
            for passed in range(self.last + 1, number):
                del member.rounds[passed]
            self.last = number  # also where the rest is refused: a round is asked for once
            secrets = member.rounds.pop(number)
            length = self.terms.length_of(number)
            if request.length != length:
                raise SecureSumError("The plan's vectors have another length.", field="length")
            if vector.dtype != np.int64 or vector.shape != (length,):
                raise SecureSumError("The vector is not what the plan sums.", field="vector")
            masked = MaskedVector(
                self.party.name,
                b"",
                request.binding,
                self._masked(member, request.binding, secrets, vector),
            )
            self.opened = OpenRound(number, "mask", secrets, asked=request.binding.asked)
            return masked.signed(self.party.key)

    def _masked(
        self, member: Member, binding: Binding, secrets: RoundSecrets, vector: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        number, asked = binding.round_number, binding.asked
        total = vector.astype(np.uint64)  # modulo 2^64
        total += expand(secrets.own_self.self_key(member.digest, number), total.size)
        pair, numbers = secrets.own_key.mask_key(), member.numbers
        for name in member.around:
            other = numbers[name]
            public = member.roster.advertisements[other - 1].mask_key(number)
            try:
                purpose = pair_purpose(member.digest, number, asked, member.number, other)
                key = pair.agreed(public, *purpose)
            except ValueError:
                raise SecureSumError("A party's key is no key.", field="keys") from None
            if member.number < other:
                total += expand(key, total.size)
            else:
                total -= expand(key, total.size)
        return total

    def view(self, request: ViewRequest) -> View:
        """Return this party's word for who is there and who is missing: one a round.

        Raises:
            SecureSumError: `phase`, `run`, `plan`, `roster`, `round`, `survivors` (somebody both
                there and missing, or twice), `dropouts` (somebody who is neither, a stranger, or
                this party) or `cohort` (too few).
        """
        with self._round(request.binding, "view") as member:
            current = self._current(request.binding, "mask")
            self._check_lists(member, request.survivors, request.dropouts)
            current.phase, current.view = "view", view_digest(request.survivors, request.dropouts)
            told = View(self.party.name, b"", request.binding, current.view)
            return told.signed(self.party.key)

    def unmask(self, request: UnmaskRequest) -> UnmaskReply:
        """Return shares of the neighbours' secrets, and close the round.

        Raises:
            SecureSumError: as `view`, or `views` where what was signed is another view, or too few
                signed this one; `unmask` where the round's shares were given.
        """
        with self._round(request.binding, "unmask") as member:
            if self.opened is None and request.binding.round_number == self.last:
                raise SecureSumError("Shares are given once a round.", field="unmask")
            current = self._current(request.binding, "mask", "view")
            self._check_lists(member, request.survivors, request.dropouts)
            self._check_views(member, current, request)
            there, missing = set(request.survivors), set(request.dropouts)
            secrets = current.secrets
            self.opened = None
            reply = UnmaskReply(
                self.party.name,
                b"",
                request.binding,
                {name: secrets.self_shares[name] for name in member.around if name in there},
                {name: secrets.key_shares[name] for name in member.around if name in missing},
            )
            return reply.signed(self.party.key)

    @contextmanager
    def _round(self, binding: Binding, phase: Phase) -> Iterator[Member]:
        """Check what a message is for; on any violation, close the round."""
        try:
            yield self._bound(binding, phase)
        except SecureSumError:
            self.opened = None
            raise

    def _bound(self, binding: Binding, phase: Phase) -> Member:
        if self.member is None:
            raise SecureSumError("The setup is not over.", field="phase")
        for name, told, known in (
            ("run", binding.run_id, self.terms.run_id),
            ("plan", binding.plan_digest, self.terms.plan_digest),
            ("roster", binding.roster, self.member.digest),
            ("phase", binding.phase, phase),
        ):
            if told != known:
                raise SecureSumError(f"A message is for another {name}.", field=name)
        return self.member

    def _current(self, binding: Binding, *phases: Phase) -> OpenRound:
        """Return the open round, if the message is for it and it is in one of the phases."""
        if self.opened is None or binding.round_number != self.opened.number:
            raise SecureSumError("A message is for a round that is not open.", field="round")
        if binding.asked != self.opened.asked:
            raise SecureSumError("A message is for another request of the round.", field="asked")
        if self.opened.phase not in phases:
            raise SecureSumError("A view is signed once a round.", field="views")
        return self.opened

    def _check_lists(
        self, member: Member, survivors: tuple[str, ...], dropouts: tuple[str, ...]
    ) -> None:
        there, missing = set(survivors), set(dropouts)
        if there & missing or len(there) < len(survivors) or len(missing) < len(dropouts):
            raise SecureSumError("Somebody is there and missing, or twice.", field="survivors")
        if there | missing != set(member.numbers) or self.party.name in missing:
            raise SecureSumError(
                "Each party is there or missing; this one is there.", field="dropouts"
            )
        if len(there) < max(member.shape.least_survivors, self.party.least_cohort):
            raise SecureSumError("Too few are there to hide a summand.", field="cohort")

    def _check_views(self, member: Member, current: OpenRound, request: UnmaskRequest) -> None:
        """See `common.privacy.secagg.topology` for why nobody missing needs no views."""
        here = view_digest(request.survivors, request.dropouts)
        if not request.views and not request.dropouts and not member.shape.views_always:
            if current.phase != "mask":
                raise SecureSumError("Another view was signed this round.", field="views")
            return
        if current.phase != "view" or current.view != here:
            raise SecureSumError("Another view was signed this round.", field="views")
        same = dataclasses.replace(request.binding, phase="view")  # it was checked
        agreed = set()
        for view in request.views:
            identity = self.party.identities.get(view.name)
            if view.binding != same or view.digest != here or view.name not in request.survivors:
                raise SecureSumError("Parties were told different views.", field="views")
            if identity is None or not view.is_by(identity):
                raise SecureSumError("A view is not signed by its party.", field="views")
            agreed.add(view.name)
        if len(agreed) < member.shape.quorum:
            raise SecureSumError("Too few parties signed this view.", field="views")
