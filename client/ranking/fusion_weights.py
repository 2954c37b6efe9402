"""Fit the fusion weights on the merchant's own validation period; fall back where that is no help.

The public default stands unless other weights are clearly better there, beyond the luck of the best
of many, and do not clearly cost overall accuracy. Whatever stands is dropped for a single part that
alone did clearly better.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker, FusionWeights, Signals
from client.ranking.model_selection import clearly_better
from client.ranking.validation import Validation
from client.shop.interactions import Interactions
from common.catalogue import popularity_buckets
from common.evaluation.metrics import ndcg, rank_scores, recall

DEFAULT_WEIGHTS = FusionWeights()
_NOTHING = FusionWeights(*(0.0 for _ in fields(FusionWeights)))
UNTIMED_WEIGHTS = replace(  # see docs/adr/0033; without a clock there is no season
    DEFAULT_WEIGHTS, cold_start=1, season=0, federated_season=0, federated_prior=0
)
TEXT_ALONE = replace(_NOTHING, text=1)
COLLABORATIVE_ALONE = replace(_NOTHING, collaborative=1)
# A shop without titles.
COLLABORATIVE_AND_TREND = replace(_NOTHING, collaborative=1, trend=1.5)

CANDIDATES = {
    "text": (0.0, 0.1, 0.3, 0.6, 1.0, 2.0),
    "tail": (0.0, 0.3, 0.6, 1.0, 1.5),
    "trend": (0.0, 1.0, 2.0, 3.0),
    "cold_start": (0.0, 1.0, 2.0, 3.0, 4.0),
    "season": (0.0, 0.25, 0.5, 1.0, 1.5),
    "federated_season": (0.0, 0.25, 0.5, 1.0, 1.5),
}
PASSES = 2  # over these numbers in turn
MAX_CASES = 1000  # more shoppers decide no better, and take longer
SEARCH_ERRORS = 3.0  # the best of some forty is above the default by luck more often than one is

Floats = NDArray[np.float64]


class Objectives(NamedTuple):
    """What each case adds to the worth of weights: float64 [cases] each; a mean is the worth.

    Attributes:
        objective: NDCG@10 + recall@10 of tail items + recall@10 of cold-start items. A ranking that
            forgets what sells rarely, or not yet, is not a good one.
        ndcg: NDCG@10 alone.
    """

    objective: Floats
    ndcg: Floats


def default_fusion_weights(past: Interactions) -> FusionWeights:
    """Return the public weights that a shop starts from.

    Where purchases have an order and no clock, what never sold is seldom new: it is what nobody
    wanted, and asks for less.
    """
    return DEFAULT_WEIGHTS if past.timed else UNTIMED_WEIGHTS


@dataclass(frozen=True, eq=False)
class FusionTrial:
    """One merchant's ranker and validation period, on which weights are compared.

    Attributes:
        ranker: Fitted on purchases before the validation period, with the public default weights.
        validation: Cases after it.
    """

    ranker: FusedRanker
    validation: Validation

    @cached_property
    def _signals(self) -> Signals:
        return self.ranker.signals(self.validation.history)

    def objectives(self, weights: FusionWeights) -> Objectives:
        """Return what weights are worth, case by case."""
        validation, ranker = self.validation, self.ranker.with_weights(weights)

        def score(rows: slice) -> NDArray[np.float32]:
            return ranker.weighted(self._signals.take(rows)).total()

        ranking = rank_scores(score, validation.seen, 10)
        overall = np.nan_to_num(ndcg(ranking, validation.relevant))
        found = overall.copy()
        for bucket in (popularity_buckets(ranker.sales).tail, ranker.sales == 0):
            recalled = recall(ranking, validation.relevant, bucket)
            known = ~np.isnan(recalled)
            if known.any():  # its mean over all cases is the mean over those it is known for
                found += np.where(known, recalled, 0) * len(known) / known.sum()
        return Objectives(found, overall)


def fit_fusion_weights(ranker: FusedRanker, validation: Validation) -> FusionWeights:
    """Return the weights for a merchant.

    A shop without a sale uses the text alone; one without validation cases the default.

    Args:
        ranker: Fitted on purchases before the validation period, with the public default weights.
        validation: Cases after it.
    """
    if not ranker.sales.any():
        return TEXT_ALONE
    if not len(validation.history):
        return ranker.weights
    trial = FusionTrial(ranker, validation.thinned(MAX_CASES))
    default = trial.objectives(ranker.weights)
    best, found = _climb(trial, default)
    if not clearly_better(found, default.objective, SEARCH_ERRORS):
        best, found = ranker.weights, default.objective
    for part in (TEXT_ALONE, COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND):
        alone = trial.objectives(part).objective
        if clearly_better(alone, found):
            best, found = part, alone
    return best


def _climb(trial: FusionTrial, start: Objectives) -> tuple[FusionWeights, Floats]:
    """Return the best weights found by changing one at a time, and their objectives [cases].

    Weights whose NDCG@10 is clearly below that of `start` are passed over: the objective would let
    some win by cold-start items alone, of which a shop sells few.
    """
    best = trial.ranker.weights
    tried = {best: start.objective}
    candidates = _candidates(trial.ranker)
    for _ in range(PASSES):
        before = best
        for field in fields(FusionWeights):
            for value in candidates.get(field.name, ()):
                weights = replace(best, **{field.name: value})
                if weights not in tried:
                    objective, overall = trial.objectives(weights)
                    costly = clearly_better(start.ndcg, overall)
                    tried[weights] = np.full_like(objective, -np.inf) if costly else objective
            best = max(tried, key=lambda weights: tried[weights].mean())
        if best == before:
            break
    return best, tried[best]


def _candidates(ranker: FusedRanker) -> dict[str, tuple[float, ...]]:
    """Return the values to try, without those of a season that says nothing."""
    found = dict(CANDIDATES)
    if not ranker.season.own.scores.any():
        del found["season"]
    if not ranker.season.federated.scores.any():
        del found["federated_season"]
    return found
