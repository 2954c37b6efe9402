"""Join or stay solo: what a release brings to one shop, on that shop's own shoppers.

All of it runs on the merchant's machine, on purchases it holds anyway, and nothing is written or
sent. What a merchant then decides, others may see.

No shopper is both fitted and evaluated on: the shoppers of the validation period are dealt into two
halves, everything that is fitted (EASE's strength, decay, fusion weights, click curves, which way
of staying solo is best) is fitted on one half and evaluated on the other, and then the other way
round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.ranking.baselines import EASE_STRENGTHS, choose_ease, fit_popularity
from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND
from client.ranking.purchase_probability import Pairs, Score, fit_chances, pairs_of
from client.ranking.released_vectors import ReleasedVectors
from client.ranking.shop_fit import ShopFit
from client.ranking.text_scorer import TextScorer
from client.ranking.validation import validation_of
from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from client.shop.splitting import Cases, evaluation_cases, split_interactions
from common.catalogue import Buckets, popularity_buckets
from common.errors import InputError
from common.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from common.evaluation.calibration import (
    ClickMetrics,
    Reliability,
    best_threshold,
    click_metrics,
    reliability,
)
from common.evaluation.scorecard import Scorecard, evaluate_scores, pool

Verdict = Literal["join", "stay solo", "cannot tell"]

# In the order of a table. Only the last two need others; the rest is "solo". Fused is with all that
# the shop has itself: its EASE, which reads titles too, and its sales trend.
MODELS: Mapping[str, str] = {
    "popularity": "Popularity",
    "local_ease": "Own purchases (EASE)",
    "own_alone": "Own purchases, titles read",
    "ease_trend": "Own purchases + trend",
    "frozen": "Frozen text",
    "frozen_fused": "Frozen text, fused",
    "solo": "Solo adapter",
    "solo_fused": "Solo adapter, fused",
    "release": "Release",
    "fused": "Release, fused",
}
JOINED = ("release", "fused")
TAIL_BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0)  # from head to tail
DECIDING = ("ndcg@10", "tail_recall@10")
VERDICT_LEVEL = 0.975  # each of the two, so that both hold together at 95%
MIN_SHOPPERS = 50  # below it a bootstrap interval is too narrow to decide by
SEED = 0  # deals the halves and resamples; fixed, so that nobody asks until they like the answer


@dataclass(frozen=True)
class ClickView:
    """The fused score as a click chance, for all items or for the tail: fitted on other shoppers.

    Attributes:
        metrics: A yes at the threshold that was best on the other half, and AUC.
        reliability: How well chances agree with clicks.
    """

    metrics: ClickMetrics
    reliability: Reliability


@dataclass(frozen=True, eq=False)
class Benefit:
    """What joining brought on one shop's validation period.

    Attributes:
        scorecards: A scorecard of each model, the same shoppers in the same order.
        solo: The scorecard of the best model without the federation, chosen on the other half.
        solo_models: Which that was, for either half.
        verdict: What follows.
        gains: Fused release minus `solo`, by deciding metric, at VERDICT_LEVEL.
        gains_over_frozen: The same minus frozen text, fused, which the verdict needs too: chance
            may choose a weak way of staying solo; the same fit without the release stays near.
        tail_boosts: The scorecards of the fused release at each of TAIL_BOOSTS.
        clicks: The click view by `all` and `tail`; empty if nothing could be fitted.
    """

    scorecards: Mapping[str, Scorecard]
    solo: Scorecard
    solo_models: tuple[str, str]
    verdict: Verdict
    gains: Mapping[str, Interval]
    gains_over_frozen: Mapping[str, Interval]
    tail_boosts: Mapping[float, Scorecard]
    clicks: Mapping[str, ClickView]

    @property
    def shoppers(self) -> int:
        """How many shoppers it rests on."""
        return len(self.solo.per_shopper["ndcg@10"])

    @property
    def tail_shoppers(self) -> int:
        """How many of them bought a tail item."""
        return int((~np.isnan(self.solo.per_shopper["tail_recall@10"])).sum())

    def mean(self, model: str, metric: str) -> Interval:
        """Return a model's mean of a metric and its 95% interval."""
        return bootstrap_mean(self.scorecards[model].per_shopper[metric], seed=SEED)

    def difference(self, model: str, metric: str) -> Interval:
        """Return fused release minus `model`, paired over shoppers, with its 95% interval."""
        fused, other = (self.scorecards[name].per_shopper[metric] for name in ("fused", model))
        return paired_bootstrap(fused, other, seed=SEED)


@dataclass(frozen=True, eq=False)
class _Bench:
    """What both halves share."""

    train: Interactions
    buckets: Buckets
    vectors: Mapping[str, ReleasedVectors]

    def fit(self, cases: Cases, judged: Cases) -> tuple[dict[str, Score], FusedRanker]:
        """Fit every model on the shoppers of `cases`; return them and the fused release.

        Earlier periods that a fit looks at are asked of nobody who is in `judged`.
        """
        before, frozen = self.train, self.vectors["frozen"].frozen
        shop = ShopFit(before, cases, before, frozen, judged=judged.shoppers)
        popularity = fit_popularity(before.matrix())
        ease = choose_ease(before.matrix(), cases, EASE_STRENGTHS).model
        bare = TextScorer(frozen, frozen)
        found: dict[str, Score] = {
            "popularity": lambda history: popularity.score(history.bought()),
            "local_ease": lambda history: ease.score(history.bought()),
            "ease_trend": FusedRanker.of(bare, ease, COLLABORATIVE_AND_TREND, before).score,
        }
        for name, vectors in self.vectors.items():
            text = shop.text_scorer(vectors.adapted, vectors.decay)
            ranker = shop.fit(vectors.adapted, vectors.decay, vectors.season).ranker
            found[name] = text.score
            found["fused" if name == "release" else f"{name}_fused"] = ranker.score
            # Its model of purchases is the same whoever read the histories' titles.
            found["own_alone"] = ranker.with_weights(COLLABORATIVE_ALONE).score
        return found, ranker  # the release is the last

    def evaluate(self, score: Score, cases: Cases) -> Scorecard:
        """Rank the whole catalogue for each case."""
        history = validation_of(self.train, cases).history
        return evaluate_scores(
            lambda rows: score(history.take(rows)), cases.seen, cases.relevant, self.buckets
        )


def measure_benefit(
    data: MerchantData, release: ReleasedVectors, solo: ReleasedVectors | None = None
) -> Benefit:
    """Compare ways of joining and of staying solo on the shop's validation period.

    Args:
        data: The shop. Purchases before its validation period are the histories.
        release: Its catalogue under the federation's release.
        solo: The same under a release that this shop trained alone.

    Raises:
        InputError: if fewer than two shoppers bought something new in the validation period.
    """
    split = split_interactions(data.interactions, data.split_rule)
    cases = evaluation_cases(split.train, split.valid)
    if len(cases) < 2:
        raise InputError(
            f"{len(cases)} shopper(s) with a history bought something new in the validation "
            "period; at least 2 are needed, and 50 for a verdict.",
            field="shop",
        )
    frozen = ReleasedVectors(release.frozen, release.frozen, release.decay)
    vectors = {"frozen": frozen, "solo": solo, "release": release}
    bench = _Bench(
        split.train,
        popularity_buckets(split.train.item_counts()),
        {name: one for name, one in vectors.items() if one is not None},
    )
    return _benefit([_evaluate_half(bench, *halves) for halves in _both_ways(cases)])


def _both_ways(cases: Cases) -> list[tuple[Cases, Cases]]:
    """Deal the cases into two halves; return (fitted on, evaluated on), both ways round."""
    dealt = np.random.default_rng(SEED).permutation(len(cases))
    one, two = (cases.take(np.sort(dealt[start::2])) for start in (0, 1))
    return [(one, two), (two, one)]


@dataclass(frozen=True, eq=False)
class _Half:
    """One half, evaluated with what the other half fitted."""

    scorecards: dict[str, Scorecard]
    tail_boosts: dict[float, Scorecard]
    solo_model: str
    pairs: Pairs
    chances: NDArray[np.float64] | None
    thresholds: tuple[float, float]  # all items, tail items


def _evaluate_half(bench: _Bench, fitted_on: Cases, tested_on: Cases) -> _Half:
    models, fused = bench.fit(fitted_on, tested_on)
    solo = max(
        (name for name in models if name not in JOINED),
        key=lambda name: _objective(bench.evaluate(models[name], fitted_on)),
    )
    tail = bench.buckets.tail
    before, after = (
        pairs_of(models["fused"], bench.train, cases, tail) for cases in (fitted_on, tested_on)
    )
    curves = fit_chances(before)
    chances, thresholds = None, (1.0, 1.0)
    if curves is not None:
        chances = curves.of(after.score, after.tail)
        known = curves.of(before.score, before.tail)
        thresholds = (
            best_threshold(known, before.clicked),
            best_threshold(known[before.tail], before.clicked[before.tail]),
        )
    scorecards = {name: bench.evaluate(score, tested_on) for name, score in models.items()}
    tail_boosts = {
        boost: bench.evaluate(fused.with_weights(fused.weights.boosted(boost)).score, tested_on)
        for boost in TAIL_BOOSTS
    }
    return _Half(scorecards, tail_boosts, solo, after, chances, thresholds)


def _objective(scorecard: Scorecard) -> float:
    """Return NDCG@10 plus tail recall@10; an undefined one counts 0."""
    means = scorecard.means()
    return float(np.nansum([means[metric] for metric in DECIDING]))


def _benefit(halves: list[_Half]) -> Benefit:
    scorecards = {
        name: pool([half.scorecards[name] for half in halves]) for name in halves[0].scorecards
    }
    solo = pool([half.scorecards[half.solo_model] for half in halves])
    gains, over_frozen = (
        _gains(scorecards["fused"], scorecard) for scorecard in (solo, scorecards["frozen_fused"])
    )
    shoppers = len(solo.per_shopper["ndcg@10"])
    first, second = halves
    return Benefit(
        scorecards={name: scorecards[name] for name in MODELS if name in scorecards},
        solo=solo,
        solo_models=(first.solo_model, second.solo_model),
        verdict=_joint_verdict([verdict_of(gain, shoppers) for gain in (gains, over_frozen)]),
        gains=gains,
        gains_over_frozen=over_frozen,
        tail_boosts={
            boost: pool([half.tail_boosts[boost] for half in halves]) for boost in TAIL_BOOSTS
        },
        clicks=_click_views(halves),
    )


def _gains(fused: Scorecard, other: Scorecard) -> dict[str, Interval]:
    """Return fused minus other, paired over shoppers, by deciding metric."""
    return {
        metric: paired_bootstrap(
            fused.per_shopper[metric], other.per_shopper[metric], seed=SEED, level=VERDICT_LEVEL
        )
        for metric in DECIDING
    }


def _joint_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Join if it is better than every way of staying solo; stay if one of them is better."""
    if "stay solo" in verdicts:
        return "stay solo"
    return "join" if all(verdict == "join" for verdict in verdicts) else "cannot tell"


def verdict_of(gains: Mapping[str, Interval], shoppers: int) -> Verdict:
    """Return what follows from the gains of joining.

    Join if one interval lies above zero and none below; stay solo if one lies below and none
    above; otherwise, and with fewer than MIN_SHOPPERS, nobody can tell.
    """
    better = any(gain.low > 0 for gain in gains.values())
    worse = any(gain.high < 0 for gain in gains.values())
    if better == worse or shoppers < MIN_SHOPPERS:
        return "cannot tell"
    return "join" if better else "stay solo"


def _click_views(halves: list[_Half]) -> dict[str, ClickView]:
    if any(half.chances is None for half in halves):
        return {}
    chances = np.concatenate([half.chances for half in halves if half.chances is not None])
    clicked, tail = (
        np.concatenate([getattr(half.pairs, name) for half in halves])
        for name in ("clicked", "tail")
    )
    sizes = [len(half.pairs.score) for half in halves]
    views = {}
    for place, (name, kept) in enumerate((("all", np.ones_like(tail)), ("tail", tail))):
        thresholds = np.repeat([half.thresholds[place] for half in halves], sizes)[kept]
        views[name] = ClickView(
            click_metrics(chances[kept], clicked[kept], thresholds),
            reliability(chances[kept], clicked[kept]),
        )
    return views
