"""Before the first round: does one shopper move this model's clipped sum by at most C?

The clip bounds a shopper's own row. It bounds nothing if the row of one shopper depends on another:
negatives out of the batch, an encoder shared by its items, a statistic over purchases, chance that
goes by a shopper's place. So the same step is replayed in the shop and in the shop without a
shopper, on the merchant's own model and data and with the same randomness, and the change must be
that shopper's clipped row and nothing else.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.training.dp_trainer import ROUNDING_MARGIN, PrivateTrainer
from common.adapter import AdapterState
from common.errors import PrivacyError
from common.files import PRIVATE_MODE, write_atomic
from common.privacy.accounting.plan import PrivacyPlan

PREFLIGHT_FILE = "preflight.json"
COMPANY = 12  # shoppers in the replayed step
LEFT_OUT = 4  # how many of them are left out, one at a time
_EXACT = 1e-9  # of C: clipped sums are multiples of a grid, far below their float64's rounding


def check_sensitivity(trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan) -> None:
    """Replay a step with and without a shopper, a few times.

    Args:
        trainer: On the merchant's shoppers.
        adapter: Where the step is taken.
        plan: Its C is the bound.

    Raises:
        PrivacyError: field `sensitivity`, if the sum moved by more than C, or if those who stayed
            moved by more than rounding. It says nothing of a shopper; that a model is refused may
            depend on them, which is why no round is run with a model that was refused once.

    Formal guarantee:
        None: it finds models that break the bound on these shoppers. What proves the bound is
        `clip_and_sum` together with the independence of rows that is tested here.
    """
    trainer.start_at(adapter)

    def replayed(shoppers: NDArray[np.int64]) -> NDArray[np.float64]:
        return trainer.clipped_sum(shoppers, plan, np.random.default_rng(0)).vector

    company = _company(trainer)
    whole = replayed(company)
    for left_out in company[:LEFT_OUT].tolist():
        stay = company[company != left_out]
        with trainer.shop_without(left_out):
            less = replayed(stay - (stay > left_out))
        alone = replayed(np.array([left_out]))
        change = float(np.linalg.norm(whole - less)) / plan.max_grad_norm
        others = float(np.linalg.norm(whole - less - alone)) / plan.max_grad_norm
        # Not "greater than": a number that is not a number is refused as well.
        if not (change <= 1 + _EXACT and others <= ROUNDING_MARGIN):
            raise PrivacyError(
                "The model's sensitivity is not max_grad_norm: leaving a shopper out moves the "
                "clipped sum by more than that shopper's own contribution. Nothing was trained.",
                field="sensitivity",
            )


def check_once(
    state: Path, key: str, trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan
) -> None:
    """Check a model before its first round on this node, and keep the outcome on disk.

    Args:
        state: The node's folder.
        key: Names model, settings and data; another key is checked anew.
        trainer: As in `check_sensitivity`, like the arguments after it.
        adapter: See there.
        plan: See there.

    Raises:
        PrivacyError: as `check_sensitivity`, also where this key was refused before.
    """
    path = state / PREFLIGHT_FILE
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError):
        held = None  # no outcome, or a broken file: check
    known = isinstance(held, dict) and held.get("key") == key
    if known and held.get("passed") is True:
        return
    if known and held.get("passed") is False:
        raise PrivacyError("This model was refused before on this data.", field="sensitivity")
    try:
        check_sensitivity(trainer, adapter, plan)
    except PrivacyError:
        write_atomic(path, _outcome(key, passed=False), mode=PRIVATE_MODE)
        raise
    write_atomic(path, _outcome(key, passed=True), mode=PRIVATE_MODE)


def _outcome(key: str, *, passed: bool) -> bytes:
    return json.dumps({"key": key, "passed": passed}, sort_keys=True).encode()


def _company(trainer: PrivateTrainer) -> NDArray[np.int64]:
    """Return up to COMPANY shoppers with purchases, chosen by chance."""
    shoppers = trainer.shoppers_with_history()
    count = min(COMPANY, len(shoppers))
    return np.random.default_rng(0).choice(shoppers, count, replace=False)
