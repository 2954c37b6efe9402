"""What a ledger costs: to append one entry to it, and to say what all of it has spent."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from client.privacy.budget import charge_round
from client.privacy.policy import Policy
from common.privacy.accounting.accountants import MechanismEvent, account
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings
from simulations.benchmarks.rows import Row, of_repeats

ENTRIES = 200
DELTA = 1e-5
APPEND_LIMIT = 10.0  # ms for one entry, on disk
EPSILON_LIMIT = 5.0  # seconds for epsilon of ENTRIES by all three accountants


def mixed_plans(distinct: int) -> list[PrivacyPlan]:
    """Return ENTRIES plans of `distinct` pairs of q and sigma, drawn from those in use."""
    chooser = np.random.default_rng(0)
    plan = RunSettings().plan()
    pairs = [
        (float(chooser.choice([1.0, 0.5, 0.25, 0.1, 0.05])), float(chooser.uniform(4, 12)))
        for _ in range(distinct)
    ]
    return [
        replace(plan, sample_rate=q, noise_multiplier=sigma)
        for q, sigma in (pairs[place % distinct] for place in range(ENTRIES))
    ]


def rows() -> Iterator[Row]:
    """Fill ledgers of few and of many distinct events, and account for each."""
    for distinct in (12, 195):
        yield from _ledger_rows(distinct)


def _ledger_rows(distinct: int) -> Iterator[Row]:
    plans = mixed_plans(distinct)
    account([MechanismEvent(0.5, 5.0, 2)], DELTA)  # imports torch by way of Opacus
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "ledger.sqlite", "bench", "0" * 64)
        appends = [_ms_of_append(ledger, plan, place) for place, plan in enumerate(plans, 1)]
        told = f"a ledger of {ENTRIES} entries, {distinct} distinct: "
        yield of_repeats(f"{told}one append, by the clock", appends, "ms", target=APPEND_LIMIT)
        events = spent_events(ledger.entries())
        worked = time.process_time()
        account(events, DELTA)
        worked = time.process_time() - worked
        yield of_repeats(f"{told}ε by three accountants", [worked], "s", target=EPSILON_LIMIT)
        yield of_repeats(f"{told}one charge, by the clock", _ms_of_charges(ledger, plans[0]), "ms")


def _ms_of_append(ledger: Ledger, plan: PrivacyPlan, number: int) -> float:
    began = time.perf_counter()
    ledger.append(plan, run_id="1", round_number=number, kind="train", admit=lambda _: None)
    return 1000 * (time.perf_counter() - began)


def _ms_of_charges(ledger: Ledger, plan: PrivacyPlan) -> list[float]:
    policy = Policy(max_epsilon=1000.0, max_run_epsilon=1000.0)
    taken = []
    for number in range(20):
        began = time.perf_counter()
        charge_round(ledger, plan, policy, "2", number, "train")
        taken.append(1000 * (time.perf_counter() - began))
    return taken
