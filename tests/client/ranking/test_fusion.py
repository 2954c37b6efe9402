from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from client.ranking.baselines import fit_ease
from client.ranking.fusion import FusedRanker, FusionWeights, standardised
from client.ranking.model_selection import clearly_better
from client.ranking.sales_trend import sales_trend
from client.ranking.season import seasons
from client.ranking.text_scorer import DECAYS, TextScorer, fit_decay
from client.ranking.validation import Validation
from client.shop.histories import histories, typed_history
from client.shop.splitting import evaluation_cases
from common.errors import InputError
from common.evaluation.metrics import ndcg, rank_scores
from common.season import NoisedVector
from tests.support.served import made_model
from tests.support.shops import interactions_of, make_interactions

ITEMS, SHOPPERS, WIDTH = 25, 20, 8


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def shop():
    """Purchases, their histories and random unit vectors."""
    interactions = make_interactions(ITEMS, SHOPPERS)
    random = np.random.default_rng(0)
    vectors, candidates = (unit(random.normal(size=(ITEMS, WIDTH))) for _ in range(2))
    return interactions, histories(interactions, np.arange(SHOPPERS)), vectors, candidates


def validation_of(interactions, cut=180):
    """Cases of everything after day `cut`."""
    before = interactions.where(interactions.time < cut * 86_400_000_000)
    after = interactions.where(interactions.time >= cut * 86_400_000_000)
    cases = evaluation_cases(before, after)
    return before, Validation(histories(before, cases.shoppers), cases.seen, cases.relevant)


def nobody(interactions):
    empty = interactions_of([], ITEMS, SHOPPERS)
    cases = evaluation_cases(empty, interactions)
    return Validation(histories(empty, cases.shoppers), cases.seen, cases.relevant)


# ------------------------------------------------------------------------ text
@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_the_text_score_is_the_decayed_mean_against_the_frozen_candidates(shop, decay):
    _, history, vectors, candidates = shop
    found = TextScorer(vectors, candidates, decay).score(history)
    for shopper in range(SHOPPERS):
        part = slice(history.starts[shopper], history.starts[shopper + 1])
        weights = decay ** history.age[part]
        pooled = (weights[:, None] * vectors[history.item[part]]).sum(axis=0)
        expected = candidates @ (pooled / np.linalg.norm(pooled))
        assert np.allclose(found[shopper], expected, atol=1e-5)


def test_somebody_without_a_history_has_no_embedding(shop):
    _, _, vectors, candidates = shop
    found = TextScorer(vectors, candidates).score(typed_history([], ITEMS))
    assert found.shape == (1, ITEMS)
    assert not found.any()


# ------------------------------------------------------------------- standardised
rows = arrays(np.float32, (3, 12), elements=st.floats(-10, 10, width=32))


@given(rows)
def test_rows_are_standardised_and_keep_their_order(scores):
    found = standardised(scores).scores
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    for before, after in zip(scores.astype(float), found.astype(float), strict=True):
        if before.std() < 1e-3:
            continue  # all but constant: float32 has nothing to say
        rounding = 2.0**-22 * np.abs(before).max() / before.std()  # of a float32 mean, standardised
        assert after.mean() == pytest.approx(0, abs=1e-6 + rounding)
        assert after.std() == pytest.approx(1, rel=1e-3)
        order = np.argsort(before, kind="stable")
        assert (np.diff(after[order]) >= 0).all()


@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 3000))
def test_a_constant_row_becomes_zeros(value, items):
    found = standardised(np.full((2, items), value, np.float32)).scores
    assert not found.any()


@given(st.floats(2**-7, 1e6, width=32), st.integers(2, 3000), st.integers(0, 2**32 - 1))
def test_rounding_of_equal_scores_is_no_opinion(value, items, seed):
    """Each score is a few last digits off, as sums in another order are."""
    random = np.random.default_rng(seed)
    row = np.full(items, value, np.float32)
    row += np.spacing(row) * random.integers(-4, 5, items).astype(np.float32)
    assert not standardised(row[None]).scores.any()
    assert standardised((row + np.eye(items, dtype=np.float32)[0] * value)[None]).scores[0, 0] > 0


# ------------------------------------------------------------------------- fused
def ranker_of(shop, weights, decay=0.8):
    interactions, _, vectors, candidates = shop
    elsewhere = np.random.default_rng(7).normal(size=WIDTH).astype(np.float32)
    return FusedRanker.of(
        TextScorer(vectors, candidates, decay),
        fit_ease(interactions.matrix(), 50.0),
        weights,
        interactions,
        NoisedVector(elsewhere, 0.3, 2**60),
    )


@given(st.builds(FusionWeights, *[st.floats(0, 3)] * 8))
def test_the_parts_add_up_to_the_score_bit_by_bit(weights):
    interactions = make_interactions(ITEMS, SHOPPERS)
    random = np.random.default_rng(0)
    vectors, candidates = (unit(random.normal(size=(ITEMS, WIDTH))) for _ in range(2))
    history = histories(interactions, np.arange(SHOPPERS))
    ranker = ranker_of((interactions, history, vectors, candidates), weights)
    parts = ranker.parts(history)
    own, text, trend, cold_start, popularity, season, federated = parts
    assert own.shape == text.shape == (SHOPPERS, ITEMS)
    assert {part.shape for part in parts[2:]} == {(1, ITEMS)}
    assert not popularity.any()
    score = ranker.score(history)
    assert {part.dtype for part in (*parts, score)} == {np.dtype(np.float32)}
    alike = ((trend + cold_start) + popularity) + (season + federated)
    assert np.array_equal(score, (own + text) + alike)


def test_somebody_without_a_history_gets_the_best_sellers_alone_or_among_others(shop):
    interactions, history, *_ = shop
    ranker = ranker_of(shop, FusionWeights())
    nobody = typed_history([], ITEMS)
    alone = ranker.parts(nobody)
    sales = interactions.item_counts()
    assert np.allclose(alone.popularity[0], (sales - sales.mean()) / sales.std(), atol=1e-5)
    for name in ("collaborative", "text", "trend", "cold_start", "season", "federated_season"):
        assert not getattr(alone, name).any(), name
    starts = np.append(history.starts, history.starts[-1])
    together = ranker.score(replace(history, starts=starts))
    assert np.array_equal(together[-1], alone.total()[0])
    assert np.array_equal(together[:-1], ranker.score(history))


def test_the_parts_are_the_formula(shop):
    interactions, history, *_ = shop
    ranker = ranker_of(shop, FusionWeights(0.75, 0.5, 2.0, 1.5, 0.25, 0.5, 0.0, 0.0))
    sales = np.asarray(interactions.matrix().sum(axis=0), dtype=np.int64).ravel()
    sales[:2] = 0
    ranker = replace(ranker, sales=sales)
    own, told, rising, bonus, _, season, federated = ranker.parts(history)
    ease = ranker.collaborative.score(history.bought()).astype(float)
    text = ranker.text.score(history).astype(float)
    for scores, found, weight in ((ease, own, 0.75), (text, told, 0.5 + 6 / (3 + sales))):
        z = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)
        assert np.allclose(found, z * weight, atol=1e-4)
    assert np.allclose(rising, 1.5 * sales_trend(interactions).trend)
    z = seasons(interactions, shop[3]).own.scores.astype(float)
    assert np.allclose(season, 0.5 * np.minimum(z, 1.5) * 10 / (10 + sales))
    assert not federated.any()
    ranker = ranker.with_weights(
        FusionWeights(trend=2.0, federated_season=0.5, federated_prior=0.2)
    )
    held, trend = ranker.season.federated, sales_trend(interactions)
    z, share = held.scores.astype(float), held.reliability
    shifted = trend.recent + 3 * np.exp(0.2 * share * z)
    expected = 0.5 * share * np.minimum(z, 1.5) * 40 / (40 + sales)
    expected += 2 * np.log(shifted / (trend.recent + 3))
    assert 0 < share < 1
    assert np.allclose(ranker.parts(history).federated_season, expected, atol=1e-5)
    assert bonus.tolist() == [(0.25 * (sales == 0)).tolist()]


def test_the_text_counts_most_for_a_cold_start_item():
    weights = FusionWeights(text=0.25, tail=1.0).text_weights(np.array([0, 3, 9, 2997]))
    assert weights == pytest.approx([1.25, 0.75, 0.5, 0.251])
    assert weights.dtype == np.float32


@pytest.mark.parametrize("tail_boost", [0.0, 0.5, 2.0])
def test_the_tail_boost_moves_what_sells_little_and_nothing_else(tail_boost):
    weights = FusionWeights(0.5, 0.25, 1.0, 2.0, 0.5, 0.75, 0.5, 0.25).boosted(tail_boost)
    assert weights == FusionWeights(0.5, 0.25, tail_boost, 2.0, tail_boost / 2, 0.75, 0.5, 0.25)


@pytest.mark.parametrize("tail_boost", [-0.1, 2.1, float("nan")])
def test_a_tail_boost_beyond_its_ends_is_refused(tail_boost):
    with pytest.raises(InputError) as caught:
        FusionWeights().boosted(tail_boost)
    assert caught.value.field == "tail_boost"


def test_chunks_of_histories_score_as_the_whole(shop):
    _, history, *_ = shop
    ranker = ranker_of(shop, FusionWeights())
    whole = ranker.score(history)
    for size in (1, 7):
        starts = range(0, SHOPPERS, size)
        parts = [ranker.score(history.take(slice(start, start + size))) for start in starts]
        assert np.array_equal(np.concatenate(parts), whole)


# ----------------------------------------------------------------------- fitting
def mean_ndcg(score, validation):
    ranking = rank_scores(lambda rows: score[rows], validation.seen, 10)
    return float(np.mean(ndcg(ranking, validation.relevant)))


def coming_true(validation, vectors, candidates, decay):
    """The same cases, where each shopper bought the five items that this decay ranks first."""
    score = TextScorer(vectors, candidates, decay).score(validation.history)
    ranked = rank_scores(lambda rows: score[rows], validation.seen, 5).items
    relevant = np.zeros(validation.relevant.shape, np.float32)
    np.put_along_axis(relevant, ranked, 1.0, axis=1)
    return replace(validation, relevant=csr_matrix(relevant))


@pytest.fixture(scope="module")
def many():
    """Eighty shoppers of several baskets, and a catalogue large enough for decays to differ."""
    interactions = make_interactions(120, 80, baskets=(4, 9))
    random = np.random.default_rng(1)
    vectors, candidates = (unit(random.normal(size=(120, 40))) for _ in range(2))
    return validation_of(interactions)[1], vectors, candidates


@pytest.mark.parametrize("usual", [1.0, 0.65, 0.7])
@pytest.mark.parametrize("true", [1.0, 0.5])
def test_a_decay_that_ranks_validation_better_beyond_chance_is_taken(many, usual, true):
    validation, vectors, candidates = many
    told = coming_true(validation, vectors, candidates, true)

    def by_case(decay):
        return told.ndcg(TextScorer(vectors, candidates, decay).score(told.history))

    assert by_case(true).tolist() == [1.0] * len(told.history)
    best = max((1.0, *DECAYS), key=lambda decay: by_case(decay).mean())
    beyond_chance = clearly_better(by_case(best), by_case(usual))
    assert beyond_chance == (usual != true)
    assert fit_decay(vectors, candidates, told, usual).decay == (best if beyond_chance else usual)


def test_luck_does_not_move_the_decay(many):
    """Purchases by chance prefer some decay of seven; only one beyond chance may be taken."""
    validation, vectors, candidates = many
    random, moved, best = np.random.default_rng(0), 0, 0
    for _ in range(60):
        relevant = np.zeros(validation.relevant.shape, np.float32)
        for row, seen in enumerate(validation.seen.toarray()):
            relevant[row, random.choice(np.flatnonzero(seen == 0), 3, replace=False)] = 1
        told = replace(validation, relevant=csr_matrix(relevant))
        by_decay = [
            mean_ndcg(TextScorer(vectors, candidates, decay).score(told.history), told)
            for decay in DECAYS
        ]
        best += max(by_decay) > by_decay[0]
        moved += fit_decay(vectors, candidates, told).decay != 1.0
    assert best > 40
    assert moved < 15


def test_the_usual_decay_stands_without_cases_and_where_all_are_equal(shop):
    interactions, _, vectors, candidates = shop
    empty = nobody(interactions)
    assert len(empty.history) == 0
    _, validation = validation_of(interactions)
    for usual in (1.0, 0.7):
        assert fit_decay(vectors, candidates, empty, usual).decay == usual
        assert fit_decay(np.zeros_like(vectors), candidates, validation, usual).decay == usual


def test_thinned_cases_keep_their_own_history(shop):
    interactions, *_ = shop
    _, validation = validation_of(interactions)
    few = validation.thinned(4)
    assert len(few.history) == few.seen.shape[0] == few.relevant.shape[0] == 4
    rows = np.arange(4) * len(validation.history) // 4
    for place, row in enumerate(rows):
        own = few.history.take(slice(place, place + 1))
        assert (own.item == validation.history.take(slice(row, row + 1)).item).all()
        assert (own.age == validation.history.take(slice(row, row + 1)).age).all()
        assert (few.seen[place] != validation.seen[row]).nnz == 0
        assert set(own.item) <= set(few.seen[place].indices)
    assert validation.thinned(10_000) is validation


def test_seen_items_are_no_part_of_a_validation_ranking(shop):
    interactions, *_ = shop
    _, validation = validation_of(interactions)
    score = validation.seen.toarray() * 100.0
    ranking = rank_scores(lambda rows: score[rows], validation.seen, 10)
    for shopper in range(len(validation.history)):
        listed = ranking.items[shopper]
        seen = set(validation.seen[shopper].indices.tolist())
        assert not seen & set(listed[listed >= 0].tolist())


def test_a_shopper_of_a_large_shop_has_the_same_score_alone_as_among_others():
    """Bit by bit, with more numbers than the shops of other tests have: BLAS has other kernels."""
    model = made_model(items=2900, shoppers=60, width=384)
    shoppers = histories(model.purchases, np.arange(60))
    together = model.ranker.score(shoppers)
    for place in range(60):
        alone = model.ranker.score(shoppers.take(slice(place, place + 1)))
        assert np.array_equal(alone[0], together[place])
