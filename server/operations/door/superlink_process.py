"""SuperLink, which lets go of what it has read as soon as it has answered.

    python -P -m server.operations.door.superlink_process [what flower-superlink takes]

A body that is refused hangs on an exception that knows the frame it was raised in, and that frame
the exception: only Python's collector frees such a circle, and it looks for old ones once their
number has grown by a quarter. Pieces of 5 MiB are few objects, so hundreds of megabytes of them lay
there. Here it looks each second, at what came after the start alone, which takes milliseconds.
"""

import gc
import threading
import time
from collections.abc import Callable

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


def main() -> None:
    """Be a SuperLink."""
    threading.Thread(target=collect, daemon=True).start()
    flower_superlink()


if __name__ == "__main__":
    main()
