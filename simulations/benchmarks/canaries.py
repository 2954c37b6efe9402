"""What the audit's canaries add to a step: their coins, clip, noise and record on disk."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from client.privacy.canaries import CanaryBook
from client.training.dp_trainer import ROUNDING_MARGIN
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource, protect
from common.privacy.mechanism.sampling import poisson_sample
from common.settings.run import RunSettings

REPEATS = 40  # a run's rounds: the record on disk grows by one step each time


def measure_canaries() -> float:
    """Return the median seconds that the default number of canaries adds to a step."""
    settings = RunSettings()
    plan = settings.plan()
    with TemporaryDirectory() as folder:
        book = CanaryBook(Path(folder), "bench")
        ledger = Ledger.open(Path(folder) / "ledger.sqlite", "bench", "0" * 64)
        taken = []
        for number in range(1, REPEATS + 1):
            charge = ledger.append(
                plan, run_id="1", round_number=number, kind="train", admit=lambda _: None
            )
            source = NoiseSource.secure()
            began = time.perf_counter()
            record = book.to_train(plan, 1, settings.audit_canaries)
            if record is None:
                return 0.0
            sampled = poisson_sample(plan, 0, source, len(record.bits))
            clipped = clip_and_sum(np.zeros((0, 0)), plan.max_grad_norm).with_canaries(
                clip_and_sum(
                    record.included(sampled, plan.max_grad_norm),
                    plan.max_grad_norm,
                    margin=ROUNDING_MARGIN,
                )
            )
            canaries = protect(clipped, charge, source).canaries
            book.save(record.observed(number, canaries, plan.max_grad_norm))
            taken.append(time.perf_counter() - began)
    return median(taken)
