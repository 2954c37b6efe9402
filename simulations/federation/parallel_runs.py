"""Train several federations at once, each on cores of its own.

A step is nearly as fast on one core as on two, so two trainings side by side take little more than
half the time of one after the other. Each is a run in a folder of its own, with its own ledgers and
checkpoints: what one draws does not depend on the others, and a stopped one goes on by itself.
They may begin while the caller still has work of its own, and then leave it a core.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from threadpoolctl import threadpool_limits

from common.adapter import AdapterState
from common.errors import FederationError
from common.processes import usable_cores
from common.settings.run import RunSettings
from server.run.checkpoint import RoundRecord
from simulations.federation.pool_worker import LOOK_SECONDS, THREADS, begin, caller
from simulations.federation.runner import Watch, run_federation

MOST_PROCESSES = 4  # each holds a base model and a catalogue
_READ_SECONDS = 0.1

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


class SideBySide:
    """Trainings in processes of their own, or one after the other where only one may go on.

    While open: `begin` starts them, `finish` waits for them. An error, or Ctrl-C, stops those that
    go on after their round; checkpoints stay.
    """

    def __init__(self, processes: int | None = None) -> None:
        """Choose how many may go on at once.

        Args:
            processes: None is one a core, at most 4. With 1 all is done in this process, by
                `finish`.
        """
        cores = usable_cores()
        self._most = min(cores, MOST_PROCESSES) if processes is None else processes
        self._threads = max(1, cores // max(self._most, 1))
        self._jobs: Sequence[Job] = ()
        self._pool: _Pool | None = None

    def __enter__(self) -> Self:
        """Make ready."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what still goes on, after its round."""
        if self._pool is not None:
            self._pool.close(stop=error is not None)

    def warm_up(self) -> None:
        """Have a process load what trainings need, while this one does something else."""
        if self._most > 1:
            _context(self._threads)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Begin to train `jobs`, best the longest first, so that none is left to the end alone.

        Until `finish` one process less than there may be is used: this one has work itself.
        """
        self._jobs = jobs
        if self._most > 1 and jobs:
            self._pool = _Pool(self._most, self._threads, jobs)
            self._pool.widen(max(self._most - 1, 1))

    @contextmanager
    def leaving_cores(self) -> Iterator[None]:
        """Do what this process has to do meanwhile on its share of the cores.

        A product over all cores would wait for the one that a training is on, and take twice as
        long as on one core.
        """
        with threadpool_limits(None if self._pool is None else self._threads):
            yield

    def finish(self, on_round: OnRound) -> Iterator[tuple[int, AdapterState]]:
        """Yield each job's place and adapter as it is trained, in any order.

        Args:
            on_round: Told of each finished round, with the job's place.

        Raises:
            FedtailError: whatever stops a run.
            FederationError: if a process was killed, as where memory ran out.
        """
        if self._pool is None:
            yield from ((n, _train(job, n, on_round)) for n, job in enumerate(self._jobs))
            return
        self._pool.widen(self._most)
        try:
            for place, content in self._pool.results(on_round):
                yield place, AdapterState.from_bytes(content)
        except BrokenProcessPool:
            raise FederationError(
                "A training's process was killed; perhaps memory ran out. The same command goes "
                "on from its last round; --processes 1 needs the least memory.",
                field="processes",
            ) from None


def train_side_by_side(
    jobs: Sequence[Job], on_round: OnRound, processes: int | None = None
) -> list[AdapterState]:
    """Train each job to its end; return their adapters in the same order.

    Args:
        jobs: What is trained, best the longest first.
        on_round: Told of each finished round, with the job's place.
        processes: How many at once, as `SideBySide`; no more than there are jobs.

    Raises:
        FedtailError: whatever stops a run. The others stop after their round; checkpoints stay.
        KeyboardInterrupt: as pressed; the same.
        FederationError: as `SideBySide.finish`.
    """
    with SideBySide(processes if len(jobs) > 1 else 1) as beside:
        beside.begin(jobs)
        found = dict(beside.finish(on_round))
    return [found[place] for place in range(len(jobs))]


class _Pool:
    """Processes that take one task after another, and what they tell."""

    def __init__(self, processes: int, threads: int, jobs: Sequence[Job]) -> None:
        context = _context(threads)
        # Simple: what was put is there before its run is done. A queue with a thread may lag
        # behind.
        self._told: SimpleQueue[Any] = context.SimpleQueue()
        self._stop = context.Event()
        self._executor = ProcessPoolExecutor(
            min(processes, len(jobs)), context, begin, (threads, self._told, self._stop)
        )
        self._lock = threading.RLock()  # a task that is done at once fills up within `submit`
        self._room, self._waiting = 0, deque(enumerate(jobs))
        self._running: dict[Future[bytes], int] = {}
        # A pipe holds some hundred rounds; no training is to wait for a caller that is busy.
        self._news: deque[Any] = deque()
        self._over, self._reading = threading.Event(), threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True, name="rounds told")
        self._reader.start()

    def widen(self, room: int) -> None:
        """Have as many tasks go on at once."""
        self._room = room
        self._fill()

    def _ended(self, _: object) -> None:
        """Begin what waits for the task that has ended; called by a thread of the executor's."""
        with suppress(RuntimeError, OSError):  # `results` meets it again, and tells the caller
            self._fill()

    def _fill(self) -> None:
        """Begin tasks while there is room.

        Raises:
            BrokenProcessPool: if a process was killed.
            OSError: if none can be made.
        """
        with self._lock:
            while self._waiting and self._going_on() < self._room:
                place, job = self._waiting[0]
                task = self._executor.submit(_work, job, place)
                self._waiting.popleft()
                self._running[task] = place
                task.add_done_callback(self._ended)

    def _going_on(self) -> int:
        return sum(not one.done() for one in self._running)

    def results(self, on_round: OnRound) -> Iterator[tuple[int, bytes]]:
        """Yield places and results as they come; tell of rounds meanwhile.

        Raises:
            Exception: whatever stopped a task, or keeps one from being begun.
        """
        taken: set[Future[bytes]] = set()
        while True:
            with self._lock:
                if not self._running.keys() - taken:
                    self._fill()  # nothing goes on, so nothing that ends would begin the rest
                left = self._running.keys() - taken
            if not left:
                break
            done, _ = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            self._drain()
            while self._news:
                on_round(*self._news.popleft())
            for one in sorted(done, key=lambda task: self._running[task]):
                taken.add(one)
                yield self._running[one], one.result()  # raises what stopped it

    def close(self, *, stop: bool) -> None:
        """Wait for what goes on, which stops after its round if that is asked."""
        if stop:
            self._stop.set()
        with self._lock:
            self._waiting.clear()
        self._executor.shutdown(cancel_futures=True)
        self._over.set()
        self._reader.join()
        self._told.close()

    def _read(self) -> None:
        while not self._over.wait(_READ_SECONDS):
            self._drain()

    def _drain(self) -> None:
        with self._reading:  # else one might wait for what the other has taken
            while not self._told.empty():
                self._news.append(self._told.get())


def _context(threads: int) -> Any:
    """Return how processes are made: not forked from here, as torch's threads survive no fork.

    On Linux they are forked from a process that has loaded what a training needs and started no
    thread: to load it takes seconds, and so it is done once, and at the same time as other things.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _threads_set(threads):  # numpy and torch read it when they load
        forkserver.ensure_running()
    return context


@contextmanager
def _threads_set(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(job: Job, place: int) -> bytes:
    """Train a job in a process of the pool; return its adapter's bytes."""
    return _train(job, place, lambda *news: caller.tell(news)).to_bytes()


def _train(job: Job, place: int, on_round: OnRound) -> AdapterState:
    watch = Watch(on_round=lambda record, _: on_round(place, record))
    return run_federation(job.federation, job.settings, job.folder, job.cache, watch).adapter
