"""A process of `simulations.federation.parallel_runs`'s pool: how it begins, and when it ends.

Nothing heavy is imported here: torch and numpy read how many threads they may have when they load,
and where a process is made anew that is after `begin`.
"""

import logging
import os
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from signal import SIG_IGN, SIGINT, signal
from typing import Any, Final

LOOK_SECONDS = 0.5
RUN_LOG: Final = "flwr.fedtail"  # who joins, and so on: for an operator, whose nodes are elsewhere
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class Stopped(Exception):  # noqa: N818 - nothing went wrong: it ends a run that nobody wants now
    """The caller wants no more."""


class Caller:
    """The line to the caller: what is told, and whether it wants more. There is one a process."""

    _told: "SimpleQueue[Any]"
    _stop: Event

    def begin(self, threads: int, told: "SimpleQueue[Any]", stop: Event) -> None:
        """Set a new process up; it ends soon after the one that it was made by, or for.

        Args:
            threads: How many of them a library may start.
            told: Where `tell` puts things.
            stop: Set once the caller wants no more.
        """
        self._told, self._stop = told, stop
        signal(SIGINT, SIG_IGN)  # Ctrl-C reaches all of a terminal; the caller says when to stop
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        logging.getLogger(RUN_LOG).setLevel(logging.WARNING)  # as the caller's screen does
        if (parent := parent_process()) is not None:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    def tell(self, news: Any) -> None:
        """Send news to the caller.

        Raises:
            Stopped: if it wants no more.
        """
        if self._stop.is_set():  # nobody reads any more, and a full pipe would hold this up
            raise Stopped
        self._told.put(news)


caller = Caller()


def begin(threads: int, told: "SimpleQueue[Any]", stop: Event) -> None:
    """Set this process up, as `Caller.begin`."""
    caller.begin(threads, told, stop)


def _end_with(parent: BaseProcess) -> None:
    """End this process once `parent` has gone: nobody waits for its run."""
    parent.join()
    os._exit(1)
