"""A simulated federation in which nodes take time, or never answer: by a clock that a caller moves.

In a `server.run.polling_grid.PromptGrid` it looks to the run like Flower's own grid: messages are
under way, answers come when they come, and hours pass in milliseconds.
"""

from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from flwr.app import Message
from flwr.clientapp import ClientApp

from common.wire.messages import Scalar
from simulations.federation.in_process_grid import InProcessGrid

Delay = Callable[[int, Message], float | None]


class SimulatedClock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class TimedGrid(InProcessGrid):
    """Answers are there only after a delay that the caller chooses."""

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        run_config: Mapping[str, Scalar],
        run_id: int = 1,
        *,
        clock: SimulatedClock,
        delay: Delay = lambda _node, _message: 0.0,
    ) -> None:
        """Make a grid of nodes; see `InProcessGrid`.

        Args:
            app: Of every node.
            nodes: How many.
            run_config: The run's.
            run_id: Its number.
            clock: By which answers come.
            delay: Given a node's place and a message: seconds, or None if it never arrives there.
        """
        super().__init__(app, nodes, run_config, run_id)
        self.clock, self.delay = clock, delay
        self._due: dict[str, tuple[float, Message]] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run each message's handler unless it never arrives; return the ids for its answer."""
        identifiers = []
        places = list(self._contexts)
        for message in messages:
            place = places.index(message.metadata.dst_node_id)
            seconds = self.delay(place, message)
            if seconds is None:
                name = f"lost {uuid4()}"
                message.metadata.__dict__["_message_id"] = name
                identifiers.append(name)
                continue
            (name,) = super().push_messages([message])
            reply = self._replies.pop(name, None)
            if reply is not None and seconds <= message.metadata.ttl:  # else Flower drops it
                self._due[name] = (self.clock.now + seconds, reply)
            identifiers.append(name)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to `message_ids` whose time has come, once."""
        due = [one for one in message_ids if one in self._due]
        return [self._due.pop(one)[1] for one in due if self._due[one][0] <= self.clock.now]
