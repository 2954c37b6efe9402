from dataclasses import fields, replace

import numpy as np
import pytest

from client.ranking import shortlist as module
from client.ranking.fusion import FusionWeights
from client.ranking.fusion_weights import COLLABORATIVE_ALONE, DEFAULT_WEIGHTS, TEXT_ALONE
from client.ranking.shortlist import Reading, Spread
from common.catalogue import popularity_buckets
from common.evaluation.metrics import ndcg, rank_scores, recall
from tests.support.trials import ADAPTED, made_period, shortlist_of, texts_of

SOME = (
    DEFAULT_WEIGHTS,
    TEXT_ALONE,
    COLLABORATIVE_ALONE,
    FusionWeights(0.5, 1.0, 0.2, 1.0, 0.5, 1.0, 0.0),
)


@pytest.fixture(scope="module")
def period():
    ranker, validation = made_period(items=300, shoppers=80)
    return ranker, validation, texts_of(ranker, ADAPTED)


def expected(ranker, validation, text, weights):
    """What a list of the whole catalogue finds."""
    ranker = replace(ranker, text=text, weights=weights)
    ranking = rank_scores(
        lambda rows: ranker.score(validation.history.take(rows)), validation.seen, 10
    )
    buckets = (popularity_buckets(ranker.sales).tail, ranker.sales == 0)
    return (
        ndcg(ranking, validation.relevant),
        *(recall(ranking, validation.relevant, bucket) for bucket in buckets),
    )


@pytest.mark.parametrize("weights", SOME)
def test_a_shortlist_finds_what_the_whole_catalogue_finds(period, weights):
    ranker, validation, texts = period
    listed = shortlist_of(ranker, validation, texts)
    assert listed.padding.shape[1] < 280  # some items are on no list
    for reading in (ADAPTED[0], Reading(1.0, 1.0), Reading(2.0, 0.8)):
        found = listed.found(weights, reading)
        for one, other in zip(
            found, expected(ranker, validation, texts[reading], weights), strict=True
        ):
            np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
            assert np.nanmean(one) == pytest.approx(np.nanmean(other), abs=0.003)
            assert np.mean(np.nan_to_num(one) != np.nan_to_num(other)) < 0.1


def test_cases_taken_a_few_at_a_time_are_the_same(period, monkeypatch):
    ranker, validation, texts = period
    whole = shortlist_of(ranker, validation, texts)
    monkeypatch.setattr(module, "CHUNK_SCORES", 7 * len(ranker.sales))
    parts = shortlist_of(ranker, validation, texts)
    assert len(parts) == len(whole) == len(validation.history)
    for weights in SOME:
        for one, other in zip(
            whole.found(weights, ADAPTED[0]), parts.found(weights, ADAPTED[0]), strict=True
        ):
            np.testing.assert_allclose(one, other)


def test_places_without_an_item_and_seen_items_are_never_listed(period):
    ranker, validation, texts = period
    listed = shortlist_of(ranker, validation, texts)
    assert listed.padding.any()
    assert not listed.relevant[listed.padding].any()
    assert (listed.scores(DEFAULT_WEIGHTS, ADAPTED[0])[listed.padding] == -np.inf).all()
    bought = listed.relevant.sum(axis=1)
    assert (bought == validation.relevant.getnnz(axis=1)).all()


def test_every_weight_of_all_shoppers_alike_has_its_part(period):
    """A weight that is added to the score must be added here, or it is never fitted."""
    ranker, validation, texts = period
    listed = shortlist_of(ranker, validation, texts)
    named = {field.name for field in fields(FusionWeights)}
    own = {"collaborative", "text", "tail"}
    assert set(listed.alike) == named - own - {"federated_prior"}


def test_a_catalogue_of_fewer_items_than_a_list_has_places():
    ranker, validation = made_period(items=8, shoppers=60)
    listed = shortlist_of(ranker, validation, texts_of(ranker, ADAPTED[:1]))
    found = listed.found(DEFAULT_WEIGHTS, ADAPTED[0])
    assert np.isfinite(found.ndcg).all()


def test_a_spread_standardises_any_product():
    random = np.random.default_rng(0)
    candidates = random.normal(size=(50, 6)).astype(np.float32)
    one = random.normal(size=6).astype(np.float32)
    spread = Spread.of(candidates)
    product = candidates @ one
    assert one @ spread.mean == pytest.approx(product.mean(), rel=1e-4)
    assert one @ spread.covariance @ one == pytest.approx(product.var(), rel=1e-4)
