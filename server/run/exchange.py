"""The way to the nodes: send, wait no longer than it is worth, and look at each answer as it comes.

A node says what it likes, also about who it is. So an answer belongs to the node that the message
went to, whatever the answer says; and what one node sends, or does not send, costs the others at
most the patience that is kept for it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from common.wire.messages import error_reason
from common.wire.sizes import size_in_bytes
from server.run.polling_grid import POLL_SECONDS, PromptGrid

UNREADABLE = "federation:message"  # of an answer that not even Flower can read
Take = Callable[[int, Message], bool]


@dataclass(frozen=True)
class Patience:
    """How long the rest are waited for once enough have answered.

    Attributes:
        grace: At least so many seconds.
        factor: At least so many times as long as enough of them took.
    """

    grace: float = 60.0
    factor: float = 2.0

    def until(self, took: float) -> float:
        """Return when to go on, in seconds from the asking, if enough took `took` seconds."""
        return max(took + self.grace, self.factor * took)


@dataclass(frozen=True, eq=False)
class Answers:
    """What came back from one exchange.

    Attributes:
        replies: Messages with content, by node id.
        errors: Each failed node's code and field, by node id; never more of what it sent.
        asked: The nodes that were asked.
        seconds: How long each of those took that sent a usable answer.
    """

    replies: dict[int, Message]
    errors: dict[int, str]
    asked: tuple[int, ...]
    seconds: dict[int, float]

    @property
    def silent(self) -> tuple[int, ...]:
        """The nodes of which nothing came."""
        return tuple(one for one in self.asked if one not in self.replies | self.errors)


@dataclass(eq=False)
class Errand:
    """Messages that are under way while other things go on; `Exchange.collect` looks for answers.

    Attributes:
        asked: The nodes that they are for.
        waiting: The node that each message's reply must come from.
        began: When they were sent.
        ready: Answers that are there already, where the grid waits by itself.
        open: The nodes of which nothing has come yet.
    """

    asked: tuple[int, ...]
    waiting: dict[str, int]
    began: float
    ready: list[tuple[int, Message | None]] = field(default_factory=list)
    open: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.open = set(self.asked)


@dataclass
class Exchange:
    """Sends, waits, and counts bytes until they are taken off.

    Attributes:
        grid: Flower's own in a `PromptGrid`, or one that answers at once.
        patience: Kept for the rest when enough have answered.
        bytes_down: Sent since `take_bytes`.
        bytes_up: Received in time since then.
        on_wait: Told which nodes are waited for, how many answers are usable, how many are needed
            and how many seconds are left at most.
    """

    grid: Grid
    patience: Patience = field(default_factory=Patience)
    bytes_down: int = 0
    bytes_up: int = 0
    on_wait: Callable[[Iterable[int], int, int, float], None] = lambda *_: None

    def clock(self) -> float:
        """Return the time by which waits are measured, in seconds."""
        return self.grid.clock() if isinstance(self.grid, PromptGrid) else time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait by that clock."""
        (self.grid.sleep if isinstance(self.grid, PromptGrid) else time.sleep)(seconds)

    def connected(self) -> set[int]:
        """Return the ids of the nodes that are connected now."""
        return set(self.grid.get_node_ids())

    def ask(
        self,
        messages: Iterable[Message],
        timeout: float,
        *,
        enough: Callable[[int], int] = lambda asked: asked,
        take: Take = lambda _node, _reply: True,
    ) -> Answers:
        """Send `messages`, one a node, and wait for the replies.

        Until enough are usable that is at most `timeout` seconds, and then as `patience` says. A
        reply that comes later, from a node that was not asked, or twice is not looked at.

        Args:
            messages: One for each node.
            timeout: Seconds.
            enough: Told how many were asked; returns how many usable answers are needed.
            take: Looks at a reply with content as soon as it is there; returns whether it is of
                use, so that nobody can hurry a round on with rubbish.
        """
        errand = self.start(messages, timeout)
        answers = Answers({}, {}, errand.asked, {})
        needed, end = enough(len(answers.asked)), errand.began + timeout
        hurried = False
        while True:
            for node, reply in self.collect(errand):
                self._note(answers, node, reply, take, errand.began)
            now = self.clock()
            if not hurried and len(answers.seconds) >= needed:
                hurried, end = (
                    True,
                    min(end, errand.began + self.patience.until(now - errand.began)),
                )
            if not errand.waiting:
                break
            self.on_wait(errand.waiting.values(), len(answers.seconds), needed, max(end - now, 0))
            if now >= end:
                break
            self.sleep(POLL_SECONDS)
        return answers

    def _note(
        self, answers: Answers, node: int, reply: Message | None, take: Take, began: float
    ) -> None:
        if reply is None:
            answers.errors[node] = UNREADABLE
        elif reply.has_error():
            answers.errors[node] = error_reason(reply.error)
        else:
            answers.replies[node] = reply
            self.count(reply)
            if take(node, reply):
                answers.seconds[node] = self.clock() - began

    def start(self, messages: Iterable[Message], timeout: float) -> Errand:
        """Send `messages`, one a node, and do not wait; `timeout` is for a grid that does."""
        sent = list(messages)
        self.bytes_down += sum(size_in_bytes(message.content) for message in sent)
        asked, began = tuple(one.metadata.dst_node_id for one in sent), self.clock()
        if isinstance(self.grid, PromptGrid):
            return Errand(asked, self.grid.post(sent) if sent else {}, began)
        received = list(self.grid.send_and_receive(sent, timeout=timeout)) if sent else []
        ready = [(one.metadata.src_node_id, one) for one in received]
        return Errand(asked, {}, began, [pair for pair in ready if pair[0] in asked])

    def collect(self, errand: Errand) -> Iterator[tuple[int, Message | None]]:
        """Yield what has come of an errand, by node, once; None is an answer nobody can read."""
        found, errand.ready = errand.ready, []  # a grid that waits has waited: no more comes
        if isinstance(self.grid, PromptGrid):
            found = [
                (errand.waiting.pop(one), message)
                for one, message in self.grid.arrived(list(errand.waiting))
                if one in errand.waiting  # else it is there twice
            ]
        for node, message in found:
            if node in errand.open:
                errand.open.discard(node)
                yield node, message

    def count(self, reply: Message) -> None:
        """Count a reply's bytes."""
        self.bytes_up += size_in_bytes(reply.content)

    def tell(self, message: Message) -> None:
        """Send a message whose reply nobody waits for."""
        self.bytes_down += size_in_bytes(message.content)
        self.grid.push_messages([message])

    def take_bytes(self) -> tuple[int, int]:
        """Return (down, up) and count from 0 again."""
        taken = self.bytes_down, self.bytes_up
        self.bytes_down = self.bytes_up = 0
        return taken
