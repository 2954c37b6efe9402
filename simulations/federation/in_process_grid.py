"""Flower's Grid without Flower's processes: the same app, called in this process.

What a node sees is what it would see deployed: its own context, messages it cannot share memory
with, and an error reply where its handler raises. Nodes are called one after another in the order
of the messages.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.errors import SettingsError
from common.wire.messages import Scalar

_FIRST_NODE = 1000  # any number above SUPERLINK_NODE_ID


class InProcessGrid(Grid):
    """A grid of `nodes` simulated nodes that all run `app`.

    Each node has one context for the whole run, configured as Flower's own simulation does it:
    `partition-id` and `num-partitions`, and the run's configuration. `on_answer` is told the type
    of a message, how many of those sent together are answered, and how many there are.

    Raises:
        SettingsError: if there is no node.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        run_config: Mapping[str, Scalar],
        run_id: int = 1,
        on_answer: Callable[[str, int, int], None] | None = None,
    ) -> None:
        if nodes < 1:
            raise SettingsError("A federation needs at least one node.", field="merchants")
        self._app, self._on_answer = app, on_answer
        self._run = Run.create_empty(run_id)
        self._contexts = {
            _FIRST_NODE + place: Context(
                run_id=run_id,
                node_id=_FIRST_NODE + place,
                node_config={"partition-id": place, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for place in range(nodes)
        }
        self._replies: dict[str, Message] = {}
        self._identify()

    def _identify(self) -> None:
        """Say who builds messages in this process: Flower reads it when one is made."""
        TaskIdentity.run_id = self._run.run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        TaskIdentity.task_id = 1

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run
        self._identify()

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message to a node."""
        self._identify()
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes, in the order of their partitions."""
        self._identify()
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run each message's handler now; return the ids by which replies are pulled."""
        together = list(messages)
        return [self._run_one(one, place, len(together)) for place, one in enumerate(together, 1)]

    def _run_one(self, message: Message, place: int, together: int) -> str:
        """Run a message's handler; return the id by which the reply is pulled."""
        identifier = str(uuid4())
        message.metadata.__dict__["_message_id"] = identifier  # as Flower's own grids do
        message.metadata.created_at = time.time()  # it did not wait for the nodes before it
        began = time.monotonic()
        reply = self._deliver(message)
        if time.monotonic() - began <= message.metadata.ttl:  # else it came too late
            self._replies[identifier] = reply
        if self._on_answer is not None:
            kind = message.metadata.message_type.rpartition(".")[2]
            self._on_answer(kind, place, together)
        return identifier

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to `message_ids` that are there, in that order, once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Run each message's handler and return the replies in the order of the messages.

        A node that takes longer than `timeout` or its message's time to live gives no reply. Each
        node's time counts alone, since deployed nodes work side by side.
        """
        self._identify()
        replies: list[Message] = []
        together = list(messages)
        for place, message in enumerate(together, 1):
            began = time.monotonic()
            answered = list(self.pull_messages([self._run_one(message, place, len(together))]))
            if timeout is None or time.monotonic() - began <= timeout:
                replies.extend(answered)
        return replies

    def _deliver(self, message: Message) -> Message:
        """Call the app on a copy of the message; keep the node's state only if it succeeds."""
        node = message.metadata.dst_node_id
        sent, context = copy.deepcopy(message), copy.deepcopy(self._contexts[node])
        try:
            reply = self._app(sent, context)
        except Exception as error:  # noqa: BLE001 - Flower turns whatever a handler raises into a reply
            reason = f"{type(error)}:<'{error}'>"
            failure = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)
            return Message(failure, reply_to=message)
        self._contexts[node] = context
        return copy.deepcopy(reply)
