"""Who takes part: nodes that are connected, prepared and willing, and how many must answer.

Preparing a node may take long, as it encodes its catalogue. It goes on beside the rounds: whoever
is not ready when enough are joins a later round, and whoever never answers holds up none.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict

from common.errors import FederationError, QuorumError, SettingsError
from common.wire.messages import PREPARE, Prepared, PrepareRequest, decode_prepared, encode_prepare
from common.wire.messages import error_reason as reason_of
from common.wire.refusal import REFUSED, encode_refusal
from server.run.exchange import UNREADABLE, Errand, Exchange
from server.run.oversight.standing import Standings
from server.run.polling_grid import POLL_SECONDS

MAX_PREPARE_ATTEMPTS = 3  # a node that fails each time is not asked for ever

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


@dataclass(eq=False)
class Cohort:
    """The nodes that have told their public facts in this run, by node id.

    Attributes:
        request: What each node is sent before its first round.
        timeout: Seconds a node has to encode its catalogue.
        standings: How each node stands; who is refused is not asked again.
        members: Prepared nodes, connected or not.
        check: Raises FederationError if a node may not take part: `server.run.admission_checks`.
        address: Adds to the request what the server's journal has to say.
        check_head: Raises FederationError if a merchant's ledger head is not accepted.
        on_rollback: Told of a node and merchant whose ledger rolled back.
        may_begin: Asked before each round; while it returns False nothing begins.
    """

    request: PrepareRequest
    timeout: float
    standings: Standings = field(default_factory=Standings)
    members: dict[int, Prepared] = field(default_factory=dict)
    check: Callable[[int, Prepared], None] = lambda _node, _prepared: None
    address: Callable[[RecordDict], RecordDict] = lambda content: content
    check_head: Callable[[Prepared, RecordDict], None] = lambda _prepared, _content: None
    on_rollback: Callable[[int, str], None] = lambda _node, _merchant: None
    may_begin: Callable[[], bool] = lambda: True
    _attempts: dict[int, int] = field(default_factory=dict)
    _errands: list[Errand] = field(default_factory=list)
    _longest: float = 0.0  # seconds that a preparation took
    _opened: bool = False  # whether a round has begun

    @property
    def refused(self) -> dict[int, str]:
        """Nodes that are not asked again, with the reason."""
        return self.standings.refused

    def assemble(self, exchange: Exchange, quorum: Quorum, wanted: int = 0) -> dict[int, Prepared]:
        """Prepare newcomers and return the nodes that can take part, by merchants' names.

        Before the first round the others are waited for as `exchange.patience` says, so that nodes
        of one federation that take about as long begin together. Later nobody waits for newcomers.

        Args:
            exchange: The way to the nodes.
            quorum: How many are needed.
            wanted: How many are waited for beyond that, for the patience that is kept for the rest:
                all that could, where whoever is not there now cannot join later.

        Raises:
            QuorumError: if there are not `quorum.minimum` after `quorum.wait_seconds`, and none is
                under way.
        """
        deadline = exchange.clock() + quorum.wait_seconds
        patient = exchange.clock() + exchange.patience.grace
        while True:
            while not self.may_begin():
                exchange.sleep(POLL_SECONDS)
                deadline = exchange.clock() + quorum.wait_seconds
            connected = exchange.connected()
            self._invite(exchange, connected)
            self._receive(exchange, connected)
            present, now = self._present(connected), exchange.clock()
            under_way = self._under_way(connected, now)
            ready = len(present) >= quorum.minimum
            end = self._first_end(exchange) if ready else max(deadline, *under_way.values(), 0.0)
            all_there = len(present) >= wanted or now >= patient
            if ready and all_there and (self._opened or not under_way or now >= end):
                self._opened = True
                return present
            if not ready and now >= deadline and not under_way:
                raise QuorumError(
                    f"{len(present)} nodes are ready after {quorum.wait_seconds:g} seconds "
                    f"({len(connected)} connected, {len(self.refused)} refused); "
                    f"{quorum.minimum} are needed.",
                    field="nodes",
                )
            exchange.on_wait(under_way, len(present), quorum.minimum, max(end - now, 0.0))
            exchange.sleep(POLL_SECONDS)

    def forget(self, node: int) -> None:
        """Prepare a node again, which has lost its state or was silent."""
        self.members.pop(node, None)

    def _present(self, connected: set[int]) -> dict[int, Prepared]:
        here = {
            node: held
            for node, held in self.members.items()
            if node in connected and self.standings.may_be_asked(node)
        }
        return dict(sorted(here.items(), key=lambda pair: pair[1].merchant))

    def _under_way(self, connected: set[int], now: float) -> dict[int, float]:
        """Return the nodes whose preparation is waited for, and until when at most."""
        ends = {
            node: errand.began + self.timeout
            for errand in self._errands
            for node in errand.waiting.values()
        }
        return {node: end for node, end in ends.items() if node in connected and end > now}

    def _first_end(self, exchange: Exchange) -> float:
        """Return until when the first round waits for those whose preparation is under way."""
        began = min((errand.began for errand in self._errands), default=0.0)
        return began + min(exchange.patience.until(self._longest), self.timeout)

    def _invite(self, exchange: Exchange, connected: set[int]) -> None:
        for gone in self._attempts.keys() - connected:
            self._attempts[gone] = 0  # it may come back mended
        asked = {node for errand in self._errands for node in errand.waiting.values()}
        newcomers = [
            node
            for node in sorted(connected - self.members.keys() - asked)
            if self.standings.may_be_asked(node)
            and self._attempts.get(node, 0) < MAX_PREPARE_ATTEMPTS
        ]
        if not newcomers:
            return
        for node in newcomers:
            self.standings.asked(node)
        content = self.address(encode_prepare(self.request))
        sent = (Message(content, node, PREPARE, ttl=self.timeout) for node in newcomers)
        self._errands.append(exchange.start(sent, self.timeout))

    def _receive(self, exchange: Exchange, connected: set[int]) -> None:
        """Take in whoever has answered, and note whose time is over."""
        for errand in list(self._errands):
            for node, reply in exchange.collect(errand):
                self._heard(exchange, node, reply, connected, exchange.clock() - errand.began)
            if not errand.waiting or exchange.clock() >= errand.began + self.timeout:
                self._errands.remove(errand)
                for node in sorted(errand.open):
                    self._attempts[node] = self._attempts.get(node, 0) + 1
                    self.standings.late(node, self.standings.name_of(node), "prepare")

    def _heard(
        self,
        exchange: Exchange,
        node: int,
        reply: Message | None,
        connected: set[int],
        seconds: float,
    ) -> None:
        reason = UNREADABLE if reply is None else ""
        if reply is not None and reply.has_error():
            reason = reason_of(reply.error)
        if reply is None or reason:
            self._attempts[node] = self._attempts.get(node, 0) + 1
            self._note_refusal(node, self.standings.name_of(node), reason)
            return
        exchange.count(reply)
        named, refusal = self._admit(node, reply, connected)
        if refusal:
            self._note_refusal(node, named, refusal)
            exchange.tell(Message(encode_refusal(refusal), node, REFUSED, ttl=self.timeout))
            return
        self._longest = max(self._longest, seconds)
        self.standings.prepared(node, named)

    def _admit(self, node: int, reply: Message, connected: set[int]) -> tuple[str, str]:
        """Take a node in, unless its merchant's name belongs to another connected node.

        A node that has left gives its name free, so a merchant may come back under a new id.
        Return its name, as far as it is known, and why it is refused; empty if it is not.
        """
        named = self.standings.name_of(node)
        try:
            prepared = decode_prepared(reply.content)
            self.check(node, prepared)
        except FederationError as error:
            logger.warning("%s", error)
            return named, error.public()
        named = prepared.merchant
        if named in self.standings.evicted:
            return named, "evicted"
        twins = [one for one, held in self.members.items() if held.merchant == named]
        if connected.intersection(twins):
            return named, "federation:merchant"
        try:
            self.check_head(prepared, reply.content)
        except FederationError as error:
            logger.warning("%s", error)
            if error.field == "rollback":  # its own ledger: to a stranger no receipt is sent
                self.on_rollback(node, named)
            return named, error.public()
        for one in twins:
            del self.members[one]
        self.members[node] = prepared
        self._attempts.pop(node, None)
        return named, ""

    def _note_refusal(self, node: int, merchant: str, reason: str) -> None:
        if reason.startswith("flower:"):  # Flower's own errors may pass: a node restarts
            self.standings.failed(node, merchant, "prepare", reason)
        else:
            self.standings.refuse(node, merchant, reason)
