"""One setup of the secure sums and what its parties answer: each message to the protocol's server.

A message that is none is a strike, and names its sender: it came from the node that was asked.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError, JournalError, MaskedReplyError
from common.identity.introduction import Introduction
from common.identity.signing_key import PublicKey
from common.privacy.secagg.messages import (
    Acceptance,
    MaskedVector,
    SealedShares,
    Terms,
    UnmaskReply,
    View,
)
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.slots import terms_of
from common.settings.run import run_digest
from common.wire import secure_sum as wire
from common.wire.messages import encode_plan_request
from server.run.asking.questions import Questions
from server.run.exchange import Answers, Exchange
from server.run.intake import Intake

_VIOLATION = "secure_sum:"
S = TypeVar("S", SealedShares, Acceptance, MaskedVector, View, UnmaskReply)


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


@dataclass(frozen=True, eq=False)
class Told:
    """Takes the answers in, one by one, each from the node that was asked.

    Attributes:
        questions: How nodes are asked.
        sitting: Whose sums these are.
        named: Whose message was none.
    """

    questions: Questions
    sitting: Sitting
    named: set[str] = field(default_factory=set)

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
                self.named.add(merchant)
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

    def accepted(self, merchant: str, content: RecordDict) -> None:
        """Take a party's word for the shares that were sealed to it."""
        self.sitting.server.receive_acceptance(self._read(Acceptance, merchant, content))

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
