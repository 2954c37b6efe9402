"""What the audit's canaries add to a step: coins, clip, order, noise and the record on disk."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from client.privacy.canaries import CanaryBook
from common.privacy.ledger.ledger import Charge, Ledger
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum
from common.privacy.mechanism.noise import NoiseSource, protect
from common.privacy.mechanism.sampling import poisson_sample
from common.settings.run import RunSettings
from simulations.benchmarks.rows import Row, of_repeats

REPEATS = 40  # a run's rounds: the record on disk grows by one step each time
ADAPTER_NUMBERS = 6144  # of the default adapter in its noise basis


def rows() -> Iterator[Row]:
    """Yield what the default number of canaries adds to a step, by both clocks."""
    settings = RunSettings()
    plan = settings.plan()
    own = clip_and_sum(np.zeros((0, ADAPTER_NUMBERS)), plan.max_grad_norm)
    with TemporaryDirectory() as folder:
        book = CanaryBook(Path(folder), "bench")
        ledger = Ledger.open(Path(folder) / "ledger.sqlite", "bench", "0" * 64)

        def charge(number: int) -> Charge:
            return ledger.append(
                plan, run_id="1", round_number=number, kind="train", admit=lambda _: None
            )

        added = []
        for number in range(1, REPEATS + 1):
            with_canaries, without = charge(number), charge(number)
            source = NoiseSource.secure()
            began = _clocks()
            _step(book, settings, own, with_canaries, source)
            between = _clocks()
            protect(own, without, source)
            ended = _clocks()
            added.append(2 * between - began - ended)
    wall, processor = 1000 * np.transpose(added)
    yield of_repeats("what canaries add to a step, of the processor", processor.tolist(), "ms")
    yield of_repeats("the same by the clock, with the disk's sync", wall.tolist(), "ms")


def _step(
    book: CanaryBook,
    settings: RunSettings,
    own: ClippedSum,
    charge: Charge,
    source: NoiseSource,
) -> None:
    """Take a step with canaries, from the record on disk to the record on disk."""
    plan = charge.plan
    record = book.to_train(plan, 1, settings.audit_canaries)
    if record is None:
        protect(own, charge, source)
        return
    sampled = poisson_sample(plan, 0, source, len(record.bits))
    virtual = record.included(sampled, plan.max_grad_norm)
    clipped = own.with_canaries(
        clip_and_sum(virtual, plan.max_grad_norm),
        record.order(own.vector.size, charge.entry.round_number),
    )
    protected = protect(clipped, charge, source)
    record = record.observed(protected.round_number, protected.canaries, plan.max_grad_norm)
    book.save(record.bound_to(protected.averaged().astype(np.float32)))


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])
