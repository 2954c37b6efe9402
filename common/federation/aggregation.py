"""What the coordinator computes from the nodes' protected numbers. Pure: arrays in, arrays out.

Everything here is post-processing of what the nodes have noised (with DP model `central`, of
what this module's caller has), so it costs no privacy. Sums run in float64 in the order of the
merchants' names, so a result does not depend on who answered first.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError
from common.settings.run import MOST_POPULARITY_RATIO

FloatVector = NDArray[np.float64]
Aggregation = Literal["mean", "trimmed_mean", "median", "capped_mean"]
SMOOTHING = 2.0  # mean counts that are added to each count


def sum_updates(updates: Mapping[str, NDArray[np.float32]]) -> FloatVector:
    """Return the sum [d] of the updates by merchant, in float64 and in order of names.

    Raises:
        FederationError: if there is no update, or two differ in length.
    """
    if not updates:
        raise FederationError("There is no update to aggregate.", field="updates")
    names = sorted(updates)
    total = np.zeros(updates[names[0]].shape, dtype=np.float64)
    for name in names:
        if updates[name].shape != total.shape:
            raise FederationError("Two updates differ in length.", field="updates")
        total += updates[name]
    return total


def mean_update(updates: Mapping[str, NDArray[np.float32]]) -> FloatVector:
    """Return the uniform mean [d] of the updates by merchant.

    Every merchant weighs the same: a weight by number of shoppers would tell that number.

    Raises:
        FederationError: if there is no update, or two differ in length.
    """
    return sum_updates(updates) / len(updates)


@dataclass(frozen=True)
class Aggregator:
    """The rule by which a round's updates become one gradient. Pure, and the same to the bit.

    Each sees updates that carry their own noise, so it is post-processing. Sorting and comparing
    do not depend on an order, and sums run in a fixed one, so an auditor comes to the same bits.

    Attributes:
        rule: `mean`; `trimmed_mean` leaves out, of each number, the largest and smallest
            `trimmed_share` (Yin et al. 2018, "Byzantine-robust distributed learning"); `median` of
            each number (the same paper); `capped_mean` shortens each update to the round's median
            norm before the mean (norm bounding, Sun et al. 2019, "Can you really backdoor
            federated learning?").
        trimmed_share: Of the updates, rounded up, at each end; at least one update stays.
    """

    rule: Aggregation = "mean"
    trimmed_share: float = 0.25

    def __call__(self, updates: Mapping[str, NDArray[np.float32]]) -> FloatVector:
        """Return the gradient [d] of the updates by merchant.

        Raises:
            FederationError: if there is no update, or two differ in length.
        """
        if self.rule == "mean":
            return mean_update(updates)
        rows = _stacked(updates)
        if self.rule == "capped_mean":
            return _mean_of(_capped(rows))
        cut = self.trimmed(len(rows))
        return _mean_of(np.sort(rows, axis=0)[cut : len(rows) - cut])

    def trimmed(self, count: int) -> int:
        """Return how many of `count` updates are left out at each end of a number's order."""
        most = (count - 1) // 2  # one stays, or two of an even number: the median
        if self.rule == "median":
            return most
        return min(math.ceil(self.trimmed_share * count), most)


def _stacked(updates: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return float64 [merchants, d], in order of names."""
    if not updates:
        raise FederationError("There is no update to aggregate.", field="updates")
    if len({update.shape for update in updates.values()}) > 1:
        raise FederationError("Two updates differ in length.", field="updates")
    return np.stack([updates[name].astype(np.float64) for name in sorted(updates)])


def _mean_of(rows: NDArray[np.float64]) -> FloatVector:
    """Return the mean [d] of rows, added one after another."""
    total = np.zeros(rows.shape[1], dtype=np.float64)
    for row in rows:
        total += row
    return total / len(rows)


def _capped(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    # fsum rounds once, so a norm does not depend on the order in which a machine adds.
    norms = [math.sqrt(math.fsum(np.square(row))) for row in rows]
    cap = statistics.median(norms)
    factors = [min(1.0, cap / norm) if norm else 1.0 for norm in norms]
    capped: NDArray[np.float64] = rows * np.array(factors)[:, None]
    return capped


@dataclass(frozen=True, eq=False)
class Popularity:
    """How probable each distinct item text is among all merchants' purchases.

    Attributes:
        text_keys: uint64 [texts], sorted.
        probability: float64 [texts], positive, with sum 1.
    """

    text_keys: NDArray[np.uint64]
    probability: FloatVector

    def at(self, text_keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return float32 [items]: the probability of each of a node's texts, with sum 1.

        A text that no merchant has counted gets the smallest probability there is.
        """
        place = np.searchsorted(self.text_keys, text_keys).clip(max=len(self.text_keys) - 1)
        known = self.text_keys[place] == text_keys
        values: FloatVector = np.where(known, self.probability[place], self.probability.min())
        return np.asarray(values / values.sum(), dtype=np.float32)


def pool_popularity(
    counts: Mapping[str, tuple[NDArray[np.uint64], NDArray[np.float32]]], noise_std: float
) -> Popularity:
    """Return the pooled popularity from each merchant's (text keys, noised counts).

    Counts of equal texts are summed over merchants. Where the noise exceeds the count the sum may
    be negative and says nothing; it is cut at 0, and one standard deviation of the sum's noise is
    added to all, so that the logarithm of a rare item's probability does not follow the noise. At
    least SMOOTHING times the mean count (and one purchase) is added: the less is, the further
    apart the logarithms lie, so with little noise the loss would correct for popularity more
    strongly than the same strength does with much
    (docs/adr/0027-popularity-as-flat-without-noise.md).

    Args:
        counts: By merchant, uint64 [items] and float32 [items].
        noise_std: The public standard deviation of the noise in each merchant's counts.

    Raises:
        FederationError: if no merchant sent counts.
    """
    if not counts:
        raise FederationError("No merchant sent a popularity histogram.", field="popularity")
    keys = np.unique(np.concatenate([counts[name][0] for name in sorted(counts)]))
    total = np.zeros(len(keys), dtype=np.float64)
    holders = np.zeros(len(keys), dtype=np.float64)  # how many noised counts are in each sum
    for name in sorted(counts):
        place = np.searchsorted(keys, counts[name][0])
        np.add.at(total, place, counts[name][1].astype(np.float64))
        np.add.at(holders, place, 1.0)
    return popularity_of(keys, total, noise_std * math.sqrt(float(holders.mean())))


def popularity_of(keys: NDArray[np.uint64], total: FloatVector, spread: float) -> Popularity:
    """Return the popularity that noised sums of counts give: see `pool_popularity`.

    Args:
        keys: uint64 [texts], sorted.
        total: float64 [texts], over all merchants.
        spread: The public standard deviation of the noise in each.
    """
    # The mean of the sums as they came: cut at 0 first, it would grow with the noise.
    smoothed = np.maximum(total, 0.0) + max(spread, SMOOTHING * float(total.mean()), 1.0)
    # Nodes refuse a popularity that is less even, so one merchant's counts must not make it so.
    smoothed = np.minimum(smoothed, smoothed.min() * (MOST_POPULARITY_RATIO / 2))
    return Popularity(keys, smoothed / smoothed.sum())
