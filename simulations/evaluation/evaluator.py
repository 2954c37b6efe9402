"""Evaluate every model of a simulated federation on the same shoppers, items and period.

Only a simulator can do this: it holds the future of all merchants. A node never does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ranking.baselines import fit_popularity
from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND
from client.ranking.shop_fit import ShopFit
from client.ranking.text_ease import TextRows
from client.ranking.text_scorer import TextScorer
from client.shop.histories import Histories, histories
from common.adapter import AdapterState
from common.catalogue import Buckets, popularity_buckets
from common.encoder.catalogue_encoder import EncodedCatalogue, encode_catalogue
from common.encoder.public_basis import PublicBasis
from common.evaluation.scorecard import Scorecard, evaluate_models, evaluate_scores
from common.season import Season
from common.settings.run import RunSettings
from simulations.data.shop import Shop
from simulations.evaluation.shared_parts import FloatMatrix, Scores, SharedParts

# The tail boost of a shop that wants new things found: on earlier periods of Online
# Retail the fused score keeps nine tenths of its NDCG@10 there
# (docs/adr/0032-a-dial-for-what-is-new.md).
BOOSTED = 1.3


def shared_buckets(shops: Sequence[Shop]) -> dict[str, Buckets]:
    """Return each shop's head, tail and cold items, by sales in the past of all shops together.

    Items of equal text are one item: the tail is the market's, not a small shop's.
    """
    keys = np.concatenate([shop.data.catalogue.text_keys for shop in shops])
    sales = np.concatenate([shop.past.item_counts() for shop in shops])
    texts, place = np.unique(keys, return_inverse=True)
    totals = np.zeros(len(texts), np.int64)
    np.add.at(totals, place, sales)
    # Order by first sight, so that ties go to the lower item index and not to a hash.
    first = np.full(len(texts), len(keys))
    np.minimum.at(first, place, np.arange(len(keys)))
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ordered = popularity_buckets(totals[order])
    buckets: dict[str, Buckets] = {}
    start = 0
    for shop in shops:
        mine = rank[place[start : start + len(shop.data.catalogue)]]
        start += len(shop.data.catalogue)
        buckets[shop.name] = Buckets(
            head=ordered.head[mine],
            tail=ordered.tail[mine],
            cold=ordered.cold[mine],
            tail_by_volume=ordered.tail_by_volume[mine],
        )
    return buckets


class ItemVectors:
    """Item vectors under an adapter, computed once for all shops of one catalogue."""

    def __init__(self, encoded: EncodedCatalogue) -> None:
        self.candidates = encoded.vectors
        self.text_rows = TextRows(encoded.vectors)
        self._encoded = encoded
        self._last: tuple[str, FloatMatrix] = ("", encoded.vectors)

    def under(self, adapter: AdapterState | None) -> FloatMatrix:
        """Return f of each item, float32 [items, d]; without an adapter, the frozen encoder's."""
        if adapter is None:
            return self.candidates
        if self._last[0] != adapter.digest:
            self._encoded.encoder.load_adapter(adapter)
            self._last = (adapter.digest, self._encoded.tokens.vectors(self._encoded.encoder))
        return self._last[1]


@dataclass(frozen=True, eq=False)
class ShopEvaluator:
    """Scores the models of one shop on its test period; all fits use its past only."""

    shop: Shop
    vectors: ItemVectors
    buckets: Buckets
    decay: float = 1.0  # of the history in training

    @cached_property
    def _test_history(self) -> Histories:
        return histories(self.shop.past, self.shop.test_cases.shoppers)

    def evaluate(self, scores: Scores) -> Scorecard:
        """Rank the whole catalogue for each test case by `scores` of its history."""
        return self.evaluate_all({"": scores})[""]

    def evaluate_all(self, models: Mapping[str, Scores]) -> dict[str, Scorecard]:
        """Return `evaluate` of each model, all asked for the same histories before the next."""
        cases, few = self.shop.test_cases, _FewHistories(self._test_history)
        return evaluate_models(
            {
                name: lambda rows, of=scores: of(few.take(rows))  # type: ignore[misc]  # it binds
                for name, scores in models.items()
            },
            cases.seen,
            cases.relevant,
            self.buckets,
            item_keys=self.shop.data.catalogue.text_keys,
        )

    def text(self, adapter: AdapterState | None) -> TextScorer:
        """Return the text part under `adapter`, its decay fitted on validation."""
        return self._fit.text_scorer(self.vectors.under(adapter), self.decay)

    def fused(self, text: TextScorer, season: Season | None = None) -> FusedRanker:
        """Return `text` fused with all that the shop has itself, as it would serve it.

        Args:
            text: As by `text`.
            season: Of the release; the shop alone has none.
        """
        return self._fit.fit(text.history_vectors, self.decay, season).ranker

    @cached_property
    def _fit(self) -> ShopFit:
        shop = self.shop
        return ShopFit(
            shop.split.train,
            shop.validation_cases,
            shop.past,
            self.vectors.candidates,
            text_rows=self.vectors.text_rows,
        )

    @cached_property
    def frozen_fused(self) -> FusedRanker:
        """Frozen text, fused."""
        return self.fused(self.text(None))

    def let_go(self) -> None:
        """Forget what was fitted; it is fitted again where it is asked for.

        A model of what is bought together takes shoppers times items numbers at each shop: hundreds
        of small shops of one catalogue would fill a machine's memory.
        """
        for name in ("_fit", "frozen_fused"):
            self.__dict__.pop(name, None)

    def compared(
        self, adapter: AdapterState, season: Season | None
    ) -> tuple[FusedRanker, dict[str, Scorecard]]:
        """Return the ranker of a shop that joined, and the scorecards of all that needs no more.

        They are those of `baselines`, and what joining brings, whole and by parts.
        """
        parts = SharedParts()
        fused, joined = self._joined(parts, adapter, season)
        return fused, self.evaluate_all({**self._alone(parts), **joined})

    def baselines(self) -> dict[str, Scorecard]:
        """Return the scorecards of the models that need no training together."""
        return self.evaluate_all(self._alone(SharedParts()))

    def _joined(
        self, parts: SharedParts, adapter: AdapterState, season: Season | None
    ) -> tuple[FusedRanker, dict[str, Scores]]:
        text, frozen = self.text(adapter), self.frozen_fused
        fused = self.fused(text, season)
        models = {
            "adapter": parts.text(text),
            "fused": parts.fused(fused),
            "fused_frozen_boosted": parts.fused(_boosted(frozen)),
            "fused_boosted": parts.fused(_boosted(fused)),
        }
        if season is not None:
            of_adapter = replace(fused.weights, federated_season=0.0, federated_prior=0.0)
            models["fused_adapter"] = parts.fused(fused.with_weights(of_adapter))
            models["fused_season"] = parts.fused(self.fused(self.text(None), season))
        return fused, models

    def _alone(self, parts: SharedParts) -> dict[str, Scores]:
        shop, fused = self.shop, self.frozen_fused
        popularity, ease = fit_popularity(shop.past.matrix()), shop.fit_ease()
        ease_trend = FusedRanker.of(fused.text, ease, COLLABORATIVE_AND_TREND, shop.past)
        return {
            "popularity": lambda history: popularity.score(history.bought()),
            "local_ease": parts.own(ease),
            "own_alone": parts.fused(fused.with_weights(COLLABORATIVE_ALONE)),
            "ease_trend": parts.fused(ease_trend),
            "frozen_text": parts.text(fused.text),
            "fused_frozen": parts.fused(fused),
        }

    def validation_scores(
        self, adapter: AdapterState
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return NDCG@10 and tail recall@10 of the validation cases, histories not decayed."""
        cases = self.shop.validation_cases
        if not len(cases.shoppers):
            return np.empty(0), np.empty(0)
        text = TextScorer(self.vectors.under(adapter), self.vectors.candidates)
        history = self._fit.validation.history
        scorecard = evaluate_scores(
            lambda rows: text.score(history.take(rows)), cases.seen, cases.relevant, self.buckets
        )
        return scorecard.per_shopper["ndcg@10"], scorecard.per_shopper["tail_recall@10"]


def _boosted(ranker: FusedRanker) -> FusedRanker:
    return ranker.with_weights(ranker.weights.boosted(BOOSTED))


class _FewHistories:
    """Histories of some rows, the same object for whoever asks for the same rows next."""

    def __init__(self, histories: Histories) -> None:
        self._all, self._rows, self._taken = histories, slice(0, 0), histories.take(slice(0, 0))

    def take(self, rows: slice) -> Histories:
        if rows != self._rows:
            self._rows, self._taken = rows, self._all.take(rows)
        return self._taken


def make_evaluators(
    shops: Sequence[Shop], basis: PublicBasis, settings: RunSettings, cache: Path
) -> list[ShopEvaluator]:
    """Return an evaluator for each shop; shops of one catalogue share its vectors."""
    vectors: dict[str, ItemVectors] = {}
    for shop in shops:
        catalogue = shop.data.catalogue
        if catalogue.digest not in vectors:
            encoded = encode_catalogue(catalogue, basis, settings, cache)
            vectors[catalogue.digest] = ItemVectors(encoded)
    buckets = shared_buckets(shops)
    return [
        ShopEvaluator(
            shop,
            vectors[shop.data.catalogue.digest],
            buckets[shop.name],
            settings.history_decay,
        )
        for shop in shops
    ]
