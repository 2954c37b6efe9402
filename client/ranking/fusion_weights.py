"""Fit the gate on the merchant's own validation period, and fall back where it does not help.

The public default stands unless another gate is clearly better there, beyond the luck of the best
of many, and does not clearly cost overall accuracy. Whatever stands is dropped for a single part
that alone did clearly better.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker, Gate
from client.ranking.model_selection import clearly_better
from client.ranking.validation import Validation
from client.shop.interactions import Interactions
from common.catalogue import popularity_buckets
from common.evaluation.metrics import ndcg, rank_scores, recall

DEFAULT_GATE = Gate()
UNTIMED_GATE = replace(DEFAULT_GATE, unsold=1)  # see docs/adr/0033-a-gate-without-a-clock.md
TEXT_ALONE = Gate(own=0, level=1, rise=0, trend=0, unsold=0)
OWN_ALONE = Gate(own=1, level=0, rise=0, trend=0, unsold=0)
OWN_AND_TREND = Gate(own=1, level=0, rise=0, trend=1.5, unsold=0)  # a shop without titles

CANDIDATES = {
    "level": (0.0, 0.1, 0.3, 0.6, 1.0, 2.0),
    "rise": (0.0, 0.3, 0.6, 1.0, 1.5),
    "trend": (0.0, 1.0, 2.0, 3.0),
    "unsold": (0.0, 1.0, 2.0, 3.0, 4.0),
}
PASSES = 2  # over the four numbers in turn
MAX_CASES = 1000  # more shoppers decide no better, and take longer
SEARCH_ERRORS = 3.0  # the best of some forty gates is above the default by luck more often than one

Floats = NDArray[np.float64]


class Objectives(NamedTuple):
    """What each case adds to the worth of a gate: float64 [cases] each; a mean is the worth.

    Attributes:
        objective: NDCG@10 + recall@10 of tail items + recall@10 of unsold ones. A ranking that
            forgets what sells rarely, or not yet, is not a good one.
        ndcg: NDCG@10 alone.
    """

    objective: Floats
    ndcg: Floats


def default_gate(past: Interactions) -> Gate:
    """Return the public gate that a shop starts from.

    Where purchases have an order and no clock, what never sold is seldom new: it is what nobody
    wanted, and asks for less.
    """
    return DEFAULT_GATE if past.timed else UNTIMED_GATE


@dataclass(frozen=True, eq=False)
class GateTrial:
    """One merchant's ranker and validation period, on which gates are compared.

    Attributes:
        ranker: Fitted on purchases before the validation period; its gate is the public default.
        validation: Cases after it.
    """

    ranker: FusedRanker
    validation: Validation

    @cached_property
    def _parts(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.ranker.unweighed(self.validation.history)

    def objectives(self, gate: Gate) -> Objectives:
        """Return a gate's worth, case by case."""
        validation, ranker = self.validation, self.ranker
        own, text = self._parts

        def score(rows: slice) -> NDArray[np.float32]:
            parts = gate.weighed(own[rows], text[rows], ranker.sales, ranker.trend)
            bought, told, rising, unsold = parts
            return bought + told + (rising + unsold)

        ranking = rank_scores(score, validation.seen, 10)
        overall = np.nan_to_num(ndcg(ranking, validation.relevant))
        found = overall.copy()
        for bucket in (popularity_buckets(ranker.sales).tail, ranker.sales == 0):
            recalled = recall(ranking, validation.relevant, bucket)
            known = ~np.isnan(recalled)
            if known.any():  # its mean over all cases is the mean over those it is known for
                found += np.where(known, recalled, 0) * len(known) / known.sum()
        return Objectives(found, overall)


def fit_gate(ranker: FusedRanker, validation: Validation) -> Gate:
    """Return the gate for a merchant.

    A shop without a sale uses the text alone; one without validation cases the default.

    Args:
        ranker: Fitted on purchases before the validation period; its gate is the public default.
        validation: Cases after it.
    """
    if not ranker.sales.any():
        return TEXT_ALONE
    if not len(validation.history):
        return ranker.gate
    trial = GateTrial(ranker, validation.thinned(MAX_CASES))
    default = trial.objectives(ranker.gate)
    best, found = _climb(trial, default)
    if not clearly_better(found, default.objective, SEARCH_ERRORS):
        best, found = ranker.gate, default.objective
    for part in (TEXT_ALONE, OWN_ALONE, OWN_AND_TREND):
        alone = trial.objectives(part).objective
        if clearly_better(alone, found):
            best, found = part, alone
    return best


def _climb(trial: GateTrial, start: Objectives) -> tuple[Gate, Floats]:
    """Return the best gate found by changing one number at a time, and its objectives [cases].

    One whose NDCG@10 is clearly below that of `start` is passed over: objective would let a gate
    win by unsold items alone, of which a shop sells few.
    """
    best = trial.ranker.gate
    tried = {best: start.objective}
    for _ in range(PASSES):
        before = best
        for field in fields(Gate):
            for value in CANDIDATES.get(field.name, ()):
                gate = replace(best, **{field.name: value})
                if gate not in tried:
                    objective, overall = trial.objectives(gate)
                    costly = clearly_better(start.ndcg, overall)
                    tried[gate] = np.full_like(objective, -np.inf) if costly else objective
            best = max(tried, key=lambda gate: tried[gate].mean())
        if best == before:
            break
    return best, tried[best]
