"""After the last round: ask the nodes to open the canaries they committed to."""

from collections.abc import Mapping

from flwr.app import Message

from common.errors import FederationError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.wire.canaries import AUDIT, decode_audit, encode_audit_request
from common.wire.messages import Prepared
from server.run.cohort import Quorum
from server.run.exchange import Exchange
from server.run.oversight.standing import Standings


def reveal_canaries(
    exchange: Exchange,
    present: Mapping[int, Prepared],
    plan: PrivacyPlan,
    timeout: float,
    *,
    standings: Standings,
    quorum: Quorum,
) -> dict[str, CanaryRecord]:
    """Return the revealed canaries by merchant.

    A node that does not answer, or opens something other than its commitment, is left out: its
    claim stands unaudited, and whoever reads the run sees that. The run itself is not lost.

    Args:
        exchange: The way to the nodes.
        present: The nodes, with what each told when it was prepared.
        plan: The run's.
        timeout: Seconds to wait.
        standings: Told of each answer that was none.
        quorum: How many answers are enough to wait only a while longer for the rest.
    """
    revealed: dict[str, CanaryRecord] = {}

    def take(node: int, reply: Message) -> bool:
        prepared = present[node]
        try:
            revealed[prepared.merchant] = decode_audit(reply.content, prepared, plan)
        except FederationError as error:
            standings.strike(node, prepared.merchant, "audit", error)
            return False
        return True

    content = encode_audit_request(plan.digest)
    sent = [Message(content, node, AUDIT, ttl=timeout) for node in present]
    answers = exchange.ask(sent, timeout, enough=quorum.needed, take=take)
    for node, reason in sorted(answers.errors.items()):
        standings.failed(node, present[node].merchant, "audit", reason)
    for node in answers.silent:
        standings.late(node, present[node].merchant, "audit")
    return {name: revealed[name] for name in sorted(revealed)}
