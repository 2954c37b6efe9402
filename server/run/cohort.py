"""Who takes part: nodes that are connected, prepared and willing, and how many must answer."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.errors import FederationError, QuorumError, SettingsError
from common.wire.messages import (
    PREPARE,
    Prepared,
    PrepareRequest,
    decode_prepared,
    encode_prepare,
    error_reason,
    size_in_bytes,
)
from common.wire.refusal import REFUSED, encode_refusal

POLL_SECONDS = 1.0
MAX_PREPARE_ATTEMPTS = 3  # a node that never answers must not delay every round

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quorum:
    """How many nodes a round needs.

    Attributes:
        minimum: Nodes that must be prepared before a round, and that must answer it.
        fraction: The part of the nodes asked that must answer, in (0, 1].
        wait_seconds: How long to wait for `minimum` nodes to connect.
    """

    minimum: int = 1
    fraction: float = 0.5
    wait_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.minimum < 1:
            raise SettingsError("The quorum's minimum must be at least 1.", field="min_nodes")
        if not 0 < self.fraction <= 1:
            raise SettingsError("The quorum's fraction must be in (0, 1].", field="quorum")

    def needed(self, asked: int) -> int:
        """Return how many of `asked` nodes must answer."""
        return max(self.minimum, math.ceil(self.fraction * asked))

    def check(self, answered: int, asked: int, phase: str) -> None:
        """Refuse to go on with too few answers.

        Raises:
            QuorumError: if fewer than `needed(asked)` answered.
        """
        if answered < self.needed(asked):
            raise QuorumError(
                f"{phase}: {answered} of {asked} nodes gave a usable answer; "
                f"{self.needed(asked)} are needed.",
                field=phase,
            )


@dataclass(frozen=True, eq=False)
class Answers:
    """What came back from one exchange.

    Attributes:
        replies: Messages with content, by node id.
        errors: Each failed node's code and field, by node id; never more of what it sent.
        asked: How many nodes were asked.
    """

    replies: dict[int, Message]
    errors: dict[int, str]
    asked: int


@dataclass
class Exchange:
    """The way to the nodes: sends, waits, and counts bytes until they are taken off.

    Attributes:
        grid: Flower's own, or the in-process one.
        bytes_down: Sent since `take_bytes`.
        bytes_up: Received in time since then.
    """

    grid: Grid
    bytes_down: int = 0
    bytes_up: int = 0

    def connected(self) -> set[int]:
        """Return the ids of the nodes that are connected now."""
        return set(self.grid.get_node_ids())

    def ask(self, messages: Iterable[Message], timeout: float) -> Answers:
        """Send `messages`, one a node, and wait at most `timeout` seconds for the replies.

        A reply that comes later, from a node that was not asked, or twice is not looked at.
        """
        sent = list(messages)
        waiting = {message.metadata.dst_node_id for message in sent}
        replies: dict[int, Message] = {}
        errors: dict[int, str] = {}
        self.bytes_down += sum(size_in_bytes(message.content) for message in sent)
        received = self.grid.send_and_receive(sent, timeout=timeout) if sent else ()
        for reply in received:
            node = reply.metadata.src_node_id
            if node not in waiting:
                continue
            waiting.discard(node)
            if reply.has_error():
                errors[node] = error_reason(reply.error)
            else:
                replies[node] = reply
                self.bytes_up += size_in_bytes(reply.content)
        return Answers(replies, errors, len(sent))

    def tell(self, message: Message) -> None:
        """Send a message whose reply nobody waits for."""
        self.bytes_down += size_in_bytes(message.content)
        self.grid.push_messages([message])

    def take_bytes(self) -> tuple[int, int]:
        """Return (down, up) and count from 0 again."""
        taken = self.bytes_down, self.bytes_up
        self.bytes_down = self.bytes_up = 0
        return taken


@dataclass
class Cohort:
    """The nodes that have told their public facts in this run, by node id.

    Attributes:
        request: What each node is sent before its first round.
        timeout: Seconds a node has to encode its catalogue.
        members: Prepared nodes, connected or not.
        refused: Nodes that refused the preparation, with their reason: they are not asked again.
        check: Raises FederationError if a node may not take part: `server.run.admission_checks`.
        address: Adds to the request what the server's journal has to say.
        check_head: Raises FederationError if a merchant's ledger head is not accepted.
        on_rollback: Told of a node and merchant whose ledger rolled back.
    """

    request: PrepareRequest
    timeout: float
    members: dict[int, Prepared] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    check: Callable[[int, Prepared], None] = lambda _node, _prepared: None
    address: Callable[[RecordDict], RecordDict] = lambda content: content
    check_head: Callable[[Prepared, RecordDict], None] = lambda _prepared, _content: None
    on_rollback: Callable[[int, str], None] = lambda _node, _merchant: None
    _attempts: dict[int, int] = field(default_factory=dict)

    def assemble(
        self,
        exchange: Exchange,
        quorum: Quorum,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> dict[int, Prepared]:
        """Prepare newcomers and return the nodes that can take part, by merchants' names.

        Raises:
            QuorumError: if there are not `quorum.minimum` after `quorum.wait_seconds`.
        """
        deadline = clock() + quorum.wait_seconds
        while True:
            connected = exchange.connected()
            self._prepare(exchange, connected)
            present = self._present(connected)
            if len(present) >= quorum.minimum:
                return present
            if clock() >= deadline:
                raise QuorumError(
                    f"{len(present)} nodes are ready after {quorum.wait_seconds:g} seconds "
                    f"({len(connected)} connected, {len(self.refused)} refused); "
                    f"{quorum.minimum} are needed.",
                    field="nodes",
                )
            sleep(POLL_SECONDS)

    def forget(self, node: int) -> None:
        """Prepare a node again, which has lost its state (it was restarted)."""
        self.members.pop(node, None)

    def _present(self, connected: set[int]) -> dict[int, Prepared]:
        here = {node: held for node, held in self.members.items() if node in connected}
        return dict(sorted(here.items(), key=lambda pair: pair[1].merchant))

    def _prepare(self, exchange: Exchange, connected: set[int]) -> None:
        newcomers = [
            node
            for node in sorted(connected - self.members.keys() - self.refused.keys())
            if self._attempts.get(node, 0) < MAX_PREPARE_ATTEMPTS
        ]
        if not newcomers:
            return
        content = self.address(encode_prepare(self.request))
        answers = exchange.ask(
            (Message(content, node, PREPARE, ttl=self.timeout) for node in newcomers), self.timeout
        )
        for node in newcomers:
            self._attempts[node] = self._attempts.get(node, 0) + 1
            if node in answers.replies:
                refusal = self._admit(node, answers.replies[node], connected)
                if refusal:
                    self._note_refusal(node, refusal)
                    exchange.tell(Message(encode_refusal(refusal), node, REFUSED, ttl=self.timeout))
            else:
                self._note_refusal(node, answers.errors.get(node, "silent"))

    def _admit(self, node: int, reply: Message, connected: set[int]) -> str:
        """Take a node in, unless its merchant's name belongs to another connected node.

        A node that has left gives its name free, so a merchant may come back under a new id.
        Return why it is refused; empty if it is not.
        """
        try:
            prepared = decode_prepared(reply.content)
            self.check(node, prepared)
        except FederationError as error:
            logger.warning("%s", error)
            return error.public()
        twins = [one for one, held in self.members.items() if held.merchant == prepared.merchant]
        if connected.intersection(twins):
            return "federation:merchant"
        try:
            self.check_head(prepared, reply.content)
        except FederationError as error:
            logger.warning("%s", error)
            if error.field == "rollback":  # its own ledger: to a stranger no receipt is sent
                self.on_rollback(node, prepared.merchant)
            return error.public()
        for one in twins:
            del self.members[one]
        self.members[node] = prepared
        self._attempts.pop(node, None)
        return ""

    def _note_refusal(self, node: int, reason: str) -> None:
        logger.warning("Node %d did not prepare: %s", node, reason)
        if reason != "silent" and not reason.startswith("flower:"):
            self.refused[node] = reason  # Flower's own errors may pass: a node restarts
