"""Runs of the real sampler, clip, order and noise, without a model: what their canaries prove."""

import functools

import numpy as np

from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.empirical_bound import audit_canaries
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.sampling import poisson_sample

CANARIES, CLAIM = 512, 4.0


@functools.cache
def plan_at_four(steps):
    return solve_plan(
        epsilon=CLAIM,
        delta=1e-5,
        sample_rate=0.25,
        steps=steps,
        max_grad_norm=1.0,
        size_bracket=400,
        popularity_share=0.0,
        steps_per_round=steps,
    )


def audited_run(folder, seed, protect, *, steps=50, numbers=6):
    """One run over an adapter of so many numbers, with this `protect`; what its audit finds."""
    plan, source = plan_at_four(steps), NoiseSource.for_tests(seed)
    ledger = Ledger.open(folder / f"{seed}.sqlite", "ash", "f" * 64)
    charge = ledger.append(
        plan,
        run_id="1",
        round_number=1,
        kind="train",
        admit=lambda entries: None,
        seeded_noise=True,
    )
    record = start_record("ash", str(seed), plan, CANARIES, NoiseSource.for_tests(seed, "bits"))
    rows = np.random.default_rng(seed).normal(size=(10, numbers))
    for _ in range(plan.steps):
        sampled = poisson_sample(plan, 10, source, canaries=CANARIES)
        virtual = clip_and_sum(record.included(sampled[10:], 1.0), 1.0)
        own = clip_and_sum(rows[sampled[:10]], 1.0)
        total = own.with_canaries(virtual, record.order(numbers, 1))
        record = record.observed(1, protect(total, charge, source).canaries, 1.0)
    return audit_canaries(record.open())
