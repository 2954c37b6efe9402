from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from client.ranking.baselines import fit_ease
from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.sales_trend import SalesTrend, sales_trend
from client.ranking.season import ItemSeason, Seasons, no_season
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import TextScorer
from client.recommending.explanation import Explanation, HistoryPart, ShopperScores
from client.shop.histories import histories, typed_history
from common.errors import InputError
from tests.support.shops import interactions_of, make_catalogue, make_interactions

ITEMS, SHOPPERS, WIDTH = 14, 20, 8


def ranker_of(random, items=ITEMS, *, weights=None):
    """A ranker on a random shop, some of whose items nobody bought."""
    sold = csr_matrix(random.random((SHOPPERS, items)) < 0.2 * (random.random(items) < 0.8))
    vectors, candidates = (random.normal(size=(items, WIDTH)) for _ in range(2))
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    text = TextScorer(
        vectors.astype(np.float32), candidates.astype(np.float32), float(random.uniform(0.3, 1))
    )
    weights = weights or FusionWeights(*random.uniform(0, 3, 8))
    trend = random.normal(size=items).astype(np.float32)
    sales = np.asarray(sold.sum(axis=0)).ravel().astype(np.int64)
    own = fit_ease(csr_matrix(sold, dtype=np.float32), 5.0)
    recent = np.abs(random.normal(size=items)).astype(np.float32) * (sales > 0)
    season = Seasons(
        *(ItemSeason.of(random.normal(size=WIDTH), text.candidate_vectors) for _ in range(2))
    )
    return FusedRanker(text, own, weights, sales, SalesTrend(trend, recent), season)


def history_of(random, items=ITEMS):
    length = int(random.integers(1, items + 1))
    return typed_history(random.choice(items, length).tolist(), items)


def fused_by_loops(ranker, history):
    """The formula of client/ranking/fusion.py in float64, item by item of the catalogue."""
    weights = np.zeros((ITEMS, ITEMS))
    ease = ranker.collaborative
    weights[np.ix_(ease.sold, ease.sold)] = ease.weights
    own = [sum(weights[i, j] for i in history.item) for j in range(ITEMS)]
    weight = ranker.text.decay**history.age
    pooled = (weight[:, None] * ranker.text.history_vectors[history.item].astype(float)).sum(0)
    told = [float(x.astype(float) @ pooled) for x in ranker.text.candidate_vectors]
    parts = []
    for scores in map(np.array, (own, told)):
        spread = scores.std()
        parts.append((scores - scores.mean()) / spread if spread > 1e-12 else scores * 0)
    weights = ranker.weights
    text = weights.text + weights.tail * 3 / (3 + ranker.sales)
    rising = weights.trend * ranker.trend.trend.astype(float)
    bonus = np.array([weights.cold_start if sales == 0 else 0.0 for sales in ranker.sales])
    here, elsewhere = (
        season.scores.astype(float) for season in (ranker.season.own, ranker.season.federated)
    )
    recent = ranker.trend.recent.astype(float)
    expected = np.log((recent + 3 * np.exp(weights.federated_prior * elsewhere)) / (recent + 3))
    return (
        weights.collaborative * parts[0],
        text.astype(np.float32) * parts[1],
        rising,
        bonus,
        weights.season * np.minimum(here, 1.5) * 10 / (10 + ranker.sales),
        weights.federated_season * np.minimum(elsewhere, 1.5) * 40 / (40 + ranker.sales)
        + weights.trend * expected,
    )


# ------------------------------------------------------------------- the sums
@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_the_parts_of_every_score_are_its_bits_and_it_is_the_formula(seed):
    random = np.random.default_rng(seed)
    ranker, history = ranker_of(random), history_of(random)
    formula = fused_by_loops(ranker, history)
    scored = ShopperScores(ranker, history)
    assert np.array_equal(scored.scores, ranker.score(history)[0])
    rounding = 2e-5  # of float32: weights up to 6 times standardised scores
    assert np.abs(scored.scores - sum(formula)).max() < rounding
    for item, why in enumerate(scored.explain(np.arange(ITEMS))):
        own, text, trend, bonus, popularity, here, elsewhere = map(np.float32, why.parts.values())
        assert why.item == item
        alike = ((trend + bonus) + popularity) + (here + elsewhere)
        assert why.score == scored.scores[item] == (own + text) + alike
        assert np.float32(sum(part.collaborative for part in why.history)) == own
        assert np.float32(sum(part.text for part in why.history)) == text
        for found, expected in zip(
            (own, text, trend, bonus, here, elsewhere), formula, strict=True
        ):
            assert abs(found - expected[item]) < rounding
        assert why.popularity == 0
        assert sorted(part.item for part in why.history) == sorted(history.item)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_bought_items_share_is_what_it_adds_above_the_average_item(seed, reads_titles):
    """By the model's own scores of that item alone, for both collaborative models."""
    random = np.random.default_rng(seed)
    ranker, history = ranker_of(random), history_of(random)
    if reads_titles:
        bought = csr_matrix(random.random((SHOPPERS, ITEMS)) < 0.2, dtype=np.float32)
        vectors = ranker.text.candidate_vectors[:, : random.choice([2, WIDTH])]
        many = random.random() < 0.5  # shoppers: fitted by items then, else by rows
        bought = csr_matrix(bought[: None if many else 3])
        ranker = replace(ranker, collaborative=fit_text_ease(bought, vectors, 5.0))
    scored = ShopperScores(ranker, history)
    deviation = ranker.signals(history).collaborative.deviation[0, 0]
    for item in history.item.tolist():
        alone = ranker.collaborative.score(typed_history([item], ITEMS).bought())[0].astype(float)
        expected = ranker.weights.collaborative * (alone - alone.mean()) / deviation
        for why in scored.explain(np.arange(ITEMS)):
            [part] = [part for part in why.history if part.item == item]
            assert part.collaborative == pytest.approx(expected[why.item], abs=5e-5)


def test_the_explained_scores_are_those_that_rank_many_shoppers_at_once():
    random = np.random.default_rng(3)
    ranker, shop = ranker_of(random), make_interactions(ITEMS, SHOPPERS)
    everybody = histories(shop, np.arange(SHOPPERS))
    together = ranker.score(everybody)
    for shopper in range(SHOPPERS):
        alone = ShopperScores(ranker, everybody.take(slice(shopper, shopper + 1)))
        assert np.array_equal(alone.scores, together[shopper])


def test_the_texts_weight_is_that_of_the_fusion():
    random = np.random.default_rng(8)
    ranker = ranker_of(random, weights=FusionWeights(0.75, 0.5, 2.0, 1.0, 0.5, 0.25, 1.0, 0.5))
    why = ShopperScores(ranker, history_of(random)).explain([4])[0]
    assert why.text_weight == pytest.approx(0.5 + 6 / (3 + ranker.sales[4]), abs=1e-6)


def test_titles_that_are_alike_but_for_rounding_say_nothing():
    random = np.random.default_rng(4)
    ranker = ranker_of(random, weights=FusionWeights(0, 1, 0, 0, 0, 0, 0))
    row = ranker.text.candidate_vectors[:1]
    alike = np.nextafter(row, random.choice([-1, 1], (ITEMS, WIDTH)).astype(np.float32))
    text = replace(ranker.text, candidate_vectors=alike, history_vectors=np.tile(row, (ITEMS, 1)))
    ranker, history = replace(ranker, text=text), history_of(random)
    scored = ShopperScores(ranker, history)
    assert not scored.scores.any()
    assert not any(part.total for part in scored.explain([3])[0].history)
    assert not ranker.score(history).any()


# ----------------------------------------------------------------- odd histories
def test_an_empty_history_gives_the_best_sellers_in_a_fixed_order():
    random = np.random.default_rng(1)
    ranker = ranker_of(random)
    scored = ShopperScores(ranker, typed_history([], ITEMS))
    order = np.argsort(-scored.scores, kind="stable")
    assert order.tolist() == np.argsort(-ranker.sales, kind="stable").tolist()
    [why] = scored.explain(order[:1])
    assert why.history == ()
    assert why.trend == why.cold_start == why.season == why.federated_season == 0
    assert why.popularity == why.score > 0
    assert why.because(make_catalogue(ITEMS)) == "Popular in this shop."


def test_a_shop_that_sold_nothing_scores_everything_alike_for_nobody_in_particular():
    random = np.random.default_rng(1)
    nothing = interactions_of([], ITEMS, 2)
    text = ranker_of(random).text
    ranker = FusedRanker(
        text,
        fit_ease(nothing.matrix(), 5.0),
        FusionWeights(1, 1, 0, 1, 0.5),
        nothing.item_counts(),
        sales_trend(nothing),
        no_season(ITEMS, WIDTH),
    )
    assert not ShopperScores(ranker, typed_history([], ITEMS)).scores.any()
    assert ShopperScores(ranker, typed_history([3], ITEMS)).scores.std() == pytest.approx(1)


def test_one_history_at_a_time():
    random = np.random.default_rng(1)
    everybody = histories(make_interactions(ITEMS, SHOPPERS), np.arange(2))
    with pytest.raises(InputError) as caught:
        ShopperScores(ranker_of(random), everybody)
    assert caught.value.field == "history"


# ------------------------------------------------------------------- in words
@pytest.mark.parametrize(
    ("parts", "trend", "cold_start", "popularity", "said"),
    [
        ([(2.0, 0.1), (0.3, 0.2)], 0, 0, 0, "Because you bought {0}: they go together."),
        ([(2.0, 0.1)], 1.9, 0, 0, "Because you bought {0}: they go together."),
        (
            [(0.1, 2.0), (0.3, 0.2)],
            0,
            2.5,
            0,
            "Because you bought {0}: the two have much in common.",
        ),
        ([(0.1, 0.2)], 0.9, 0, 0, "Selling more than usual lately."),
        ([(-0.1, 0.0)], 0, 0.5, 0, "Nobody has bought it here yet."),
        ([], 0, 0, 0.9, "Popular in this shop."),
        ([(-0.1, 0.0)], 0, 0, 0, "The best of what is left."),
        ([(-0.1, 0.0)], -0.5, 0, 0, "The best of what is left."),
        ([(0.1, 0.2)], [0.5, 0.4, 0.45], 0, 0, "Selling more than usual lately."),
        (
            [(0.1, 0.2)],
            [0.5, 0.9, 0.7],
            0,
            0,
            "What is like it sells well here lately.",
        ),
        (
            [(0.1, 0.2)],
            [-0.5, 0.1, 0.7],
            0,
            0,
            "What is like it sells more than usual in other shops lately.",
        ),
        ([], 0, 0, -0.3, "The best of what is left."),
    ],
)
def test_the_sentence_names_the_largest_part(parts, trend, cold_start, popularity, said):
    catalogue = make_catalogue(ITEMS)
    history = tuple(HistoryPart(place, *part) for place, part in enumerate(parts))
    trend, *seasons = trend if isinstance(trend, list) else [trend, 0.0, 0.0]
    why = Explanation(9, 1.0, history, 0.0, 0.0, trend, cold_start, popularity, *seasons, 1.0)
    assert why.because(catalogue) == said.format(catalogue.items[0].title)


def test_the_largest_part_comes_first():
    random = np.random.default_rng(2)
    [why] = ShopperScores(ranker_of(random), history_of(random)).explain([3])
    totals = [part.total for part in why.history]
    assert len(totals) > 2
    assert totals == sorted(totals, reverse=True)
