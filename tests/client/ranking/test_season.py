import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranking.season import (
    PLAIN,
    ItemSeason,
    SeasonForm,
    Seasons,
    SeasonWindows,
    change,
    level,
    own_season,
    season_rows,
    seasons,
)
from common.errors import InputError
from common.season import NoisedVector, Season
from tests.support.shops import DAY, interactions_of, make_interactions

ITEMS, SHOPPERS, WIDTH = 20, 15, 6
VECTORS = np.random.default_rng(5).normal(size=(ITEMS, WIDTH)).astype(np.float32)
WINDOWS = SeasonWindows((200 * DAY, 330 * DAY))


def shop(seed=0):
    return make_interactions(ITEMS, SHOPPERS, seed)


def by_loops(interactions, end, kernel=change):
    """The rows of one window in float64, purchase by purchase."""
    rows = np.zeros((interactions.shopper_count, WIDTH))
    centred = VECTORS.astype(float) - VECTORS.astype(float).mean(axis=0)
    for shopper, item, time in zip(
        interactions.shopper, interactions.item, interactions.time, strict=True
    ):
        if time < end:
            rows[shopper] += kernel(np.array((end - time) / DAY)) * centred[item]
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norm, 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_row_is_the_sum_over_the_shoppers_purchases(seed):
    found = season_rows(shop(seed), VECTORS, WINDOWS)
    expected = np.hstack([by_loops(shop(seed), end) for end in WINDOWS.ends])
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 50), st.sets(st.integers(0, SHOPPERS - 1), min_size=1))
def test_a_row_depends_on_its_shopper_alone_to_the_bit(seed, kept):
    everybody = season_rows(shop(seed), VECTORS, WINDOWS)
    kept = np.array(sorted(kept))
    assert np.array_equal(
        season_rows(shop(seed).only_shoppers(kept), VECTORS, WINDOWS), everybody[kept]
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_own_season_is_the_sum_of_what_the_shop_sold_of_late(seed):
    past = shop(seed)
    expected = by_loops(past, int(past.time.max()) + 1, level).sum(axis=0)
    assert own_season(past, VECTORS) == pytest.approx(expected, abs=1e-5)


def test_nobody_speaks_for_more_than_one():
    large = season_rows(shop(), VECTORS * 100, SeasonWindows((330 * DAY,)))
    assert np.linalg.norm(large, axis=1).max() == pytest.approx(1, abs=1e-6)
    both = season_rows(shop(), VECTORS * 100, WINDOWS).reshape(SHOPPERS, 2, WIDTH)
    assert np.linalg.norm(both, axis=2).max() <= 1 + 1e-6


def test_sales_that_flow_evenly_add_up_to_nothing():
    age = np.arange(0, 20_000, 0.05)
    assert change(age).sum() * 0.05 == pytest.approx(0, abs=0.03)
    assert level(age).sum() * 0.05 > 100
    rows = [(0, 3, day * DAY, day) for day in range(3000)]
    windows = SeasonWindows((3000 * DAY,))
    steady = season_rows(interactions_of(rows, ITEMS, 1), VECTORS / 50, windows)
    fresh = season_rows(interactions_of(rows[-30:], ITEMS, 1), VECTORS / 50, windows)
    assert np.linalg.norm(steady) < 0.1 * np.linalg.norm(fresh)


def test_what_sells_more_of_late_points_that_way():
    before = [(0, 1, day * DAY + DAY // 2, day) for day in range(1500)]
    lately = [(1, 7, day * DAY, day) for day in range(1485, 1500, 5)]
    past = interactions_of([*before, *lately], ITEMS, 2)
    found = season_rows(past, VECTORS, SeasonWindows((1500 * DAY,))).sum(axis=0)
    vectors = VECTORS - VECTORS.mean(axis=0)
    along = ItemSeason.of(found, VECTORS).scores
    assert np.corrcoef(along, vectors @ vectors[7])[0, 1] > 0.9


def test_scores_have_mean_0_and_deviation_1_and_follow_the_vector():
    vector = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    season = ItemSeason.of(vector, VECTORS)
    along = VECTORS.astype(float) @ vector.astype(float)
    assert season.scores == pytest.approx((along - along.mean()) / along.std(), abs=1e-5)
    assert season.scores.dtype == np.float32


def test_a_new_item_scores_as_it_would_have_among_the_others():
    vector = np.ones(WIDTH, np.float32)
    known = ItemSeason.of(vector, VECTORS)
    grown = np.vstack([VECTORS, VECTORS[3:5]])
    found = known.with_items(grown, [ITEMS + 1])
    assert np.array_equal(found.scores[:ITEMS], known.scores)
    assert found.scores[ITEMS] == 0  # it waits for its vector
    assert found.scores[ITEMS + 1] == known.scores[4]


@pytest.mark.parametrize("vectors", [np.ones((ITEMS, WIDTH), np.float32), VECTORS * 0])
def test_items_that_do_not_differ_have_no_season(vectors):
    assert not ItemSeason.of(np.ones(WIDTH, np.float32), vectors).scores.any()


def test_without_a_clock_or_a_sale_there_is_no_season():
    untimed = replace(shop(), timed=False)
    for past in (untimed, interactions_of([], ITEMS, 2)):
        known = seasons(past, VECTORS, NoisedVector(np.ones(WIDTH, np.float32), 0.0, 0))
        assert not known.own.scores.any()
        assert known.federated.scores.any() == past.timed
    with pytest.raises(InputError) as caught:
        season_rows(untimed, VECTORS, WINDOWS)
    assert caught.value.field == "time"


def test_a_release_of_one_shop_without_noise_says_what_its_rows_say():
    past, end = shop(), 330 * DAY
    rows = season_rows(past, VECTORS, SeasonWindows((end,)))
    released = Season(rows.sum(axis=0)[None], (end,), 0.0, 1)
    expected = by_loops(past, end).sum(axis=0) @ VECTORS.T.astype(float)
    known = seasons(past, VECTORS, released.at(end))
    assert known.federated.scores == pytest.approx(
        (expected - expected.mean()) / expected.std(), abs=1e-4
    )


# ------------------------------------------------------------------ noise on a season
@pytest.mark.parametrize("ratio", [0.2, 1.0, 3.0])
def test_reliability_is_how_far_noised_scores_go_with_those_of_the_sum_itself(ratio):
    """Items that vary most along the first of 40 directions; noise of so many times the signal."""
    random = np.random.default_rng(3)
    items = random.normal(size=(300, 40)) * np.linspace(3, 0.2, 40)
    signal = random.normal(size=40)
    noise_std = ratio * np.std(items @ signal) / np.sqrt(items.var(axis=0).sum())
    exact = ItemSeason.of(signal.astype(np.float32), items.astype(np.float32)).scores
    told, true = [], []
    for _ in range(400):
        noised = (signal + random.normal(0, noise_std, 40)).astype(np.float32)
        season = ItemSeason.of(noised, items.astype(np.float32), noise_std)
        told.append(season.reliability)
        true.append(np.corrcoef(season.scores, exact)[0, 1])
    assert np.mean(true) == pytest.approx(1 / np.sqrt(1 + ratio**2), abs=0.02)
    # A root is below the root of a mean: it errs towards less.
    assert -0.08 < np.mean(told) - np.mean(true) < 0.005


def test_a_season_without_noise_counts_whole_and_one_of_noise_alone_not_at_all():
    vector = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    assert ItemSeason.of(vector, VECTORS).reliability == 1
    for noise_std in (100.0, 1e200, sys.float_info.max):  # a release may say any finite number
        drowned = ItemSeason.of(vector, VECTORS, noise_std)
        assert drowned.reliability == 0
        assert not any(one.any() for one in Seasons(drowned, drowned).counted(np.arange(ITEMS)))


def test_a_releases_noise_takes_from_what_its_season_counts():
    vector = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    end = int(shop().time.max()) + 1
    exact, noised = (seasons(shop(), VECTORS, NoisedVector(vector, std, end)) for std in (0.0, 0.5))
    share, sales = noised.federated.reliability, shop().item_counts()
    assert 0 < share < 1
    assert noised.own.reliability == 1
    assert noised.counted(sales)[1] == pytest.approx(share * exact.counted(sales)[1], rel=1e-6)
    grown = noised.with_items(np.vstack([VECTORS, VECTORS[3:4]]), [ITEMS])
    assert grown.federated.reliability == share


@pytest.mark.parametrize(("days", "share"), [(-40, 1), (0, 1), (15, 0.5), (45, 0.125)])
def test_a_release_counts_half_for_each_half_life_since_its_season_was_taken(days, share):
    vector = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    last = int(shop().time.max())
    of_today, stale = (
        seasons(shop(), VECTORS, NoisedVector(vector, 0.4, end)).federated
        for end in (last, last - days * DAY)
    )
    assert stale.reliability == pytest.approx(share * of_today.reliability)
    assert np.array_equal(stale.scores, of_today.scores)


# ------------------------------------------------------------- what of it counts
numbers = st.floats(-8, 8, width=32)


def seasons_of(own, federated, form):
    nothing = np.zeros(WIDTH, np.float32)
    scores = (np.array(one, np.float32) for one in (own, federated))
    return Seasons(*(ItemSeason(nothing, 0.0, one) for one in scores), form)


@given(
    st.lists(st.tuples(numbers, numbers, st.integers(0, 10**6)), min_size=1),
    st.floats(0.5, 4),
    st.floats(1, 100),
    st.floats(1, 100),
)
def test_a_season_counts_by_evidence_and_up_to_a_bound(items, most, own_sales, federated_sales):
    own, federated, sales = zip(*items, strict=True)
    form = SeasonForm(most, own_sales, federated_sales)
    found = seasons_of(own, federated, form).counted(np.array(sales))
    for counted, z, half in zip(found, (own, federated), form[1:], strict=True):
        expected = [
            min(one, most) * half / (half + sold) for one, sold in zip(z, sales, strict=True)
        ]
        assert counted.dtype == np.float32
        assert counted == pytest.approx(expected, rel=1e-6, abs=1e-30)
        assert (counted * np.sign(np.array(z)) >= 0).all()
        assert (np.abs(counted) <= np.abs(np.array(z, np.float32))).all()


@given(st.lists(st.tuples(numbers, numbers, st.integers(0, 10**6)), min_size=1))
def test_the_plain_form_counts_all_of_it_bit_by_bit(items):
    own, federated, sales = zip(*items, strict=True)
    known = seasons_of(own, federated, PLAIN)
    counted = known.counted(np.array(sales))
    for one, season in zip(counted, (known.own, known.federated), strict=True):
        assert one.tobytes() == season.scores.tobytes()


@given(numbers, st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_more_an_item_has_sold_the_less_its_season_says(z, sold, more):
    known = seasons_of([z, z], [z, z], SeasonForm())
    for few, many in known.counted(np.array([sold, sold + more])):
        assert abs(many) <= abs(few)


def test_what_never_sold_has_the_whole_season_and_a_release_knows_more_of_what_sold():
    known = seasons_of([1.0, 1.0, -9.0], [1.0, 1.0, -9.0], SeasonForm())
    own, federated = known.counted(np.array([0, 40, 0]))
    assert own.tolist() == pytest.approx([1, 10 / 50, -9])
    assert federated.tolist() == pytest.approx([1, 40 / 80, -9])


def test_a_catalogue_that_grew_keeps_the_form():
    known = replace(seasons(shop(), VECTORS), form=PLAIN)
    grown = np.vstack([VECTORS, VECTORS[3:4]])
    assert known.with_items(grown, [ITEMS]).form == PLAIN
