"""Parts that models share are told apart by all that they depend on."""

from dataclasses import replace

import numpy as np
import pytest

from client.ranking.baselines import fit_popularity
from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND
from client.ranking.text_ease import TextEaseModel
from client.ranking.text_scorer import TextScorer
from client.shop.histories import Histories
from common.evaluation import metrics
from common.season import Season
from simulations.evaluation.shared_parts import SharedParts
from tests.support.shops import DAY, random_adapter

ITEMS, WIDTH = 6, 4


def vectors(seed):
    return np.random.default_rng(seed).normal(size=(ITEMS, WIDTH)).astype(np.float32)


def history(*items):
    age = np.arange(len(items), dtype=np.float64)[::-1]
    return Histories(np.array(items), age, np.array([0, len(items)]), ITEMS)


def test_readings_that_differ_in_one_thing_are_scored_each_by_itself():
    frozen, adapted, other = (vectors(seed) for seed in range(3))
    texts = [
        TextScorer(frozen, frozen),
        TextScorer(frozen, frozen, 0.5),
        TextScorer(adapted, frozen),
        TextScorer(frozen, other),
    ]
    parts = SharedParts()
    for some in (history(0, 1, 2), history(3, 4), history(0, 1, 2)):
        for _ in range(2):
            for text in texts:
                assert np.array_equal(parts.text(text)(some), text.score(some))


def test_what_is_asked_for_twice_is_the_same_array():
    parts, text, some = SharedParts(), TextScorer(vectors(0), vectors(0)), history(0, 1)
    assert parts.text(text)(some) is parts.text(text)(some)


# ------------------------------------------------------------------- a shop's models
@pytest.fixture
def release(ground):
    """An adapter, and a season that is known from the first period on."""
    *_, evaluators = ground
    width = evaluators[0].vectors.candidates.shape[1]
    vectors = np.random.default_rng(3).normal(size=(2, width)).astype(np.float32)
    season = Season(vectors, (0, 250 * DAY), 0.0, 3)
    return random_adapter(evaluators[0].vectors._encoded.encoder, size=0.5), season


@pytest.mark.parametrize("chunk", [100, 4_000_000])
def test_models_that_share_parts_are_judged_as_each_is_by_itself(
    ground, release, monkeypatch, chunk
):
    """Whether all cases are scored at once or a few at a time."""
    monkeypatch.setattr(metrics, "CHUNK_SCORES", chunk)
    *_, evaluators = ground
    evaluator, (adapter, season) = evaluators[0], release
    frozen, text = evaluator.frozen_fused, evaluator.text(adapter)
    fused, ease = evaluator.fused(text, season), evaluator.shop.fit_ease()
    popularity = fit_popularity(evaluator.shop.past.matrix())
    alone = replace(fused.weights, federated_season=0.0, federated_prior=0.0)
    trend = FusedRanker.of(frozen.text, ease, COLLABORATIVE_AND_TREND, evaluator.shop.past)
    expected = {
        "popularity": lambda some: popularity.score(some.bought()),
        "local_ease": lambda some: ease.score(some.bought()),
        "own_alone": frozen.with_weights(COLLABORATIVE_ALONE).score,
        "ease_trend": trend.score,
        "frozen_text": frozen.text.score,
        "fused_frozen": frozen.score,
        "adapter": text.score,
        "fused": fused.score,
        "fused_frozen_boosted": frozen.with_weights(boosted(frozen.weights)).score,
        "fused_boosted": fused.with_weights(boosted(fused.weights)).score,
        "fused_adapter": fused.with_weights(alone).score,
        "fused_season": evaluator.fused(evaluator.text(None), season).score,
    }
    ranker, found = evaluator.compared(adapter, season)
    assert ranker.weights == fused.weights
    assert list(found) == list(expected)
    for model, scores in expected.items():
        itself = evaluator.evaluate(scores)
        assert np.array_equal(found[model].exposure, itself.exposure)
        for metric, values in itself.per_shopper.items():
            np.testing.assert_array_equal(found[model].per_shopper[metric], values, err_msg=model)


def boosted(weights):
    return replace(weights, tail=1.3 * weights.tail, cold_start=1.3 * weights.cold_start)


def test_what_models_share_is_computed_once(ground, release, monkeypatch):
    *_, evaluators = ground
    evaluator = evaluators[0]
    evaluator.compared(*release)  # what is fitted is fitted
    scored = []

    def heard(score):
        return lambda self, history: scored.append(type(self).__name__) or score(self, history)

    monkeypatch.setattr(TextEaseModel, "score", heard(TextEaseModel.score))
    evaluator.compared(*release)
    assert scored == ["TextEaseModel"]
