"""Membership inference on a release: can a shopper's loss tell whether it was trained on?

The attack knows the adapter and a shopper's whole past, and guesses from the loss alone: members
should fit better (Yeom, Giacomelli, Fredrikson and Jha 2018). How hard a shopper is anyway is taken
out by the frozen model's loss on the same examples (difficulty calibration, Watson, Guo, Cormode
and Sablayrolles 2022).

It is a simple attack on averages. That it fails proves no privacy: ε and the audit's canaries do
that.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from client.shop.interactions import Interactions
from client.training.examples import ShopperExamples
from client.training.losses import Candidates, shopper_losses
from client.training.shopper_gradients import pool_rows
from common.settings.run import RunSettings
from simulations.results.sections import MembershipTest

DRAWS: Final = 8  # cuts of a shopper's past that its loss is averaged over
SHUFFLES: Final = 400
RESAMPLES: Final = 400
_CHUNK: Final = 64  # shoppers at once

Values = NDArray[np.float64]
Vectors = NDArray[np.float32]


def membership_scores(
    past: Interactions,
    shoppers: NDArray[np.integer],
    settings: RunSettings,
    *,
    adapted: Vectors,
    frozen: Vectors,
) -> Values:
    """Return how much better each shopper's past fits the adapter than the frozen model: [n].

    Args:
        past: All that a node saw of its shoppers.
        shoppers: Indices; one whose past gives no example gets NaN.
        settings: The run's: its loss and its cuts. All items are candidates, none the likelier.
        adapted: float32 [items, d], f of each item under the adapter.
        frozen: float32 [items, d], the candidate vectors, which are also f without an adapter.
    """
    examples = ShopperExamples(past, settings)
    items = len(frozen)
    candidates = Candidates(torch.from_numpy(frozen), torch.zeros(items), torch.arange(items))
    found = np.full((DRAWS, len(shoppers)), np.nan)
    for draw in range(DRAWS):
        for start in range(0, len(shoppers), _CHUNK):
            batch = examples.draw(shoppers[start : start + _CHUNK], draw)
            with torch.inference_mode():
                losses = [
                    shopper_losses(
                        pool_rows(torch.from_numpy(vectors[batch.history_item]), batch),
                        batch,
                        candidates,
                        settings,
                    ).numpy()
                    for vectors in (frozen, adapted)
                ]
            told = np.bincount(batch.target_shopper, minlength=batch.shoppers) > 0
            gained = losses[0].astype(np.float64) - losses[1]
            found[draw, start : start + _CHUNK] = np.where(told, gained, np.nan)
    known = ~np.isnan(found)
    total = np.where(known, found, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def membership_test(
    members: Sequence[Values],
    others: Sequence[Values],
    *,
    epsilon: float,
    delta: float,
    seed: int,
) -> MembershipTest:
    """Return how well scores tell members from others, merchants taken together.

    Args:
        members: Scores of the shoppers that were trained on, an array a merchant.
        others: Of the shoppers that were not, in the same order of merchants.
        epsilon: The claim's; inf is none.
        delta: The claim's.
        seed: Of resamples and shuffles.

    The largest advantage over all thresholds is above 0 by chance alone, so `chance` gives the
    95th percentile of what shuffled membership reaches. `bound` is (e^ε - 1 + 2δ) / (e^ε + 1),
    which no attack on an (ε, δ)-private output can exceed (Humphries et al. 2020).
    """
    inside = np.concatenate(members)
    outside = np.concatenate(others)
    inside, outside = inside[~np.isnan(inside)], outside[~np.isnan(outside)]
    if not len(inside) or not len(outside):
        raise ValueError("membership needs shoppers on both sides")
    random = np.random.default_rng(seed)
    both = np.concatenate([inside, outside])
    shuffled = []
    for _ in range(SHUFFLES):
        mixed = random.permutation(both)
        shuffled.append(advantage(mixed[: len(inside)], mixed[len(inside) :]))
    resampled = [
        auc(random.choice(inside, len(inside)), random.choice(outside, len(outside)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return MembershipTest(
        auc=auc(inside, outside),
        low=float(low),
        high=float(high),
        advantage=advantage(inside, outside),
        chance=float(np.quantile(shuffled, 0.95)),
        bound=advantage_bound(epsilon, delta),
        members=len(inside),
        others=len(outside),
    )


def auc(members: Values, others: Values) -> float:
    """Return the chance that a member scores above another, ties counted half."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    above = ranks.sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


def advantage(members: Values, others: Values) -> float:
    """Return the largest true minus false positive rate over thresholds; at least 0."""
    cuts = np.unique(np.concatenate([members, others]))
    missed = np.searchsorted(np.sort(members), cuts, side="left") / len(members)
    right = np.searchsorted(np.sort(others), cuts, side="left") / len(others)
    return float(max((right - missed).max(), 0.0))


def advantage_bound(epsilon: float, delta: float) -> float:
    """Return the advantage that (ε, δ) allows any attack, 1 without noise."""
    if math.isinf(epsilon):
        return 1.0
    odds = math.exp(min(epsilon, 700.0))
    return min((odds - 1 + 2 * delta) / (odds + 1), 1.0)
