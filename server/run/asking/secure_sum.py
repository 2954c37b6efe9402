"""The conversation of a secure sum with the nodes: its setup, and one sum after another.

`common.privacy.secagg.server` does the protocol; here its messages travel. A node that answers with
something else, or not at all, is left out of the setup or of the sum, as in any other round. Where
too few are left a sum fails: its charges stay, and the journal says why.

The setup is made anew whenever a run starts or goes on: nothing of it lies in a checkpoint, and a
sum that was asked for and came to nothing can be asked for again under other keys.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError, FedtailError, JournalError, MaskedReplyError, QuorumError
from common.identity.introduction import Introduction
from common.identity.signing_key import PublicKey
from common.privacy.accounting.plan import EventKind
from common.privacy.secagg.messages import (
    MaskedVector,
    SealedShares,
    Terms,
    UnmaskReply,
    View,
    ViewRequest,
)
from common.privacy.secagg.server import SecureSum, SecureSumServer
from common.privacy.secagg.slots import slot_of, terms_of
from common.privacy.secagg.transcript import Transcript
from common.settings.run import run_digest
from common.wire import secure_sum as wire
from common.wire.messages import Prepared, encode_plan_request
from server.run.asking.questions import Questions
from server.run.exchange import Answers, Exchange
from server.run.intake import Intake

MOST_SETUPS = 3  # each leaves out who did not see the one before through
_VIOLATION = "secure_sum:"
ContentOf = Callable[[int, Prepared], tuple[str, RecordDict]]
Read = TypeVar("Read")
S = TypeVar("S", SealedShares, MaskedVector, View, UnmaskReply)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sum is asked for.

    Attributes:
        kind: What is summed.
        number: The training round, or 0.
        asked: Digest of what all compute on: see `Binding`.
    """

    kind: EventKind
    number: int
    asked: str = ""


@dataclass(eq=False)
class Sitting:
    """The parties of one setup, and the server of their sums.

    Attributes:
        terms: Of the run.
        index: uint64 [items], the text keys that a histogram counts.
        server: The protocol's.
        most: How many bytes none of their messages exceeds.
        introductions: Who each party is, by name.
        identities: Their keys, by name.
    """

    terms: Terms
    index: NDArray[np.uint64]
    server: SecureSumServer
    most: int
    introductions: dict[str, Introduction]
    identities: dict[str, PublicKey]

    @classmethod
    def open(cls, questions: Questions, run_id: str) -> "Sitting":
        """Return one that nobody has joined yet, for the nodes that are present."""
        setup, identities = questions.setup, dict[str, PublicKey]()
        index = np.unique(np.concatenate([one.text_keys for one in questions.present.values()]))
        terms = terms_of(
            setup.plan,
            run_id,
            train=questions.width,
            season=setup.season_size,
            histogram=index.size,
            setup=run_digest(setup.settings, setup.basis),
        )
        most = wire.most_of(terms, setup.plan.merchants)
        return cls(terms, index, SecureSumServer(terms, identities), most, {}, identities)

    @property
    def names(self) -> tuple[str, ...]:
        """Who takes part."""
        return tuple(one.name for one in self.server.roster().advertisements)


@dataclass(eq=False)
class SecureSums:
    """All secure sums of a run, as it asks for them.

    Attributes:
        sitting: Who takes part; None before the setup.
        transcript: Of the sum that was taken last, as bytes, for whoever keeps it.
    """

    sitting: Sitting | None = None
    transcript: bytes = b""
    _left_out: set[str] = field(default_factory=set)

    # ------------------------------------------------------------------ setup
    def prepare(self, questions: Questions, exchange: Exchange) -> Sitting:
        """Return who takes part in this run's sums; asks for keys and shares the first time.

        Raises:
            QuorumError: if too few see the setup through.
            JournalError: if the journal cannot be written.
        """
        if self.sitting is not None:
            return self.sitting
        questions.standings.state.enter("preparing", 0)
        for _ in range(MOST_SETUPS):
            chosen = self._chosen(questions)
            questions.check_quorum(len(chosen), len(chosen), "setup")
            sitting = Sitting.open(questions, str(exchange.grid.run.run_id))
            done = self._set_up(questions, exchange, sitting, chosen)
            lost = {chosen[node].merchant for node in chosen.keys() - done}
            if not lost:
                self.sitting = sitting
                logger.info("%d merchants take part in the secure sums.", len(sitting.names))
                return sitting
            self._left_out |= lost
        raise QuorumError("The setup of the secure sum came to no end.", field="setup")

    def _chosen(self, questions: Questions) -> dict[int, Prepared]:
        """Return the nodes that are asked to take part: not more than the plan has merchants."""
        there = [
            (node, one)
            for node, one in questions.present.items()
            if one.merchant not in self._left_out
        ]
        return dict(there[: questions.setup.plan.merchants])

    def _set_up(
        self,
        questions: Questions,
        exchange: Exchange,
        sitting: Sitting,
        chosen: Mapping[int, Prepared],
    ) -> set[int]:
        """Take the nodes through a setup as far as all go; return who came to the end."""
        told = _Told(questions, sitting)
        opening = wire.Opening(sitting.index.size)
        done = told.ask(exchange, wire.ADVERTISE, dict.fromkeys(chosen, opening), told.introduced)
        if done != chosen.keys():
            return done
        company = wire.Company(
            tuple(sitting.introductions[name] for name in sitting.names), sitting.server.roster()
        )
        done = told.ask(exchange, wire.SHARE, dict.fromkeys(chosen, company), told.dealt)
        if done != chosen.keys():
            return done
        dealt = {
            node: wire.Dealt(sitting.server.sealed_for(one.merchant))
            for node, one in chosen.items()
        }
        return told.ask(exchange, wire.ACCEPT, dealt, lambda _name, _content: None)

    # ------------------------------------------------------------------- sums
    def take(
        self,
        questions: Questions,
        exchange: Exchange,
        wanted: Wanted,
        content_of: ContentOf,
        read: Callable[[SecureSum], Read],
    ) -> tuple[Read, tuple[str, ...]]:
        """Ask for a sum; return what is made of it, and whose vectors are in it.

        The heads that came with it wait at the countersigner.

        Args:
            questions: How nodes are asked.
            exchange: The way to them.
            wanted: Which sum.
            content_of: Gives a node's message type and what it is asked, without the masks.
            read: Makes numbers of the sum, or refuses it.

        Raises:
            QuorumError: if too few are left at any step. What was charged stays charged, the
                journal has the heads and the reason, and the sum can be taken in a new setup.
            FederationError: as `read`; the same holds.
            JournalError: if the journal cannot be written.
        """
        sitting = self.prepare(questions, exchange)
        try:
            total = self._take(questions, exchange, sitting, wanted, content_of)
            return read(total), total.survivors
        except JournalError:
            raise
        except FedtailError as error:
            self.sitting = None
            questions.standings.journal("", error.public())
            questions.countersigner.close(wanted.kind, wanted.number, ())
            raise

    def _take(
        self,
        questions: Questions,
        exchange: Exchange,
        sitting: Sitting,
        wanted: Wanted,
        content_of: ContentOf,
    ) -> SecureSum:
        kind, number = wanted.kind, wanted.number
        server, told = sitting.server, _Told(questions, sitting)
        request = server.start(slot_of(questions.setup.plan, kind, number), wanted.asked)
        there = {
            node: one for node, one in questions.present.items() if one.merchant in sitting.names
        }
        sent = []
        for node, one in there.items():
            message_type, content = content_of(node, one)
            wire.with_secure(content, request)
            sent.append(questions.message(node, message_type, content, number))
        told.send(exchange, sent, told.masked, f"{kind} {number}", charged=True)
        survivors = server.received[0]
        questions.check_quorum(len(survivors), len(sitting.names), kind)
        following = server.close()
        left = {node: one for node, one in there.items() if one.merchant in survivors}
        if isinstance(following, ViewRequest):
            told.ask(exchange, wire.VIEW, dict.fromkeys(left, following), told.viewed)
            following = server.unmask_request()
        told.ask(exchange, wire.UNMASK, dict.fromkeys(left, following), told.unmasked)
        total = server.finish()
        self.transcript = Transcript.of(server).to_bytes()
        return total


@dataclass(frozen=True, eq=False)
class _Told:
    """Takes the answers in, one by one, each from the node that was asked."""

    questions: Questions
    sitting: Sitting

    def ask(
        self,
        exchange: Exchange,
        message_type: str,
        asked: Mapping[int, object],
        take: Callable[[str, RecordDict], None],
    ) -> set[int]:
        """Ask each node what is `asked` of it; return who gave a usable answer."""
        digest = self.questions.setup.plan.digest
        sent = [
            self.questions.message(
                node, message_type, wire.with_secure(encode_plan_request(digest), one), 0
            )
            for node, one in asked.items()
        ]
        return self.send(exchange, sent, take, message_type.rpartition(".")[2])

    def send(
        self,
        exchange: Exchange,
        sent: Iterable[Message],
        take: Callable[[str, RecordDict], None],
        phase: str,
        *,
        charged: bool = False,
    ) -> set[int]:
        """Send messages and take the answers in; return who gave a usable one."""
        questions, intake = self.questions, self.questions.intake()
        done: set[int] = set()

        def taken(node: int, reply: Message) -> bool:
            merchant = questions.present[node].merchant
            try:
                if charged:
                    questions.countersigner.take(merchant, reply.content)
                take(merchant, reply.content)
            except JournalError:
                raise
            except FederationError as error:
                questions.standings.strike(node, merchant, phase, error)
                return False
            done.add(node)
            if charged:
                questions.standings.answered(node, merchant)
            return True

        answers = questions.ask(exchange, sent, taken)
        self._missing(intake, answers, phase)
        return done

    def _missing(self, intake: Intake, answers: Answers, phase: str) -> None:
        """Tell who gave no answer; a party that was asked for what it must not give has said so."""
        for node, reason in sorted(answers.errors.items()):
            if reason.startswith(_VIOLATION):
                merchant = self.questions.present[node].merchant
                self.questions.standings.journal(merchant, reason)
        intake.missing(answers, phase, self.questions.forget)

    # -------------------------------------------------------------- what comes
    def introduced(self, merchant: str, content: RecordDict) -> None:
        """Take a party's keys, and who it is."""
        told = wire.read_answer(wire.Introduced, content, self.sitting.most)
        one = told.introduction
        self.questions.setup.conditions.check_introduction(one)
        known = self.questions.countersigner.signer_of(merchant)
        if known and one.key.hex() != known:
            raise MaskedReplyError("A party's key is not its ledger's.", field="identity")
        if {one.name, told.advertisement.name} != {merchant}:
            raise MaskedReplyError("A party gives another name.", field="identity")
        self.sitting.identities[merchant] = PublicKey(one.key)
        self.sitting.server.receive_advertisement(told.advertisement)
        self.sitting.introductions[merchant] = one

    def dealt(self, merchant: str, content: RecordDict) -> None:
        """Take a party's sealed shares."""
        told = self._read(SealedShares, merchant, content)
        self.sitting.server.receive_shares(told)

    def masked(self, merchant: str, content: RecordDict) -> None:
        """Take a party's masked vector."""
        self.sitting.server.receive_masked(self._read(MaskedVector, merchant, content))

    def viewed(self, merchant: str, content: RecordDict) -> None:
        """Take a party's view."""
        self.sitting.server.receive_view(self._read(View, merchant, content))

    def unmasked(self, merchant: str, content: RecordDict) -> None:
        """Take a party's shares of its neighbours' secrets."""
        self.sitting.server.receive_unmask(self._read(UnmaskReply, merchant, content))

    def _read(self, kind: type[S], merchant: str, content: RecordDict) -> S:
        told = wire.read_answer(kind, content, self.sitting.most)
        if told.name != merchant:
            raise MaskedReplyError("A party gives another name.", field="identity")
        return told
