"""Fit a shop's ranker on its own data: the one way, for a list, a verdict or a published figure.

Collaborative model, decay, fusion weights and how much of an adapter is used are chosen on the
validation period, and on periods before it where there is a clock, each by what was sold before it.
Then the collaborative model, the sales and their trend are those of all the past.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import (
    STRENGTHS,
    TEXT_ALONE,
    Choice,
    FusionTrial,
    default_fusion_weights,
    fit_fusion_weights,
    fit_strength,
)
from client.ranking.shortlist import Reading, Spread, shortlist
from client.ranking.text_ease import TextEaseModel, TextRows, choose_text_ease, is_large
from client.ranking.text_scorer import DECAYS, TextScorer, fit_decay, strengthened
from client.ranking.validation import (
    ENOUGH_CASES,
    FloatMatrix,
    PastWindow,
    Validation,
    past_windows,
    validation_of,
)
from client.shop.interactions import Interactions
from client.shop.splitting import Cases
from common.season import NoisedVector, Season

DECAY_CASES = 300  # on which a large shop fits its decay


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
        judged: Shoppers on whom the fit will be judged: no case of an earlier period is theirs.
        text_rows: Of `candidates`, where other shops of the catalogue are fitted too.
    """

    train: Interactions
    cases: Cases
    past: Interactions
    candidates: FloatMatrix
    judged: NDArray[np.integer] | None = None
    text_rows: TextRows | None = None
    _alone: dict[tuple[float, bool], Choice] = field(default_factory=dict, repr=False)
    _frozen_texts: dict[float, TextScorer] = field(default_factory=dict, repr=False)

    @cached_property
    def validation(self) -> Validation:
        """The cases with the histories they had."""
        return validation_of(self.train, self.cases)

    def text_scorer(self, history_vectors: FloatMatrix, usual_decay: float) -> TextScorer:
        """Return the text part under `history_vectors`, its decay fitted as by `fit_decay`."""
        if history_vectors is not self.candidates:
            return self._fitted_text(history_vectors, usual_decay)
        if usual_decay not in self._frozen_texts:  # asked for by each reading of the same shop
            self._frozen_texts[usual_decay] = self._fitted_text(history_vectors, usual_decay)
        return self._frozen_texts[usual_decay]

    def _fitted_text(self, history_vectors: FloatMatrix, usual_decay: float) -> TextScorer:
        asked = self.validation
        if is_large(self.train.matrix(), self.candidates):  # all scores of all cases are held
            asked = validation_of(self.train, self.cases.thinned(DECAY_CASES))
        return fit_decay(history_vectors, self.candidates, asked, usual_decay)

    def fit(
        self, history_vectors: FloatMatrix, usual_decay: float, season: Season | None = None
    ) -> FittedRanker:
        """Return the shop's ranker of histories read by `history_vectors`.

        An adapter's reading is used as far as it helps here: the choice starts from that of frozen
        titles, decay and all, which is one of its candidates.

        Args:
            history_vectors: float32 [items, d], under an adapter, or `candidates` themselves.
            usual_decay: The decay of training, public.
            season: Of the release, if it has one. A period of the past is ranked with what the
                release knew of it then, mostly nothing; its weight is then the public default.
        """
        choice = self._choice(history_vectors, usual_decay, season)
        text, weights = self._text(history_vectors, choice.reading), choice.weights
        known = self._season_at(self.train, season)
        early = FusedRanker.of(text, self._early_model, weights, self.train, known)
        if self.past is self.train:
            return FittedRanker(early, early)
        latest = None if season is None else season.latest
        ranker = FusedRanker.of(text, self._model, weights, self.past, latest)
        return FittedRanker(early, ranker)

    def _season_at(self, before: Interactions, season: Season | None) -> NoisedVector | None:
        """Return the season as it was known when the shop had sold `before` and no more."""
        if season is None or not len(before):
            return None
        last = int(before.time.max())
        later = self.past.time[self.past.time > last]
        return season.at(int(later.min()) if len(later) else last + 1)

    def _choice(
        self, history_vectors: FloatMatrix, usual_decay: float, season: Season | None
    ) -> Choice:
        adapted = not np.array_equal(history_vectors, self.candidates)
        if not len(self.train):
            return Choice(TEXT_ALONE, Reading(float(adapted), usual_decay))
        alone = self._choice_alone(usual_decay, season)
        if not adapted:
            return alone
        readings = [Reading(strength, alone.reading.decay) for strength in STRENGTHS]
        if not len(self.cases):
            return Choice(alone.weights, alone.reading._replace(strength=1.0))
        return fit_strength(self._trial(history_vectors, readings, season), alone)

    def _choice_alone(self, usual_decay: float, season: Season | None) -> Choice:
        """Return what the shop chooses without an adapter, from the decay that suits frozen titles.

        A season that says nothing of the past changes nothing here.
        """
        told = any(self._season_at(window.before, season) is not None for window in self._windows)
        if (usual_decay, told) not in self._alone:
            decay = self.text_scorer(self.candidates, usual_decay).decay
            default = Choice(default_fusion_weights(self.train), Reading(0.0, decay))
            if len(self.cases):
                readings = [Reading(0.0, one) for one in sorted({decay, *DECAYS})]
                trial = self._trial(self.candidates, readings, season)
                default = fit_fusion_weights(trial, default)
            self._alone[usual_decay, told] = default
        return self._alone[usual_decay, told]

    def _trial(
        self, history_vectors: FloatMatrix, readings: Sequence[Reading], season: Season | None
    ) -> FusionTrial:
        texts = {reading: self._text(history_vectors, reading) for reading in readings}
        some = texts[readings[0]]
        shortlists = []
        for (before, cases), model in zip(self._windows, self._window_models, strict=True):
            weights, known = default_fusion_weights(before), self._season_at(before, season)
            ranker = FusedRanker.of(some, model, weights, before, known)
            shortlists.append(
                shortlist(ranker, model, validation_of(before, cases), texts, self._spread)
            )
        shoppers = np.concatenate([window.cases.shoppers for window in self._windows])
        return FusionTrial(shortlists, shoppers)

    def _text(self, history_vectors: FloatMatrix, reading: Reading) -> TextScorer:
        """Return the text part that reads titles so."""
        strength, decay = reading
        vectors = strengthened(self.candidates, history_vectors, strength)
        return TextScorer(vectors, self.candidates, decay, strength)

    @cached_property
    def _spread(self) -> Spread:
        return Spread.of(self.candidates)

    @cached_property
    def _windows(self) -> list[PastWindow]:
        windows = past_windows(self.train, self.cases, self.judged)
        most = max(ENOUGH_CASES // len(windows), 1)
        return [window.thinned(most) for window in windows]

    @cached_property
    def _window_models(self) -> list[TextEaseModel]:
        early = self._early_model
        later = [
            early.refitted(window.before.matrix(), self.candidates, self._text_rows)
            for window in self._windows[1:]
        ]
        return [early, *later]

    @cached_property
    def _text_rows(self) -> TextRows:
        return self.text_rows or TextRows(self.candidates)

    @cached_property
    def _early_model(self) -> TextEaseModel:
        rows = self._text_rows
        return choose_text_ease(self.train.matrix(), self.candidates, self.cases, rows=rows)

    @cached_property
    def _model(self) -> TextEaseModel:
        return self._early_model.refitted(self.past.matrix(), self.candidates, self._text_rows)
