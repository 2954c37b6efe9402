"""How the nodes that are present are asked: addressed, waited for, and enough of them or none."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from common.errors import QuorumError
from common.wire.messages import Prepared
from server.run.countersigning import Countersigning
from server.run.exchange import Answers, Exchange, Take
from server.run.intake import Intake
from server.run.oversight.standing import Standings
from server.run.run_setup import RunSetup


@dataclass(frozen=True, eq=False)
class Questions:
    """Asks the nodes that are present, whether for a round or for what comes before the first.

    Attributes:
        setup: The run's; its plan and quorum say how many answers are needed.
        present: The nodes, with what each told when it was prepared, in order of merchants' names.
        countersigner: Addresses what is sent, and checks what comes back.
        standings: Told of every answer.
        timeout: Seconds for one question.
        forget: Called with a node that must be prepared again before it is asked again.
        width: How many numbers of a round are noised: those that a secure sum adds up.
    """

    setup: RunSetup
    present: Mapping[int, Prepared]
    countersigner: Countersigning
    standings: Standings
    timeout: float
    forget: Callable[[int], None]
    width: int = 0

    def intake(self) -> Intake:
        """Return an empty intake for the answers to one question."""
        return Intake(self.present, self.setup.plan, self.countersigner, self.standings)

    def message(self, node: int, kind: str, content: RecordDict, number: int) -> Message:
        """Return `content` as a message of `kind` to a present node.

        Args:
            node: To whom.
            kind: Flower's message type.
            content: The request; the journal's key and the node's last receipt are added.
            number: The round; 0 is what comes before the first.
        """
        content = self.countersigner.address(content, self.present[node].merchant)
        return Message(content, node, kind, ttl=self.timeout, group_id=str(number))

    def ask(self, exchange: Exchange, sent: Iterable[Message], take: Take) -> Answers:
        """Send and wait: with `central` noise for every merchant, else for enough of them.

        Args:
            exchange: The way to the nodes.
            sent: One message for each node.
            take: Takes an answer in, and says whether it is of use.
        """
        plan, quorum = self.setup.plan, self.setup.quorum

        def needed(asked: int) -> int:
            return max(quorum.needed(asked), plan.least_merchants)

        if plan.dp_model == "central":  # each adds a share of the noise: all are waited for
            return exchange.ask(sent, self.timeout, enough=lambda _: plan.merchants, take=take)
        return exchange.ask(sent, self.timeout, enough=needed, take=take)

    def check_quorum(self, answered: int, asked: int, phase: str) -> None:
        """Refuse to go on with too few answers, or with too little noise.

        Raises:
            QuorumError: see `Quorum.check`; or if their shares of the noise would be less than the
                plan says: with `central` noise if a merchant is missing, with `distributed` if more
                are than the plan spares.
        """
        self.setup.quorum.check(answered, asked, phase)
        plan = self.setup.plan
        if answered < plan.least_merchants:
            raise QuorumError(
                f"{phase}: {answered} merchants answered; the shares of {plan.least_merchants} "
                "carry the plan's noise.",
                field="cohort",
            )
        if plan.dp_model == "central" and answered != plan.merchants:
            raise QuorumError(
                f"{phase}: {answered} of the plan's {plan.merchants} merchants answered; central "
                "noise needs all.",
                field=phase,
            )
