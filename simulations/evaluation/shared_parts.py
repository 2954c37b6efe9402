"""Parts of scores that several models of one shop have in common, computed once.

A shop is judged by a dozen models on the same cases, and most are the same few parts, weighed
otherwise: one model of what is bought together, titles read frozen or by an adapter. The products
behind a part are most of an evaluation's time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import CollaborativeModel, FusedRanker, Standardised, standardised
from client.ranking.text_scorer import TextScorer
from client.shop.histories import Histories

FloatMatrix = NDArray[np.float32]
Scores = Callable[[Histories], FloatMatrix]
T = TypeVar("T")


class SharedParts:
    """Scores as the models themselves give them, to the last bit; parts are kept.

    They are those of the histories asked for last, and no others: models are to be asked for the
    same few cases one after another. What is returned is not to be written to.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._history: Histories | None = None
        self._kept: dict[tuple[Any, ...], tuple[object, Any]] = {}

    def own(self, model: CollaborativeModel) -> Scores:
        """Return how a model of what is bought together scores."""
        return lambda history: self._part(
            history, ("own", id(model)), model, lambda: model.score(history.bought())
        )

    def text(self, text: TextScorer) -> Scores:
        """Return how titles score."""
        return lambda history: self._part(
            history, ("text", *_reading(text)), text, lambda: text.score(history)
        )

    def fused(self, ranker: FusedRanker) -> Scores:
        """Return how a ranker scores."""

        def score(history: Histories) -> FloatMatrix:
            own, text = ranker.collaborative, ranker.text
            signals = ranker.signals_of(
                self._even(history, ("own", id(own)), own, self.own(own)),
                self._even(history, ("text", *_reading(text)), text, self.text(text)),
                history,
            )
            return ranker.weighted(signals).total()

        return score

    def _even(
        self, history: Histories, name: tuple[Any, ...], holder: object, scores: Scores
    ) -> Standardised:
        return self._part(history, ("even", *name), holder, lambda: standardised(scores(history)))

    def _part(
        self, history: Histories, name: tuple[Any, ...], holder: object, find: Callable[[], T]
    ) -> T:
        """Return what `find` gives, found once; `holder` is kept, as `name` has an id in it."""
        if history is not self._history:
            self._history, self._kept = history, {}
        if name not in self._kept:
            self._kept[name] = (holder, find())
        found: T = self._kept[name][1]
        return found


def _reading(text: TextScorer) -> tuple[int, int, float]:
    """Return all that a text scorer's scores depend on; `strength` only says how it came about."""
    return id(text.history_vectors), id(text.candidate_vectors), text.decay
