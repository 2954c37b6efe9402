"""The release gate in a simulation: a release is judged on public shoppers before it is signed."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.shop.dataset import MerchantData
from common.errors import InputError
from common.settings.run import RunSettings
from server.releases.gate import GateDecision, decide_release
from simulations.data.datasets import load_dataset
from simulations.data.marketplace import make_marketplace, other_shoppers
from simulations.data.shop import Shop
from simulations.data.validation_only import validation_only
from simulations.evaluation.evaluator import make_evaluators
from simulations.federation.runner import FinishedRun
from simulations.options import NO_HOLDOUT, SimulationOptions
from simulations.results.sections import GateCheck, GateRecord

APART: Final = 1_000_000_007  # added to the seed
APART_SHOPPERS: Final = 4000  # fewer, and which of them are drawn decides


def load_holdout(options: SimulationOptions, private: MerchantData, cache: Path) -> Shop | None:
    """Return the shop whose shoppers are public, None where there is none.

    A data folder counts as public because whoever names it says so. Of the synthetic marketplace
    other shoppers are made, who are declared public.

    Raises:
        InputError: if there is nothing to judge on, or purchases of the private shoppers are in it:
            a gate that reads them would tell of them without being paid for.
    """
    asked = options.public_holdout
    if asked == NO_HOLDOUT or (asked is None and options.data is not None):
        return None
    if asked is None:
        market = make_marketplace(seed=options.partition_seed)
        data = other_shoppers(market, APART_SHOPPERS, options.partition_seed + APART)
    else:
        data = load_dataset(Path(asked), seed=0, cache=cache / "imports")
    if options.validation_only:
        data = validation_only(data)
    check_apart(data, private)
    shop = Shop.of(data)
    if not len(shop.test_cases):
        raise InputError(
            f"The public hold-out {data.name} has no shopper who buys anything new in its test "
            "period.",
            field="public_holdout",
        )
    return shop


def check_apart(holdout: MerchantData, private: MerchantData) -> None:
    """Refuse a hold-out that has a purchase of the private data: same shopper, item text and time.

    It finds the data itself, a part of it or an older copy. It cannot find the same people under
    other names: that they are not is what the operator declares.

    Raises:
        InputError: it says how many rows, and shows none.
    """
    shared = np.intersect1d(_rows(holdout), _rows(private))
    if len(shared):
        raise InputError(
            f"{len(shared)} purchases of the public hold-out {holdout.name} are in the private "
            "data as well. A release may not be judged on the shoppers it protects.",
            field="public_holdout",
        )


def _rows(data: MerchantData) -> NDArray[np.void]:
    """Return one value of 24 bytes for each row: shopper's name, item's text, time."""
    names = b"".join(
        hashlib.sha256(name.encode()).digest()[:8] for name in data.interactions.shopper_ids
    )
    rows = data.interactions
    told = np.stack(
        [
            np.frombuffer(names, "<u8")[rows.shopper],
            data.catalogue.text_keys[rows.item],
            rows.time.astype(np.uint64),
        ],
        axis=1,
    )
    return np.ascontiguousarray(told).view(np.dtype((np.void, 24))).ravel()


def gate_release(
    holdout: Shop | None, run: FinishedRun, settings: RunSettings, cache: Path
) -> GateRecord | None:
    """Evaluate the release on the public shop; None where there is no hold-out.

    Both sides read histories with a decay fitted on the hold-out's own validation period.
    """
    if holdout is None:
        return None
    [evaluator] = make_evaluators([holdout], run.basis, settings, cache)
    release, frozen = (
        evaluator.evaluate(evaluator.text(adapter).score).per_shopper
        for adapter in (run.adapter, None)
    )
    return gate_record(
        decide_release(release, frozen, seed=settings.seed), holdout=holdout.data.name
    )


def gate_record(decision: GateDecision, *, holdout: str) -> GateRecord:
    """Return a decision as results.json has it."""
    return GateRecord(
        holdout=holdout,
        cases=decision.cases,
        passed=decision.passed,
        reason=decision.reason,
        checks=[
            GateCheck(
                **{name: value for name, value in vars(one).items() if name != "difference"},
                **asdict(one.difference),
            )
            for one in decision.checks
        ],
    )
