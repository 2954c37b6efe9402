"""Before the first round: does one shopper move this model's clipped sum by at most C?

The clip bounds a shopper's own row. It bounds nothing if the row of one shopper depends on another:
negatives out of the batch, an encoder shared by its items, a statistic over purchases, chance that
goes by a shopper's place. So the same step is replayed in a shop and in the shop without a shopper,
with the same randomness, and the change must be that shopper's clipped row and nothing else, to the
last bit.

The shoppers are made up, on the merchant's own catalogue, model and machine. Whether a check passes
is told to whoever asked for the run, before anything is charged; asked of real shoppers, with
settings of the asker's choice and often enough, it would tell of them.
"""

import platform
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.shop.interactions import Interactions
from client.training.dp_trainer import PrivateTrainer
from client.training.examples import ShopperExamples
from common.adapter import AdapterState
from common.encoder.device import hardware
from common.errors import PrivacyError
from common.files import PRIVATE_MODE, sha256_hex, write_atomic
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.clipping import grid

PREFLIGHT_FILE = "preflight.txt"
SHOPPERS = 36  # made up: more than are differentiated together
COMPANY = 12  # of them in the replayed step
LEFT_OUT = 4  # how many of these are left out, one at a time
_ORDERS = 2  # in which all of them are differentiated together
_ALONE = 8  # of them are differentiated alone as well
_MOST_ITEMS = 24  # that a made-up shopper buys
_ROUNDING = 2.0**-10  # of a row's norm: what differs by more is no rounding
_passed: set[bytes] = set()  # in this process, whichever of its nodes asked


def check_trainer(trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan) -> None:
    """Prove on this machine that shoppers' rows are independent, and that one moves C at most.

    Where rows that are computed together differ in rounding only, the trainer goes one shopper at
    a time from here on.

    Args:
        trainer: On any shop: its shoppers are not looked at.
        adapter: Where steps are taken.
        plan: Its C is the bound.

    Raises:
        PrivacyError: as `check_sensitivity`.
    """
    if not keeps_bits(trainer, adapter):
        trainer.one_at_a_time()
    check_sensitivity(trainer, adapter, plan)


def keeps_bits(trainer: PrivateTrainer, adapter: AdapterState) -> bool:
    """Return whether made-up shoppers' rows are the same bits alone, and in any company and order.

    True also where they differ by more than rounding, which `check_sensitivity` refuses.
    """
    trainer.start_at(adapter)
    rng = np.random.default_rng(0)
    examples = made_up_examples(trainer)
    candidates = trainer.candidates(trainer.negatives(np.random.default_rng(0)))

    def rows(shoppers: NDArray[np.integer]) -> torch.Tensor:
        return trainer.rows(examples.draw(shoppers, 0), candidates).cpu()

    whole = rows(np.arange(SHOPPERS))
    companies = [rng.permutation(SHOPPERS)[number:] for number in range(_ORDERS)]
    companies += [np.array([one]) for one in rng.permutation(SHOPPERS)[:_ALONE]]
    for shoppers in companies:
        found, expected = rows(shoppers), whole[torch.from_numpy(shoppers)]
        far = (found - expected).norm(dim=1) > _ROUNDING * expected.norm(dim=1)
        if not torch.equal(found, expected) and not far.any():
            return False
    return True


def check_sensitivity(trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan) -> None:
    """Replay a step with and without a made-up shopper, a few times.

    Args:
        trainer: On any shop: its shoppers are not looked at.
        adapter: Where the step is taken.
        plan: Its C is the bound.

    Raises:
        PrivacyError: field `sensitivity`, if the sum moved by more than C, or if those who stayed
            moved at all.

    Formal guarantee:
        Whether it raises depends on public facts alone. It finds models that break the bound on
        these shoppers; what proves the bound is `clip_and_sum` together with the independence of
        rows that is tested here.
    """
    trainer.start_at(adapter)
    examples = made_up_examples(trainer)

    def replayed(shop: ShopperExamples, shoppers: NDArray[np.int64]) -> NDArray[np.float64]:
        with trainer.training_on(shop):
            return trainer.clipped_sum(shoppers, plan, np.random.default_rng(0)).vector

    company = np.random.default_rng(1).permutation(SHOPPERS)[:COMPANY]
    whole = replayed(examples, company)
    for left_out in company[:LEFT_OUT].tolist():
        stay = company[company != left_out]
        less = replayed(examples.without(left_out), stay - (stay > left_out))
        alone = replayed(examples, np.array([left_out]))
        # Not "unequal": a number that is not a number is refused as well.
        if not (np.array_equal(whole - less, alone) and within(whole - less, plan.max_grad_norm)):
            raise PrivacyError(
                "The model's sensitivity is not max_grad_norm: leaving a made-up shopper out moves "
                "the clipped sum by more than its own contribution. Nothing was trained.",
                field="sensitivity",
            )


def within(change: NDArray[np.float64], max_grad_norm: float) -> bool:
    """Return whether a difference of two clipped sums has norm at most C, in exact arithmetic."""
    units = change / grid(max_grad_norm)  # whole numbers: sums are multiples of the grid
    if not np.isfinite(units).all():
        return False
    squares = sum(Fraction(unit) ** 2 for unit in units[units != 0].tolist())
    return squares <= (Fraction(max_grad_norm) / Fraction(grid(max_grad_norm))) ** 2


def made_up_examples(trainer: PrivateTrainer) -> ShopperExamples:
    """Return shoppers of histories long and short, whose items overlap: the same at every call."""
    return ShopperExamples(made_up_shoppers(trainer.items), trainer.settings)


def made_up_shoppers(items: int) -> Interactions:
    """Return the purchases of SHOPPERS made-up shoppers over a catalogue of `items`."""
    rng = np.random.default_rng(0)
    known = rng.permutation(items)[: 2 * _MOST_ITEMS]  # few, so that shoppers have items in common
    counts = rng.integers(2, _MOST_ITEMS + 1, SHOPPERS).clip(max=len(known))
    shopper = np.repeat(np.arange(SHOPPERS), counts)
    basket = np.concatenate([np.arange(one) * rng.integers(1, 5) // one for one in counts])
    bought = [np.sort(rng.choice(known, one, replace=False)) for one in counts]
    return Interactions(
        shopper_ids=tuple(f"made up {number}" for number in range(SHOPPERS)),
        item_count=items,
        shopper=shopper.astype(np.int32),
        item=np.concatenate(bought).astype(np.int32),
        time=basket.astype(np.int64),
        basket=basket.astype(np.int32),
        value=rng.uniform(0, 5, len(shopper)).astype(np.float32),
        timed=False,
    )


def check_once(
    state: Path, key: str, trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan
) -> None:
    """Check a model before its first round on this node, and keep on disk that it passed.

    Simulated nodes of one catalogue share a process, its code and its machine: the first one checks
    for all of them.

    Args:
        state: The node's folder.
        key: Names model, settings and catalogue; another key, library, machine, device or number
            of threads is checked anew.
        trainer: As in `check_trainer`, like the arguments after it.
        adapter: See there.
        plan: See there.

    Raises:
        PrivacyError: as `check_trainer`. It depends on public facts alone, so it may be asked for
            again.
    """
    machine = (torch.__version__, np.__version__, torch.get_num_threads(), platform.machine())
    there = hardware(trainer.device)
    mark = sha256_hex(repr((key, plan.max_grad_norm, machine, there)).encode()).encode()
    path = state / PREFLIGHT_FILE
    if mark in _passed or (path.is_file() and path.read_bytes() == mark):
        return
    check_trainer(trainer, adapter, plan)
    if not trainer.goes_one_at_a_time:  # which is found out anew by each trainer
        write_atomic(path, mark, mode=PRIVATE_MODE)
        _passed.add(mark)
