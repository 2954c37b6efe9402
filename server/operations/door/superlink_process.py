"""SuperLink, which lets go of what it has read once it has answered, and takes a reply sent twice.

    python -P -m server.operations.door.superlink_process [what flower-superlink takes]

A body that is refused hangs on an exception that knows the frame it was raised in, and that frame
the exception: only Python's collector frees such a circle, and it looks for old ones once their
number has grown by a quarter. Pieces of 5 MiB are few objects, so hundreds of megabytes of them lay
there. Here it looks each second, at what came after the start alone, which takes milliseconds.

A reply comes in parts: its head, then what it holds. Where the answer to a part is lost, the node
sends the part again. Flower takes a head that it has, but not once the server's app has taken the
head, nor a piece that it has: the rest was then never sent, and the app waited three minutes for
it. Both are taken here: a piece's name is the digest of what is in it.
"""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.superlink.cli import flower_superlink

STARTED_SECONDS = 10.0  # what there is by then stays for as long as the process
SECONDS = 1.0


def collect(sleep: Callable[[float], None] = time.sleep) -> None:
    """Free circles each second, for as long as the process lasts."""
    sleep(STARTED_SECONDS)
    gc.collect()
    gc.freeze()
    while True:
        sleep(SECONDS)
        gc.collect()


def take_again(state: Any) -> None:
    """Have a state of Flower's take a part of a reply that it was sent before.

    Args:
        state: Flower's class; it keeps `b""` for a piece that it knows of and was not sent yet.
    """
    store_reply, store_object = state.store_message_and_object_tree, state.store_object

    def reply(self: Any, message: Any, tree: Any, session: str) -> tuple[bool, list[str]]:
        stored, wanted = store_reply(self, message, tree, session)
        if stored:
            return stored, wanted
        held = [self.object_store.get(one.object_id) for one in iterate_object_tree(tree)]
        if b"" in held and None not in held:  # a head that names anything new was never taken
            return True, self.preregister_object_tree(tree, session)
        return stored, wanted

    def piece(self: Any, run_id: int, session: str, name: str, content: bytes) -> bool:
        stored = bool(store_object(self, run_id, session, name, content))
        return stored or self.object_store.get(name) == content

    state.store_message_and_object_tree, state.store_object = reply, piece


def main() -> None:
    """Be a SuperLink."""
    take_again(SqlLinkState)
    threading.Thread(target=collect, daemon=True).start()
    flower_superlink()


if __name__ == "__main__":
    main()
