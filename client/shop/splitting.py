"""Split purchases into training, validation and test, and say who is evaluated on what."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.interactions import Interactions
from common.errors import InputError

MIN_ITEMS_TO_LEAVE_OUT = 3  # one item each for training, validation and test
TRAIN_SHARE = 0.70  # of the purchases, where nobody named dates
PAST_SHARE = 0.85  # training and validation together
MIN_SHOPPERS = 2  # whom a model learns from, chooses by and is judged on


@dataclass(frozen=True)
class SplitRule:
    """How purchases are divided. Public: the same rule goes to every merchant.

    Attributes:
        kind: `time` cuts all shoppers at the same two clock times. `leave_last_out` cuts each
            shopper before the first purchase of its last two distinct items, for data that have
            an order and no clock. It lets a model see other shoppers' later purchases, so a
            report must say when it was used.
        valid_from: Start of validation, microseconds since 1970 UTC; read by `time` only.
        test_from: Start of test, the same unit.

    Raises:
        InputError: if the kind is unknown, or validation would start after test.
    """

    kind: Literal["time", "leave_last_out"]
    valid_from: int = 0
    test_from: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("time", "leave_last_out"):
            raise InputError(
                f"The split kind is {self.kind!r}; it must be time or leave_last_out.", field="kind"
            )
        if self.kind == "time" and self.valid_from > self.test_from:
            raise InputError(
                f"valid_from ({self.valid_from}) lies after test_from ({self.test_from}).",
                field="valid_from",
            )


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts that together hold each row once; shopper indices are the same in all."""

    train: Interactions
    valid: Interactions
    test: Interactions


def split_interactions(interactions: Interactions, rule: SplitRule) -> Split:
    """Divide `interactions` by `rule`.

    `time`: train < valid_from <= valid < test_from <= test.

    `leave_last_out`: a shopper's items are ordered by first purchase, (time, item index). Test
    begins with the first purchase of the last item and validation with that of the one before;
    a repeat purchase falls in the part of its own time, so no part looks ahead within a shopper.
    A shopper with fewer than 3 distinct items stays in train whole.

    Raises:
        InputError: if the rule is `time` and the interactions have no clock time.
    """
    if rule.kind == "time":
        if not interactions.timed:
            raise InputError(
                "These interactions have an order but no clock time; split by leave_last_out.",
                field="kind",
            )
        part = np.searchsorted([rule.valid_from, rule.test_from], interactions.time, side="right")
    else:
        part = _leave_last_out(interactions)
    train, valid, test = (interactions.where(part == number) for number in range(3))
    return Split(train=train, valid=valid, test=test)


def usual_rule(interactions: Interactions) -> SplitRule:
    """Return the split where nobody named one: 70% of purchases, then 15%, then 15%.

    Shares of purchases and not of the time span: one purchase of 1999 would else make a period
    of twenty years that is empty. A period starts at the purchase time nearest to its share, and
    never so that a part is empty. Without a clock, or with fewer than three distinct times, the
    last items of each shopper are left out.
    """
    times, counts = np.unique(interactions.time, return_counts=True)
    if not interactions.timed or len(times) < MIN_ITEMS_TO_LEAVE_OUT:
        return SplitRule("leave_last_out")
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]) / counts.sum()
    valid = 1 + int(np.argmin(np.abs(before[1:-1] - TRAIN_SHARE)))
    test = valid + 1 + int(np.argmin(np.abs(before[valid + 1 :] - PAST_SHARE)))
    return SplitRule("time", valid_from=int(times[valid]), test_from=int(times[test]))


def require_enough(split: Split, *, to_test: bool = True) -> None:
    """Refuse a data set of which nobody could be learnt from, chosen by or judged on.

    Asked before any budget is spent, and on the merchant's own machine: the answer depends on its
    shoppers, so it is never sent to a server.

    Args:
        split: The parts.
        to_test: Whether the test period is needed; a node has no use for one.

    Raises:
        InputError: naming the part, how many shoppers it has and how many it needs.
    """
    train = len(np.unique(split.train.shopper))
    found = {"train": train, "validate": len(evaluation_cases(split.train, split.valid))}
    if to_test:
        found["test"] = len(evaluation_cases(join(split.train, split.valid), split.test))
    for part, shoppers in found.items():
        if shoppers < MIN_SHOPPERS:
            whom = "shoppers" if part == "train" else "shoppers with a past who buy something new"
            raise InputError(
                f"[split] leaves too few to {part}: {shoppers} {whom}; at least {MIN_SHOPPERS} are "
                "needed. Name other dates under [split] and import again, or bring more purchases. "
                "No budget was spent.",
                field="split",
            )


def _leave_last_out(interactions: Interactions) -> NDArray[np.int64]:
    """Return each row's part [n]: 0 train, 1 validation, 2 test."""
    pair = interactions.shopper.astype(np.int64) * interactions.item_count + interactions.item
    first = np.zeros(len(pair), dtype=np.int64)
    first[np.unique(pair, return_index=True)[1]] = 1  # rows are in order: index = first purchase
    distinct = np.zeros(interactions.shopper_count, dtype=np.int64)
    np.add.at(distinct, interactions.shopper, first)
    before_shopper = np.cumsum(distinct) - distinct
    met = np.cumsum(first) - before_shopper[interactions.shopper]  # distinct items up to the row
    total = distinct[interactions.shopper]
    part = np.maximum(met - total + 2, 0)
    part[total < MIN_ITEMS_TO_LEAVE_OUT] = 0
    return part


def join(first: Interactions, second: Interactions) -> Interactions:
    """Return the rows of both, sorted by shopper, time and item.

    Raises:
        InputError: if the two do not speak of the same shoppers, catalogue and kind of time.
    """
    same_shoppers = (
        first.shopper_ids is second.shopper_ids or first.shopper_ids == second.shopper_ids
    )
    if not same_shoppers or first.item_count != second.item_count or first.timed != second.timed:
        raise InputError(
            "Only parts of the same interactions can be joined: the shoppers, the number of items "
            "or the kind of time differ.",
            field="interactions",
        )
    shopper = np.concatenate([first.shopper, second.shopper])
    item = np.concatenate([first.item, second.item])
    time = np.concatenate([first.time, second.time])
    # Parts by time follow each other within a shopper, and putting shoppers together is enough.
    order = np.argsort(shopper, kind="stable")
    if not _in_order(shopper[order], time[order], item[order]):
        order = np.lexsort((item, time, shopper))
    return replace(
        first,
        shopper=shopper[order],
        item=item[order],
        time=time[order],
        basket=np.concatenate([first.basket, second.basket])[order],
        value=np.concatenate([first.value, second.value])[order],
    )


def _in_order(shopper: NDArray[np.int32], time: NDArray[np.int64], item: NDArray[np.int32]) -> bool:
    """Tell whether rows sorted by shopper are sorted by time and then item within each."""
    later = time[1:] > time[:-1]
    later |= (time[1:] == time[:-1]) & (item[1:] >= item[:-1])
    later |= shopper[1:] != shopper[:-1]
    return bool(later.all())


@dataclass(frozen=True, eq=False)
class Cases:
    """Who is evaluated and on what.

    Attributes:
        shoppers: int32 [c], sorted indices of shoppers with at least one item in the history and
            at least one new item.
        seen: CSR [c, items] of ones, items in the history; they are excluded from ranking.
        relevant: CSR [c, items] of ones, first purchases in the future period: never in `seen`.
    """

    shoppers: NDArray[np.int32]
    seen: csr_matrix
    relevant: csr_matrix

    def __len__(self) -> int:
        return len(self.shoppers)

    def take(self, places: NDArray[np.integer]) -> "Cases":
        """Return the cases at `places` (sorted), in that order."""
        return Cases(self.shoppers[places], self.seen[places], self.relevant[places])

    def thinned(self, most: int) -> "Cases":
        """Return at most `most` cases, taken at even steps."""
        if len(self) <= most:
            return self
        return self.take(np.arange(most) * len(self) // most)


def evaluation_cases(history: Interactions, future: Interactions) -> Cases:
    """Return the shoppers who have a history and buy something new in `future`.

    For the test period `history` is training and validation joined.

    Raises:
        InputError: if the two do not speak of the same shoppers and catalogue.
    """
    if (history.shopper_count, history.item_count) != (future.shopper_count, future.item_count):
        raise InputError(
            "History and future differ in their number of shoppers or items.", field="interactions"
        )
    seen = history.matrix()
    bought = future.matrix()
    relevant = csr_matrix(bought - bought.multiply(seen))
    relevant.eliminate_zeros()
    relevant.sort_indices()
    has_both = (np.diff(seen.indptr) > 0) & (np.diff(relevant.indptr) > 0)
    shoppers = np.flatnonzero(has_both).astype(np.int32)
    return Cases(shoppers=shoppers, seen=seen[shoppers], relevant=relevant[shoppers])
