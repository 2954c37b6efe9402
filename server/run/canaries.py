"""After the last round: ask the nodes to open the canaries they committed to."""

import logging
from collections.abc import Mapping

from flwr.app import Message

from common.errors import FederationError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.wire.canaries import AUDIT, decode_audit, encode_audit_request
from common.wire.messages import Prepared
from server.run.cohort import Exchange

logger = logging.getLogger(__name__)


def reveal_canaries(
    exchange: Exchange, present: Mapping[int, Prepared], plan: PrivacyPlan, timeout: float
) -> dict[str, CanaryRecord]:
    """Return the revealed canaries by merchant.

    A node that does not answer, or opens something other than its commitment, is left out: its
    claim stands unaudited, and whoever reads the run sees that. The run itself is not lost.

    Args:
        exchange: The way to the nodes.
        present: The nodes, with what each told when it was prepared.
        plan: The run's.
        timeout: Seconds to wait.
    """
    content = encode_audit_request(plan.digest)
    answers = exchange.ask(
        [Message(content, node, AUDIT, ttl=timeout) for node in present], timeout
    )
    for node, reason in sorted(answers.errors.items()):
        logger.warning("Audit: node %d failed: %s", node, reason)
    revealed: dict[str, CanaryRecord] = {}
    for node, prepared in present.items():
        if node not in answers.replies:
            continue
        try:
            record = decode_audit(answers.replies[node].content, prepared, plan)
        except FederationError as error:
            logger.warning("Audit: node %d sent %s", node, error.public())
            continue
        revealed[prepared.merchant] = record
    return revealed
