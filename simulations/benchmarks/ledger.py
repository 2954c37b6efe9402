"""What a ledger costs: to append one entry to it, and to say what all of it has spent."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from client.privacy.budget import charge_round
from client.privacy.policy import Policy
from common.privacy.accounting.accountants import AccountantReport, MechanismEvent, account
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings

ENTRIES = 200
DELTA = 1e-5
APPEND_LIMIT = 0.010  # seconds for one entry, on disk
EPSILON_LIMIT = 5.0  # seconds for epsilon of ENTRIES by all three accountants


@dataclass(frozen=True)
class MeasuredLedger:
    """Seconds, on a ledger of ENTRIES.

    Attributes:
        append: Median of one append, forced to disk.
        append_processor: Mean of the same in processor time.
        charge: Median of one charge: policy, budget and receipts are checked as well.
        distinct: How many distinct events the entries have.
        wall: Epsilon of all entries by PLD, PRV and RDP, nothing known before.
        processor: The same in processor time, which a busy machine stretches less.
        report: What they found.
    """

    append: float
    append_processor: float
    charge: float
    distinct: int
    wall: float
    processor: float
    report: AccountantReport


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


def measure_ledger(distinct: int) -> MeasuredLedger:
    """Fill a ledger with one round of each of ENTRIES plans, then account for it."""
    plans = mixed_plans(distinct)
    account([MechanismEvent(0.5, 5.0, 2)], DELTA)  # imports torch by way of Opacus
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "ledger.sqlite", "bench", "0" * 64)
        worked = time.process_time()
        appends = [_seconds_of_append(ledger, plan, place) for place, plan in enumerate(plans, 1)]
        append_processor = (time.process_time() - worked) / ENTRIES
        events = spent_events(ledger.entries())
        began, worked = time.perf_counter(), time.process_time()
        report = account(events, DELTA)
        wall, processor = time.perf_counter() - began, time.process_time() - worked
        charge = _seconds_of_charge(ledger, plans[0])
    return MeasuredLedger(
        append=median(appends),
        append_processor=append_processor,
        charge=charge,
        distinct=len(events),
        wall=wall,
        processor=processor,
        report=report,
    )


def _seconds_of_append(ledger: Ledger, plan: PrivacyPlan, number: int) -> float:
    began = time.perf_counter()
    ledger.append(plan, run_id="1", round_number=number, kind="train", admit=lambda _: None)
    return time.perf_counter() - began


def _seconds_of_charge(ledger: Ledger, plan: PrivacyPlan) -> float:
    policy = Policy(max_epsilon=1000.0, max_run_epsilon=1000.0)
    taken = []
    for number in range(20):
        began = time.perf_counter()
        charge_round(ledger, plan, policy, "2", number, "train")
        taken.append(time.perf_counter() - began)
    return median(taken)
