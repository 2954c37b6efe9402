import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.shop.splitting import evaluation_cases, join, split_interactions
from common.catalogue import popularity_buckets
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.errors import SettingsError
from common.evaluation.scorecard import evaluate_scores
from common.settings.run import RunSettings
from simulations.data.marketplace import (
    MICROSECONDS_PER_DAY,
    OPENING,
    MarketplaceSettings,
    _pull_of_new,
    make_marketplace,
)
from simulations.data.titles import (
    COLOURS,
    DEPARTMENTS,
    FAMILIES,
    MATERIALS,
    STYLE_WORDS,
    STYLES,
    write_products,
)

SMALL = MarketplaceSettings(
    merchants=3,
    min_shoppers=40,
    max_shoppers=60,
    items=300,
    min_interactions=5,
    max_interactions=20,
)
FACETS = ("style", "word", "family", "department", "colour", "material")


@pytest.fixture(scope="module")
def market(marketplace):
    return marketplace


@pytest.fixture(scope="module")
def split(market):
    return split_interactions(market.data.interactions, market.data.split_rule)


def everything(market):
    """All that a marketplace holds, as bytes."""
    rows = market.data.interactions
    columns = (rows.shopper, rows.item, rows.time, rows.basket, rows.value)
    facets = [getattr(market.products, name) for name in FACETS]
    preferences = [getattr(market.preferences, name) for name in FACETS]
    arrays = [*columns, *facets, *preferences, market.popularity, market.launch, market.shelf]
    arrays += [market.data.event_merchant, market.shopper_merchant]
    names = (market.data.catalogue.items, rows.shopper_ids, market.data.merchant_names)
    return b"".join(array.tobytes() for array in arrays) + repr(names).encode()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (everything(make_marketplace(SMALL, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_default_is_made_in_under_three_seconds_of_work():
    began = time.process_time()
    make_marketplace(seed=3)
    assert time.process_time() - began < 3


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    merchants=st.integers(1, 9),
    basket_size=st.floats(1, 10),
    cold_share=st.floats(0, 0.5),
    repeat_factor=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_every_marketplace_is_well_formed(seed, merchants, basket_size, cold_share, repeat_factor):
    chosen = replace(
        SMALL,
        merchants=merchants,
        basket_size=basket_size,
        cold_share=cold_share,
        repeat_factor=repeat_factor,
    )
    market = make_marketplace(chosen, seed=seed)
    rows, ids = market.data.interactions, [one.item_id for one in market.data.catalogue.items]
    assert ids == sorted(set(ids))
    assert list(market.data.merchant_names) == sorted(set(market.data.merchant_names))
    assert len(market.data.merchant_names) == merchants
    sizes = np.bincount(market.shopper_merchant, minlength=merchants)
    assert ((sizes >= 40) & (sizes <= 60)).all()
    counts = np.bincount(rows.shopper, minlength=rows.shopper_count)
    assert counts.min() >= 5
    assert counts.max() <= 20
    assert np.array_equal(np.lexsort((rows.item, rows.time, rows.shopper)), np.arange(len(rows)))
    assert (rows.time >= market.launch[rows.item]).all(), "nothing is bought before its launch"
    assert rows.time.min() >= OPENING
    assert rows.time.max() < OPENING + (chosen.days + 1) * MICROSECONDS_PER_DAY
    assert np.array_equal(market.data.event_merchant, market.shopper_merchant[rows.shopper])
    cells = np.stack([rows.shopper, rows.basket, rows.item])
    assert np.unique(cells, axis=1).shape == cells.shape, "an item is once in a basket"
    for shopper in range(0, rows.shopper_count, 17):
        mine = rows.shopper == shopper
        assert np.array_equal(np.unique(rows.time[mine], return_inverse=True)[1], rows.basket[mine])
    if repeat_factor == 0:
        pairs = cells[[0, 2]]
        assert np.unique(pairs, axis=1).shape == pairs.shape, "what is owned is not bought again"


def test_titles_are_distinct_have_three_to_six_words_and_say_every_facet():
    products = write_products(3000, np.random.default_rng(5))
    assert len(set(products.titles)) == 3000
    style_of_word = [name for name, words in STYLES.items() for _ in words]
    for place, title in enumerate(products.titles):
        words = f" {title.lower()} "
        assert 3 <= len(title.split()) <= 6
        assert f" {FAMILIES[products.family[place]]} " in words
        assert f" {STYLE_WORDS[products.word[place]]} " in words
        assert style_of_word[products.word[place]] == list(STYLES)[products.style[place]]
        assert FAMILIES[products.family[place]] in DEPARTMENTS[products.department[place]].families
        named = [f" {colour} " in words for colour in COLOURS]
        assert np.flatnonzero(named).tolist() == [
            one for one in [products.colour[place]] if one >= 0
        ]
        if products.material[place] >= 0:
            assert f" {MATERIALS[products.material[place]]} " in words
    assert (products.colour < 0).any()
    assert (products.material < 0).any()


def test_a_style_is_named_by_several_words_and_most_titles_do_not_hold_its_label(market):
    labels = np.array(list(STYLES))[market.products.style]
    held = [
        label in title.lower() for label, title in zip(labels, market.products.titles, strict=True)
    ]
    assert np.mean(held) < 0.5


def test_sales_have_a_long_tail_and_most_shoppers_buy_in_the_test_period(market, split):
    counts = split.train.item_counts()
    assert (counts <= 5).mean() > 0.4
    assert counts[popularity_buckets(counts).head].sum() > 0.7 * counts.sum()
    cases = evaluation_cases(join(split.train, split.valid), split.test)
    assert len(cases) > 0.8 * market.data.interactions.shopper_count


def test_cold_items_are_sold_after_training_only(market, split):
    assert market.cold.sum() == round(0.12 * 2000)
    assert split.train.item_counts()[market.cold].sum() == 0
    assert split.valid.item_counts()[market.cold].sum() > 50
    after_test_began = market.launch >= market.data.split_rule.test_from
    assert split.test.item_counts()[after_test_began].sum() > 50


def test_merchants_have_unlike_category_mixes_over_one_catalogue(market):
    department = market.products.department[market.data.interactions.item]
    shares = np.array(
        [
            np.bincount(department[market.data.event_merchant == one], minlength=len(DEPARTMENTS))
            for one in range(4)
        ],
        dtype=float,
    )
    shares /= shares.sum(axis=1, keepdims=True)
    assert (np.abs(shares - shares.mean(axis=0)).sum(axis=1) / 2 > 0.1).all()


def rank_correlation(first, second):
    ranks = [np.argsort(np.argsort(one)) for one in (first, second)]
    return np.corrcoef(*ranks)[0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_an_id_and_a_place_tell_nothing_and_popularity_is_no_preference(seed, market):
    if seed:
        market = make_marketplace(seed=seed)
    place = np.arange(2000)  # the items' order is the ids' order
    liking = market.affinity(np.arange(300)).mean(axis=0)
    assert abs(rank_correlation(place, market.popularity)) < 0.1
    assert abs(rank_correlation(place, market.launch)) < 0.1
    assert abs(rank_correlation(place, liking)) < 0.1
    assert abs(rank_correlation(market.popularity, liking)) < 0.1


def test_affinity_is_the_sum_of_what_the_titles_words_are_worth(market):
    shoppers = [7, 3, 900]
    utility = market.affinity(shoppers)
    assert utility.shape == (3, 2000)
    for row, shopper in enumerate(shoppers):
        for item in range(0, 2000, 97):
            worth = 0.0
            for facet in FACETS:
                value = getattr(market.products, facet)[item]
                if value >= 0:
                    worth += float(getattr(market.preferences, facet)[shopper, value])
            assert utility[row, item] == pytest.approx(worth, abs=1e-4)


def test_first_purchases_follow_the_stated_odds():
    """Chi-square of items' first sales against exp(affinity) x popularity x shelf x novelty."""
    chosen = replace(SMALL, items=100, min_shoppers=2000, max_shoppers=2000, basket_size=1.0)
    market = make_marketplace(chosen, seed=4)
    rows = market.data.interactions
    first = np.flatnonzero(np.diff(rows.shopper, prepend=-1))
    assert (rows.basket[first] == 0).all()
    utility = market.affinity(np.arange(rows.shopper_count)).astype(float)
    odds = np.exp(utility) * market.popularity
    odds *= market.shelf[market.shopper_merchant][:, market.products.department]
    days = (rows.time[first][:, None] - market.launch) / MICROSECONDS_PER_DAY
    odds *= np.where(days < 0, 0, 1 + chosen.novelty * np.exp(-np.maximum(days, 0) / 45))
    chance = odds / odds.sum(axis=1, keepdims=True)
    alone = np.bincount(rows.shopper[rows.basket == 0]) == 1  # later baskets may hold several
    expected = chance[alone].sum(axis=0)
    seen = np.bincount(rows.item[first[alone]], minlength=100)
    spread = (chance[alone] * (1 - chance[alone])).sum(axis=0)
    common = expected > 5
    assert common.sum() > 20
    z = (seen - expected)[common] / np.sqrt(spread[common])
    assert np.abs(z).max() < 4.5
    assert 0.5 < np.mean(z**2) < 1.6


def test_what_is_new_pulls_more_and_nothing_before_its_launch():
    days = np.array([-1, 0, 45, 10_000]) * MICROSECONDS_PER_DAY
    assert _pull_of_new(days, 3.0) == pytest.approx([0, 4, 1 + 3 / np.e, 1], rel=1e-6)


def measured(market, score, split):
    """NDCG@10 and tail recall@10 on the test period of `score` [shoppers, items]."""
    history = join(split.train, split.valid)
    cases = evaluation_cases(history, split.test)
    buckets = popularity_buckets(history.item_counts())
    chosen = score[cases.shoppers].astype(np.float32)
    scorecard = evaluate_scores(lambda rows: chosen[rows], cases.seen, cases.relevant, buckets)
    means = scorecard.means()
    return means["ndcg@10"], means["tail_recall@10"]


def test_the_truth_beats_frozen_text_by_far_and_text_beats_popularity_in_the_tail(tmp_path):
    chosen = replace(
        MarketplaceSettings(), merchants=2, min_shoppers=150, max_shoppers=200, items=700
    )
    market = make_marketplace(chosen, seed=0)
    split = split_interactions(market.data.interactions, market.data.split_rule)
    history = join(split.train, split.valid)
    run = RunSettings()
    basis = fit_public_basis(market.data.catalogue, run, tmp_path)
    vectors = encode_catalogue(market.data.catalogue, basis, run, tmp_path).vectors
    liking = history.matrix() @ vectors
    text, text_tail = measured(market, liking @ vectors.T, split)
    shoppers = np.arange(market.data.interactions.shopper_count)
    truth, truth_tail = measured(market, market.affinity(shoppers), split)
    others, _ = measured(market, market.affinity(shoppers[::-1]), split)
    sales = np.broadcast_to(history.item_counts(), (len(shoppers), 700))
    popular, popular_tail = measured(market, sales, split)
    assert truth > 1.4 * text
    assert truth_tail > 1.4 * text_tail
    assert truth > 1.3 * others, "preferences are a person's own"
    assert text > popular
    assert text_tail > popular_tail + 0.03


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchants", 0),
        ("merchants", 65),
        ("min_shoppers", 9),
        ("max_shoppers", 10_001),
        ("items", 99),
        ("items", 20_001),
        ("min_interactions", 2),
        ("max_interactions", 501),
        ("basket_size", 0.5),
        ("zipf", 2.5),
        ("cold_share", 0.6),
        ("novelty", -1.0),
        ("style_strength", float("nan")),
        ("trend_strength", 11.0),
        ("repeat_factor", 1.5),
        ("days", 59),
        ("valid_day", 0),
        ("test_day", 360),
    ],
)
def test_a_setting_out_of_bounds_is_named_with_its_bound(field, value):
    with pytest.raises(SettingsError, match=rf"{field} is .*; it must be .* to ") as caught:
        MarketplaceSettings(**{field: value})
    assert caught.value.field == field


def test_a_negative_seed_is_refused():
    with pytest.raises(SettingsError, match="seed is -1"):
        make_marketplace(SMALL, seed=-1)
