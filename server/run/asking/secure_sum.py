"""The conversation of a secure sum with the nodes: its setup, and one sum after another.

`common.privacy.secagg.server` does the protocol; here its messages travel. A node that answers with
something else, or not at all, is left out of the setup or of the sum, as in any other round. A sum
that too few are left for, or that is beyond what honest parties give, has failed: its charges stay,
the journal says why, and the next one is taken in a new setup, under fresh keys, that leaves out
whoever can be named (`server.run.asking.left_out`). What becomes of a run then:
`common.federation.failed_sums`.

The setup is made anew whenever a run starts or goes on, too: nothing of it lies in a checkpoint.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import RecordDict

from common.errors import FederationError, JournalError, QuorumError
from common.federation.failed_sums import MOST_FAILED, is_beyond
from common.privacy.accounting.plan import EventKind
from common.privacy.secagg.messages import ViewRequest
from common.privacy.secagg.server import SecureSum
from common.privacy.secagg.slots import slot_of
from common.privacy.secagg.transcript import Transcript
from common.wire import secure_sum as wire
from common.wire.messages import Prepared
from server.run.asking.left_out import LeftOut
from server.run.asking.questions import Questions
from server.run.asking.sitting import Sitting, Told
from server.run.contributions import keep_failed
from server.run.exchange import Exchange

MOST_SETUPS = 8  # for one sum: each leaves out who broke the one before
ContentOf = Callable[[int, Prepared], tuple[str, RecordDict]]
Read = TypeVar("Read")

logger = logging.getLogger(__name__)


class FailedSumError(FederationError):
    """A sum has failed, and is on the journal; `cause` says why."""

    def __init__(self, cause: FederationError) -> None:
        super().__init__(str(cause), field=cause.field)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sum is asked for.

    Attributes:
        kind: What is summed.
        number: The training round, or 0.
        asked: Digest of what all compute on: see `Binding`. Of a training round it is the
            adapter's.
    """

    kind: EventKind
    number: int
    asked: str = ""


@dataclass(eq=False)
class SecureSums:
    """All secure sums of a run, as it asks for them.

    Attributes:
        sitting: Who takes part; None before a setup.
        transcript: Of the sum that was taken last, as bytes, for whoever keeps it.
        left_out: Whom the next setup leaves out.
        failed: How many sums have failed in this start.
    """

    sitting: Sitting | None = None
    transcript: bytes = b""
    left_out: LeftOut = field(default_factory=LeftOut)
    failed: int = 0

    @property
    def is_over(self) -> bool:
        """Whether so many sums have failed that no other is asked for in this start."""
        return self.failed >= MOST_FAILED

    # ------------------------------------------------------------------ setup
    def prepare(self, questions: Questions, exchange: Exchange) -> Sitting:
        """Return who takes part in this run's sums; asks for keys and shares where nobody does yet.

        Raises:
            QuorumError: if too few see the setup through.
            JournalError: if the journal cannot be written.
        """
        if self.sitting is not None:
            return self.sitting
        questions.standings.state.enter("preparing", 0)
        self.left_out.absent.clear()
        for _ in range(MOST_SETUPS):
            chosen = self._chosen(questions)
            questions.check_quorum(len(chosen), len(chosen), "setup")
            sitting = Sitting.open(questions, str(exchange.grid.run.run_id))
            if self._set_up(questions, exchange, sitting, chosen):
                self.sitting = sitting
                logger.info("%d merchants take part in the secure sums.", len(sitting.names))
                return sitting
        raise QuorumError("The setup of the secure sum came to no end.", field="setup")

    def _chosen(self, questions: Questions) -> dict[int, Prepared]:
        """Return the nodes that are asked to take part: not more than the plan has merchants."""
        plan = questions.setup.plan
        present = [one.merchant for one in questions.present.values()]
        names = self.left_out.choose(present, plan.least_merchants, plan.merchants)
        return {node: one for node, one in questions.present.items() if one.merchant in names}

    def _set_up(
        self,
        questions: Questions,
        exchange: Exchange,
        sitting: Sitting,
        chosen: Mapping[int, Prepared],
    ) -> bool:
        """Take the nodes through a setup; return whether all came to its end.

        Who did not is left out of the next, for as long as `LeftOut` says.
        """
        told = Told(questions, sitting)
        done = self._through(told, exchange, chosen)
        left_out, lost = self.left_out, {chosen[node].merchant for node in chosen.keys() - done}
        disputes = sitting.server.disputes
        if not lost and not disputes:
            return True
        left_out.named |= told.named
        left_out.disputes |= disputes
        for one, other in sorted(disputes):
            questions.standings.journal(one, "secure_sum:shares")
            logger.warning("%s says that the shares of %s do not open.", one, other)
        left_out.absent |= lost
        return False

    @staticmethod
    def _through(told: Told, exchange: Exchange, chosen: Mapping[int, Prepared]) -> set[int]:
        """Ask for keys, shares and acceptance, as far as all go; return who came to the end."""
        sitting = told.sitting
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
        return told.ask(exchange, wire.ACCEPT, dealt, told.accepted)

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
            FailedSumError: if too few are left at any step, or `read` refuses it. What was charged
                stays charged, and the journal has the heads and the reason. Where no other sum is
                asked for in this start, histogram and season give the cause itself.
            QuorumError: as `prepare`; nobody was charged.
            JournalError: if the journal cannot be written.
        """
        sitting = self.prepare(questions, exchange)
        told, total = Told(questions, sitting), None
        try:
            total = self._take(told, exchange, wanted, content_of)
            return read(total), total.survivors
        except JournalError:
            raise
        except FederationError as error:
            self._note_failure(told, wanted, error.public(), total)
            if self.is_over and wanted.kind != "train":
                raise  # without it there is no round
            raise FailedSumError(error) from error

    def _note_failure(
        self, told: Told, wanted: Wanted, reason: str, total: SecureSum | None
    ) -> None:
        """Put a sum that failed on the journal, with its transcript where there is a sum."""
        questions, left_out = told.questions, self.left_out
        self.sitting, self.failed = None, self.failed + 1
        left_out.named |= told.named
        unopened = told.sitting.server.unopened
        if unopened:
            left_out.unopened.add(unopened)
        questions.standings.journal("", reason)
        questions.standings.log.note(
            "sum failed", "warning", phase=wanted.kind, round=wanted.number, reason=reason
        )
        if total is not None and is_beyond(reason, wanted.kind):
            left_out.beyond(total.survivors)
            entry = questions.countersigner.next_entry
            keep_failed(questions.setup.folder, entry, wanted.number, self.transcript)
        adapter = wanted.asked if wanted.kind == "train" else ""
        questions.countersigner.close(wanted.kind, wanted.number, (), adapter, reason)

    def _take(
        self, told: Told, exchange: Exchange, wanted: Wanted, content_of: ContentOf
    ) -> SecureSum:
        kind, number = wanted.kind, wanted.number
        questions, sitting, server = told.questions, told.sitting, told.sitting.server
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
