"""A grid that looks for replies twice a second; Flower's own looks every three.

The reply is there up to three seconds before anybody asks for it, in every round. Asking costs the
server a look into its own database, on its own machine.
"""

import time
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

POLL_SECONDS = 0.5


class PromptGrid(Grid):
    """Another grid, asked more often for the replies."""

    def __init__(self, grid: Grid) -> None:
        """Wrap the grid that Flower gives the app."""
        self._grid = grid

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

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and return the replies that come within `timeout` seconds.

        A message that Flower could not send is not waited for.
        """
        end = None if timeout is None else time.monotonic() + timeout
        waiting = {one for one in self.push_messages(messages) if one is not None}
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            received = list(self.pull_messages(sorted(waiting)))
            replies += received
            waiting -= {one.metadata.reply_to_message_id for one in received}
            if waiting:
                time.sleep(POLL_SECONDS)
        return replies
