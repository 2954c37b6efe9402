"""Train several federations at once, each on cores of its own.

A step is nearly as fast on one core as on two, so two trainings side by side take little more than
half the time of one after the other. Each is a run in a folder of its own, with its own ledgers and
checkpoints: what one draws does not depend on the others, and a stopped one goes on by itself.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from common.adapter import AdapterState
from common.errors import FederationError
from common.processes import usable_cores
from common.settings.run import RunSettings
from server.run.checkpoint import RoundRecord
from simulations.federation.pool_worker import LOOK_SECONDS, begin, caller
from simulations.federation.runner import Watch, run_federation

MOST_PROCESSES = 4  # each holds a base model and a catalogue

OnRound = Callable[[int, RoundRecord], None]


@dataclass(frozen=True)
class Job:
    """A federation that lies on disk and is to be trained.

    Attributes:
        federation: Its folder, as `write_federation` made it.
        settings: The run's.
        folder: For checkpoints.
        cache: For encodings of public text.
    """

    federation: Path
    settings: RunSettings
    folder: Path
    cache: Path


def train_side_by_side(
    jobs: Sequence[Job], on_round: OnRound, processes: int | None = None
) -> list[AdapterState]:
    """Train each job to its end; return their adapters in the same order.

    Args:
        jobs: What is trained, best the longest first, so that none is left to the end alone.
        on_round: Told of each finished round, with the job's place.
        processes: How many at once; None is one a core, at most 4. With 1 all is done in this
            process.

    Raises:
        FedtailError: whatever stops a run. The others stop after their round; checkpoints stay.
        KeyboardInterrupt: as pressed; the same.
        FederationError: if a process was killed, as where memory ran out; checkpoints stay.
    """
    wanted = min(usable_cores(), MOST_PROCESSES) if processes is None else processes
    wanted = min(wanted, len(jobs))
    if wanted <= 1:
        return [_train(job, place, on_round) for place, job in enumerate(jobs)]
    with _pool(wanted) as (pool, told):
        running = [pool.submit(_work, job, place) for place, job in enumerate(jobs)]
        waiting = set(running)
        while waiting:
            done, waiting = wait(waiting, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for place, record in _arrived(told):
                on_round(place, record)
            for one in done:
                one.result()  # raises what stopped it
        return [AdapterState.from_bytes(one.result()) for one in running]


@contextmanager
def _pool(processes: int) -> Iterator[tuple[ProcessPoolExecutor, "SimpleQueue[Any]"]]:
    """Give a pool and the queue it tells of rounds by; on an error have its runs stop."""
    # Spawned, not forked: torch's threads and Flower's do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Simple: what was put is there before its run is done. A queue with a thread may lag behind.
    told: SimpleQueue[Any] = context.SimpleQueue()
    stop = context.Event()
    threads = max(1, usable_cores() // processes)
    pool = ProcessPoolExecutor(processes, context, begin, (threads, os.getpid(), told, stop))
    try:
        yield pool, told
    except BrokenProcessPool:
        raise FederationError(
            "A training's process was killed; perhaps memory ran out. The same command goes on "
            "from its last round; --processes 1 needs the least memory.",
            field="processes",
        ) from None
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        told.close()


def _arrived(told: "SimpleQueue[Any]") -> Iterator[tuple[int, RoundRecord]]:
    while not told.empty():
        yield told.get()


def _work(job: Job, place: int) -> bytes:
    """Train a job in a process of the pool; return its adapter's bytes."""
    return _train(job, place, lambda *news: caller.tell(news)).to_bytes()


def _train(job: Job, place: int, on_round: OnRound) -> AdapterState:
    watch = Watch(on_round=lambda record, _: on_round(place, record))
    return run_federation(job.federation, job.settings, job.folder, job.cache, watch).adapter
