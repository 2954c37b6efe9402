"""Fit a shop's ranker on its own data: the one way, for a list, a verdict or a published figure.

Decay, collaborative model and fusion weights are chosen on the validation period by what was sold
before it. Then the collaborative model, the sales and their trend are those of all the past.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import default_fusion_weights, fit_fusion_weights
from client.ranking.text_ease import TextEaseModel, choose_text_ease
from client.ranking.text_scorer import TextScorer, fit_decay
from client.ranking.validation import FloatMatrix, Validation, validation_of
from client.shop.interactions import Interactions
from client.shop.splitting import Cases


class FittedRanker(NamedTuple):
    """A shop's ranker on what sold before the validation period, and on all the past."""

    early: FusedRanker
    ranker: FusedRanker


@dataclass(frozen=True, eq=False)
class ShopFit:
    """Fits rankers of one shop, one for each reading of its histories' titles.

    Attributes:
        train: Purchases before the validation period.
        cases: Cases of that period.
        past: All purchases to rank by; `train` itself where the period is to be judged on.
        candidates: float32 [items, d], the frozen item vectors.
    """

    train: Interactions
    cases: Cases
    past: Interactions
    candidates: FloatMatrix

    @cached_property
    def validation(self) -> Validation:
        """The cases with the histories they had."""
        return validation_of(self.train, self.cases)

    def text_scorer(self, history_vectors: FloatMatrix, usual_decay: float) -> TextScorer:
        """Return the text part under `history_vectors`, its decay fitted as by `fit_decay`."""
        return fit_decay(history_vectors, self.candidates, self.validation, usual_decay)

    def fit(self, text: TextScorer, tail_boost: float = 1.0) -> FittedRanker:
        """Return the shop's ranker with `text`.

        Args:
            text: As by `text_scorer`.
            tail_boost: See `FusionWeights.boosted`.

        Raises:
            InputError: if the tail boost is not in [0, 2].
        """
        weights = default_fusion_weights(self.train)
        early = FusedRanker.of(text, self._early_model, weights, self.train)
        weights = fit_fusion_weights(early, self.validation).boosted(tail_boost)
        early = replace(early, weights=weights)
        if self.past is self.train:
            return FittedRanker(early, early)
        return FittedRanker(early, FusedRanker.of(text, self._model, weights, self.past))

    @cached_property
    def _early_model(self) -> TextEaseModel:
        return choose_text_ease(self.train.matrix(), self.candidates, self.cases)

    @cached_property
    def _model(self) -> TextEaseModel:
        return self._early_model.refitted(self.past.matrix(), self.candidates)
