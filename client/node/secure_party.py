"""This node's party in the secure sum of a run, on disk between two messages.

A deployed node's process ends after each message, and a simulated one is treated alike: a party is
taken up from disk for each request, and kept again before the answer leaves
(`common.privacy.secagg.kept`). Which sums are over is told by the ledger, not by that file: a sum
that was charged after the party was made is never masked again, so a file that was put back from a
copy gives no two vectors under the same masks.

Nor does a copy give shares of a sum twice, or the whole folder put back with its ledger: how often
a party was written is told by Flower's context too (`SecureParty.seen`), which lives in the
SuperNode and in no folder. Two processes that are asked at once wait for each other.

A party is made anew, with fresh keys, whenever the server asks for keys; the one before is gone. So
a run that was stopped can take a sum again, and pays for it again.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from client.node.identities import checked_identities
from client.privacy.introductions import own_introduction
from common.errors import SecureSumError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.signing_key import PublicKey
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.shares import ProtectedShare
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.encoding import encode, read_request
from common.privacy.secagg.kept import keep, take_up
from common.privacy.secagg.messages import (
    Acceptance,
    MaskedVector,
    MaskRequest,
    SealedShares,
    Terms,
    UnmaskReply,
    UnmaskRequest,
    View,
    ViewRequest,
)
from common.privacy.secagg.setup import Party
from common.privacy.secagg.slots import slot_of, terms_of
from common.wire.secure_sum import Company, Dealt, Introduced, most_of

FOLDER: Final = "secure-sum"
_LOCK: Final = "lock"
_MOST: Final = 2**30
_KINDS: Final[tuple[EventKind, ...]] = ("popularity", "season", "train")
Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class Agreed:
    """What all parties' sums are of: public, from the run's settings and basis.

    Attributes:
        train: How many numbers a round's vector has.
        season: How many a season vector has.
        setup: Digest of settings and basis. A server that gives others another basis, on which
            their gradients are nothing, finds that this party takes part with none of them.
    """

    train: int
    season: int
    setup: str


@dataclass(frozen=True, slots=True, repr=False)  # a party's secrets are not shown
class _Sitting:
    """A party as it lies on disk, with what it takes to go on.

    Attributes:
        histogram: How many items the histogram counts.
        entries: How many the ledger had when the party was made: later charges end its sums.
        written: How often it was written in this run.
        identities: The others' keys, raw, by name; none before the roster came.
        party: See `common.privacy.secagg.kept`.
    """

    histogram: int
    entries: int
    written: int
    identities: Mapping[str, bytes]
    party: bytes


class SecureParty:
    """One node's party in one run."""

    def __init__(  # noqa: PLR0917 - each is of another type
        self,
        state: Path,
        ledger: Ledger,
        plan: PrivacyPlan,
        run_id: int,
        agreed: Agreed,
        least_cohort: int,
    ) -> None:
        """Look after the party of `run_id` below `state`.

        Args:
            state: The node's folder.
            ledger: Its key signs, and its entries say which sums are over.
            plan: The run's.
            run_id: Flower's number of the run.
            agreed: What the sums are of.
            least_cohort: The fewest parties that the merchant's policy joins.
        """
        self._state, self._folder = state, state / FOLDER
        self._ledger, self._plan, self._run_id, self._agreed = ledger, plan, run_id, agreed
        self._path = self._folder / f"run-{run_id}.party"
        self._least = max(2, least_cohort, plan.least_merchants)
        self.seen = 0  # how often the party was written, as far as is known outside its folder

    @property
    def most_bytes(self) -> int:
        """How many bytes no request of the run exceeds."""
        return most_of(self._terms(1), self._plan.merchants)

    @property
    def names(self) -> tuple[str, ...]:
        """Who takes part, by name.

        Raises:
            SecureSumError: `phase` if the setup is not over; `state` if there is no party.
        """
        member = self._taken(self._held(), 0).member
        if member is None:
            raise SecureSumError("The setup is not over.", field="phase")
        return tuple(one.name for one in member.roster.advertisements)

    # ------------------------------------------------------------------ setup
    def advertise(self, histogram: int) -> Introduced:
        """Make a party, in the place of any before, and return its keys.

        Raises:
            SettingsError: if `histogram` is no number of items where the plan takes a histogram.
            SecureSumError: as `own_introduction`.
        """
        terms = self._terms(histogram)
        client = SecureSumClient(terms, self._party({}))
        told = client.advertise()
        with self._alone():
            for old in self._folder.glob("run-*.party"):
                if old != self._path:
                    old.unlink()
            made = len(self._ledger.entries())
            self._keep(_Sitting(histogram, made, self.seen, {}, keep(client)))
        key = self._ledger.signing_key.public
        return Introduced(own_introduction(self._state, self._ledger.merchant, key), told)

    def share(self, company: Company) -> SealedShares:
        """Check who takes part, and deal shares to the neighbours.

        Raises:
            SecureSumError: as `checked_identities` and `SecureSumClient.share`; `cohort` if there
                are more than the plan's merchants, whose sum could overflow.
        """
        if len(company.roster.advertisements) > self._plan.merchants:
            raise SecureSumError("More take part than the plan's merchants.", field="cohort")
        with self._alone():
            identities = checked_identities(self._state, self._folder, company.introductions)
            raw = {name: key.raw for name, key in identities.items()}
            held = replace(self._held(), identities=raw)
            return self._within(held, 0, lambda client: client.share(company.roster))

    def accept(self, dealt: Dealt) -> Acceptance:
        """Take the shares that the neighbours sealed to this party; say whose do not open.

        Raises:
            SecureSumError: as `SecureSumClient.accept`.
        """
        with self._alone():
            return self._within(self._held(), 0, lambda client: client.accept(dealt.sealed))

    # ----------------------------------------------------------------- rounds
    def check(self, request: MaskRequest, kind: EventKind, number: int, asked: str = "") -> None:
        """Refuse a request to mask that is none for this sum, before anything is charged.

        Args:
            request: The server's.
            kind: What is summed.
            number: The training round, or 0.
            asked: Digest of what this node was given to compute on. The masks depend on it: where
                others were given something else, none of the sum can be read (against a server
                that tells each another model, Pasquini, Francati, Ateniese 2022, "Eluding Secure
                Aggregation in Federated Learning via Model Inconsistency").

        Raises:
            SecureSumError: as `SecureSumClient.check`, or `state` if there is no party.
        """
        slot, held = slot_of(self._plan, kind, number), self._held()
        self._taken(held, self._over(held)).check(request, slot, asked)

    def mask(self, request: MaskRequest, share: ProtectedShare) -> MaskedVector:
        """Return a share, which was charged for, under the masks of its sum.

        Raises:
            SecureSumError: as `SecureSumClient.mask`, or `round` if the share is of another sum.
        """
        slot = slot_of(self._plan, share.kind, share.round_number)
        if (request.binding.round_number, self._plan.digest) != (slot, share.plan_digest):
            raise SecureSumError("The request is for another sum.", field="round")
        with self._alone():
            held = self._held()
            over, vector = self._over(held, but=slot, once=True), share.integers
            return self._within(held, over, lambda client: client.mask(request, vector))

    def view(self, request: ViewRequest) -> View:
        """Return this party's word for who is there.

        Raises:
            SecureSumError: as `SecureSumClient.view`.
        """
        with self._alone():
            held = self._held()
            over = self._over(held, but=request.binding.round_number)
            return self._within(held, over, lambda client: client.view(request))

    def unmask(self, request: UnmaskRequest) -> UnmaskReply:
        """Return this party's shares of its neighbours' secrets.

        Raises:
            SecureSumError: as `SecureSumClient.unmask`.
        """
        with self._alone():
            held = self._held()
            over = self._over(held, but=request.binding.round_number)
            return self._within(held, over, lambda client: client.unmask(request))

    # ----------------------------------------------------------------- pieces
    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes of this node from the party while it is taken up and kept again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _within(self, held: _Sitting, over: int, act: Callable[[SecureSumClient], Given]) -> Given:
        """Take the party up, let it act, and keep it, also where it refused: a round is then over.

        What it gives is returned once the party is on disk.
        """
        client = self._taken(held, over)
        try:
            return act(client)
        finally:
            self._keep(replace(held, party=keep(client)))

    def _held(self) -> _Sitting:
        try:
            content = self._path.read_bytes()
        except OSError:
            raise SecureSumError("The node has no party in this run.", field="state") from None
        try:
            held = read_request(_Sitting, content, _MOST)
        except SecureSumError:
            raise SecureSumError("The node's party is not readable.", field="state") from None
        if held.written < self.seen:
            raise SecureSumError("The node's party was put back from a copy.", field="state")
        return held

    def _keep(self, sitting: _Sitting) -> None:
        kept = replace(sitting, written=sitting.written + 1)
        write_atomic(self._path, encode(kept), mode=PRIVATE_MODE)
        self.seen = kept.written

    def _taken(self, held: _Sitting, over: int) -> SecureSumClient:
        identities = {name: PublicKey(key) for name, key in held.identities.items()}
        terms = self._terms(held.histogram)
        return take_up(terms, self._party(identities), held.party, over=over)

    def _party(self, identities: Mapping[str, PublicKey]) -> Party:
        key = self._ledger.signing_key
        return Party(self._ledger.merchant, key, identities, self._least)

    def _terms(self, histogram: int) -> Terms:
        return terms_of(
            self._plan,
            str(self._run_id),
            train=self._agreed.train,
            season=self._agreed.season,
            histogram=histogram,
            setup=self._agreed.setup,
        )

    def _over(self, held: _Sitting, but: int = 0, *, once: bool = False) -> int:
        """Return the last sum that was charged since the party was made.

        Args:
            held: The party.
            but: The sum that is asked for now and was charged itself; the one before it is over.
            once: Whether it is over too where it was charged twice: of two processes that were
                asked for it at the same time, neither knows whether the other masked it.

        Raises:
            SecureSumError: `state` if the ledger is shorter than it was then.
        """
        entries = self._ledger.entries()
        if len(entries) < held.entries:
            raise SecureSumError("The ledger is older than the node's party.", field="state")
        about = (str(self._run_id), self._plan.digest)
        charged = [
            slot_of(self._plan, kind, entry.round_number)
            for entry in entries[held.entries :]
            for kind in _KINDS
            if entry.kind == kind and (entry.run_id, entry.plan_digest) == about
        ]
        last = max(charged, default=0)
        if last != but or (once and charged.count(but) > 1):
            return last
        return last - 1
