"""A grid that looks for replies twice a second, one by one; Flower's own takes them all together.

Flower's `send_and_receive` looks every three seconds, waits for all, and raises where one reply
cannot be read: the others that came with it are then lost, and the run with them. Here each reply
is pulled alone, and one that cannot be read is told as such.
"""

import time
from collections.abc import Callable, Iterable, Iterator

import httpx
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

POLL_SECONDS = 0.5


class PromptGrid(Grid):
    """Another grid, asked more often for the replies, and for each alone."""

    def __init__(
        self,
        grid: Grid,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wrap the grid that Flower gives the app; clock and sleep are a test's."""
        self._grid, self.clock, self.sleep = grid, clock, sleep

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message to a node."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the connected nodes."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send; return the ids by which replies are pulled."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to `message_ids` that are there, once."""
        return self._grid.pull_messages(message_ids)

    def post(self, messages: Iterable[Message]) -> dict[str, int]:
        """Send; return the node that each id's reply must come from.

        A message that Flower could not send is not waited for.
        """
        sent = list(messages)
        identifiers = list(self.push_messages(sent))
        return {
            one: message.metadata.dst_node_id
            for one, message in zip(identifiers, sent, strict=False)  # none where all were refused
            if one is not None
        }

    def arrived(self, message_ids: Iterable[str]) -> Iterator[tuple[str, Message | None]]:
        """Yield the replies that are there, each by its id, once; None for one that is unreadable.

        Raises:
            httpx.HTTPError: if the server's own SuperLink does not answer.
        """
        for one in message_ids:
            try:
                found = list(self.pull_messages([one]))
                for message in found:
                    _ = message.has_error() or message.content  # raises where it is neither
            except httpx.HTTPError:
                raise
            except Exception:  # noqa: BLE001 - a node chose the bytes that Flower could not read
                yield one, None
                continue
            for message in found:
                yield one, message

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and return the replies that come within `timeout` seconds."""
        end = None if timeout is None else self.clock() + timeout
        waiting = self.post(messages)
        replies: list[Message] = []
        while waiting:
            for one, message in self.arrived(list(waiting)):
                del waiting[one]
                if message is not None:
                    replies.append(message)
            if not waiting or (end is not None and self.clock() >= end):
                break
            self.sleep(POLL_SECONDS)
        return replies
