"""Runs whose server sees sums alone: real sampler, clip, order, shares; no model, and no masks."""

import functools
from types import SimpleNamespace

import numpy as np

from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.sampling import poisson_sample
from common.privacy.mechanism.shares import protect_share, share_form
from common.privacy.mechanism.sum_canaries import CanarySums, owned_canaries

CANARIES, CLAIM, NUMBERS = 512, 1.0, 16
SHOPS = tuple(f"shop {number}" for number in range(8))


@functools.cache
def shared_plan(steps):
    return solve_plan(
        epsilon=CLAIM,
        delta=1e-5,
        sample_rate=0.25,
        steps=steps,
        max_grad_norm=1.0,
        size_bracket=400,
        popularity_share=0.0,
        dp_model="distributed",
        merchants=len(SHOPS),
    )


def paid(plan, number):
    """A charge that nothing is written for: a ledger would take most of the time of such a run."""
    entry = SimpleNamespace(
        kind="train", round_number=number, plan_digest=plan.digest, seeded_noise=True
    )
    return SimpleNamespace(plan=plan, entry=entry, use_step=lambda: None)


def run_of_sums(seed, protect=protect_share, *, steps=40, missing=lambda number: ()):
    """Return what a run's sums showed in their columns, and the revealed records by merchant.

    Args:
        seed: Of noise, bits and rows.
        protect: Makes a merchant's share; called as `protect_share`, and with the merchant's place.
        steps: How many rounds.
        missing: The merchants that drop out of a round, by its number.
    """
    plan = shared_plan(steps)
    form = share_form(plan, "train", NUMBERS + CANARIES).form
    records, sources = {}, {}
    for name in SHOPS:
        bits = NoiseSource.for_tests(seed, name, "bits")
        records[name] = start_record(name, str(seed), plan, CANARIES, bits)
        sources[name] = NoiseSource.for_tests(seed, name)
    sums = CanarySums.start(str(seed), plan.to_json(), SHOPS, CANARIES)
    rows = np.random.default_rng(seed).normal(size=(10, NUMBERS))
    for number in range(1, steps + 1):
        there = [name for name in SHOPS if name not in missing(number)]
        total = np.zeros(NUMBERS + CANARIES, np.uint64)
        for name in there:
            sampled = poisson_sample(plan, 10, sources[name], canaries=CANARIES)
            own = owned_canaries(SHOPS, name, CANARIES)
            virtual = clip_and_sum(records[name].included(sampled[10:] & own, 1.0), 1.0)
            clipped = clip_and_sum(rows[sampled[:10]], 1.0).with_canaries(
                virtual, records[name].order(NUMBERS, number)
            )
            share = protect(clipped, paid(plan, number), sources[name])
            total += share.integers.view(np.uint64)
        sums = sums.observed(number, there, form.decode(total)[NUMBERS:], 1.0)
    return sums, {name: record.open() for name, record in records.items()}
