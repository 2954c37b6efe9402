"""Compare many ways of ranking on the few items of each case that any of them could list.

A score is a sum of parts, so hundreds of weights can share the parts; what costs is to rank some
thousand items for each. Here each case keeps only its shortlist: the best items under each of a few
`ANCHORS` that pull in every direction, and what it bought next. A list of ten found among them
is that of the whole catalogue but for rare cases. Only fits use this; whatever is served or judged
ranks every item.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FEW_SALES, FusedRanker, FusionWeights, standardised
from client.ranking.text_ease import TextEaseModel
from client.ranking.text_scorer import TextScorer
from client.ranking.validation import FloatMatrix, Validation
from common.catalogue import popularity_buckets

LISTED = 10  # places of a list
CHUNK_SCORES = 4_000_000  # scores of the whole catalogue held at a time: 16 MB a part
# Weights whose best items stand on a shortlist, and how many of them.
ANCHORS = (
    (FusionWeights(1, 0, 0, 0, 0, 0, 0), 20),
    (FusionWeights(0, 1, 0, 0, 0, 0, 0), 20),
    (FusionWeights(1, 0.1, 0, 1.5, 0, 0, 0), 20),
    (FusionWeights(1, 0.6, 0.15, 3, 3, 0.5, 0.5), 40),
    (FusionWeights(1, 0.3, 0.15, 3, 0, 1, 0), 30),
    (FusionWeights(1, 0.3, 0.15, 3, 1, 0, 1), 30),
    (FusionWeights(1, 1, 0.3, 0, 1, 0, 0), 30),
    (FusionWeights(1, 2, 1, 4, 4, 0, 0), 30),
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_DISCOUNT = 1 / np.log2(np.arange(2, LISTED + 2))
_IDEAL = np.concatenate([[0.0], np.cumsum(_DISCOUNT)])
_TINY = 1e-9


class Found(NamedTuple):
    """What a list of ten found: float64 [cases] each, recalls NaN where nothing was to be found.

    Attributes:
        ndcg: NDCG@10.
        tail: Recall@10 of tail items.
        cold: Recall@10 of cold-start items.
    """

    ndcg: Floats
    tail: Floats
    cold: Floats


class Reading(NamedTuple):
    """How histories' titles are read.

    Attributes:
        strength: Of the adapter: 0 is frozen, 1 as released.
        decay: Weight of a basket one older.
    """

    strength: float
    decay: float


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The parts of the score of each case's shortlist, [cases, places] each.

    Attributes:
        padding: Places that a case does not fill.
        own: float32, the shop's own model, standardised over the catalogue.
        texts: float32, titles by each reading, standardised over the catalogue.
        alike: float32 by the name of its weight, what is the same for all shoppers.
        few: float32, how much of the tail weight an item gets.
        relevant: What was bought next.
        tail: Which of that are tail items.
        cold: Which of that had not sold.
    """

    padding: Bools
    own: FloatMatrix
    texts: Mapping[Reading, FloatMatrix]
    alike: Mapping[str, FloatMatrix]
    few: FloatMatrix
    relevant: Bools
    tail: Bools
    cold: Bools

    def __len__(self) -> int:
        return len(self.padding)

    def scores(self, weights: FusionWeights, reading: Reading) -> FloatMatrix:
        """Return the score of each place: float32, minus infinity where there is no item."""
        scores = (weights.text + weights.tail * self.few) * self.texts[reading]
        scores += np.float32(weights.collaborative) * self.own
        for name, part in self.alike.items():
            if weight := getattr(weights, name):
                scores += np.float32(weight) * part
        scores[self.padding] = -np.inf
        return scores

    def found(self, weights: FusionWeights, reading: Reading) -> Found:
        """Return what the lists of ten under `weights` and `reading` find."""
        scores = self.scores(weights, reading)
        best = min(LISTED, scores.shape[1])
        place = np.argpartition(-scores, best - 1, axis=1)[:, :best]
        order = np.argsort(-np.take_along_axis(scores, place, 1), axis=1, kind="stable")
        place = np.take_along_axis(place, order, 1)
        hits = np.take_along_axis(self.relevant, place, 1)
        ideal = _IDEAL[np.minimum(self.relevant.sum(axis=1), LISTED)]
        gained = (hits * _DISCOUNT[:best]).sum(axis=1)
        ndcg = np.divide(gained, ideal, out=np.zeros(len(self)), where=ideal > 0)
        return Found(ndcg, *(_recall(bucket, place) for bucket in (self.tail, self.cold)))


def _recall(bucket: Bools, place: NDArray[np.integer]) -> Floats:
    wanted = np.minimum(bucket.sum(axis=1), LISTED)
    hits = np.take_along_axis(bucket, place, 1).sum(axis=1)
    found: Floats = np.divide(hits, wanted, out=np.full(len(bucket), np.nan), where=wanted > 0)
    return found


class Spread(NamedTuple):
    """What standardises the products of any embedding with all items of a catalogue.

    Attributes:
        mean: float32 [d], of the items' vectors.
        covariance: float32 [d, d], of the same.
    """

    mean: FloatMatrix
    covariance: FloatMatrix

    @classmethod
    def of(cls, candidates: FloatMatrix) -> "Spread":
        """Return that of item vectors, float32 [items, d]."""
        centred = candidates.astype(np.float64)
        mean = centred.mean(axis=0)
        centred -= mean
        covariance = centred.T @ centred / len(centred)
        return cls(mean.astype(np.float32), covariance.astype(np.float32))


def shortlist(
    ranker: FusedRanker,
    model: TextEaseModel,
    validation: Validation,
    texts: Mapping[Reading, TextScorer],
    spread: Spread,
) -> Shortlist:
    """Return the shortlists of a period's cases.

    Args:
        ranker: Of what sold before the period; only its sales, trend and seasons are read.
        model: The shop's own, of the same sales.
        validation: The period's cases, at least one.
        texts: The text part by each reading that will be asked for.
        spread: Of their candidates.
    """
    rows = max(CHUNK_SCORES // len(ranker.sales), 1)
    whole = _Whole(ranker, model, texts, spread)
    cases = len(validation.history)
    chunks = [
        whole.shortlist(validation.take(slice(start, min(start + rows, cases))))
        for start in range(0, cases, rows)
    ]
    width = max(chunk.padding.shape[1] for chunk in chunks)
    return _joined([_padded(chunk, width) for chunk in chunks])


@dataclass(frozen=True, eq=False)
class _Whole:
    """What scores whole catalogues, a few cases at a time."""

    ranker: FusedRanker
    model: TextEaseModel
    texts: Mapping[Reading, TextScorer]
    spread: Spread

    def shortlist(self, validation: Validation) -> Shortlist:
        ranker, history = self.ranker, validation.history
        own = standardised(self.model.rough_score(history.bought())).scores
        embeddings = {
            reading: text.user_embeddings(history) for reading, text in self.texts.items()
        }
        pool = self._pool(own, embeddings, validation)
        relevant = validation.relevant.toarray() > 0
        counts = pool.sum(axis=1)
        padding = np.arange(counts.max())[None] >= counts[:, None]
        items = np.zeros(padding.shape, np.int64)
        items[~padding] = np.nonzero(pool)[1]
        bought = np.take_along_axis(relevant, items, 1) & ~padding
        return Shortlist(
            padding,
            np.take_along_axis(own, items, 1),
            self._texts(embeddings, items),
            {name: part[items] for name, part in self._alike.items()},
            self._few[items],
            bought,
            bought & popularity_buckets(ranker.sales).tail[items],
            bought & (ranker.sales == 0)[items],
        )

    def _pool(
        self, own: FloatMatrix, embeddings: Mapping[Reading, FloatMatrix], validation: Validation
    ) -> Bools:
        """Return which items stand on each case's shortlist: bool [cases, items]."""
        pool = np.zeros(own.shape, bool)
        seen = validation.seen.tocoo()
        few, alike = self._few, self._alike
        for reading in _ends(embeddings):
            text = standardised(embeddings[reading] @ self._candidates.T).scores
            for weights, best_of in ANCHORS:
                scores = np.float32(weights.collaborative) * own
                scores += (weights.text + weights.tail * few) * text
                for name, part in alike.items():
                    scores += np.float32(getattr(weights, name)) * part
                scores[seen.row, seen.col] = -np.inf
                most = min(best_of, scores.shape[1])
                best = np.argpartition(-scores, most - 1, axis=1)[:, :most]
                np.put_along_axis(pool, best, True, 1)
        pool[seen.row, seen.col] = False
        pool |= validation.relevant.toarray() > 0
        return pool

    @cached_property
    def _few(self) -> FloatMatrix:
        sales = self.ranker.sales
        return np.asarray(FEW_SALES / (FEW_SALES + sales), dtype=np.float32)

    @cached_property
    def _alike(self) -> dict[str, FloatMatrix]:
        """What is the same for all shoppers, by the name of its weight: float32 [items] each."""
        unsold = (self.ranker.sales == 0).astype(np.float32)
        own, federated = self.ranker.season.counted(self.ranker.sales)
        return {
            "trend": self.ranker.trend.trend,
            "cold_start": unsold,
            "season": own,
            "federated_season": federated,
        }

    @property
    def _candidates(self) -> FloatMatrix:
        return next(iter(self.texts.values())).candidate_vectors

    def _texts(
        self, embeddings: Mapping[Reading, FloatMatrix], items: NDArray[np.int64]
    ) -> dict[Reading, FloatMatrix]:
        """Return the standardised text of the shortlists, all readings at once."""
        mean, covariance = self.spread
        stacked = np.stack(list(embeddings.values()), axis=1)  # [cases, readings, d]
        scores = np.empty((*stacked.shape[:2], items.shape[1]), np.float32)
        for case, listed in enumerate(items):
            scores[case] = stacked[case] @ self._candidates[listed].T
        spread = np.sqrt(np.maximum(((stacked @ covariance) * stacked).sum(axis=2), 0))
        spread = np.where(spread > _TINY, spread, np.float32(np.inf))
        scores = (scores - (stacked @ mean)[..., None]) / spread[..., None]
        return {reading: scores[:, place] for place, reading in enumerate(embeddings)}


def _ends(readings: Iterable[Reading]) -> list[Reading]:
    """Return the readings between which all others lie."""
    known = list(readings)
    return list({min(known), max(known)})


def _padded(one: Shortlist, width: int) -> Shortlist:
    more = width - one.padding.shape[1]

    def wider(part: NDArray[Any], fill: Any = 0) -> NDArray[Any]:
        return np.pad(part, ((0, 0), (0, more)), constant_values=fill) if more else part

    return Shortlist(
        wider(one.padding, True),
        wider(one.own),
        {reading: wider(text) for reading, text in one.texts.items()},
        {name: wider(part) for name, part in one.alike.items()},
        *(wider(part) for part in (one.few, one.relevant, one.tail, one.cold)),
    )


def _joined(parts: Sequence[Shortlist]) -> Shortlist:
    first = parts[0]
    if len(parts) == 1:
        return first
    join = np.concatenate
    return Shortlist(
        join([one.padding for one in parts]),
        join([one.own for one in parts]),
        {reading: join([one.texts[reading] for one in parts]) for reading in first.texts},
        {name: join([one.alike[name] for one in parts]) for name in first.alike},
        join([one.few for one in parts]),
        join([one.relevant for one in parts]),
        join([one.tail for one in parts]),
        join([one.cold for one in parts]),
    )
