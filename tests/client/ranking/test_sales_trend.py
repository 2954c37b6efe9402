from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranking.sales_trend import HALF_LIFE_DAYS, STRENGTH, sales_trend
from tests.support.shops import DAY, interactions_of


def shop(rows):
    """Interactions of (item, day) rows, each by a shopper of its own."""
    return interactions_of(
        [(number, item, day * DAY, 0) for number, (item, day) in enumerate(rows)], 4, len(rows)
    )


def test_the_trend_is_the_formula():
    found, at_share = sales_trend(shop([(0, 0), (0, 15), (1, 30), (1, 30), (2, 0)]))
    recent = np.array([0.25 + 0.5, 2.0, 0.25])
    share = recent.sum() / 5
    expected = np.log((recent + STRENGTH * share) / (np.array([2, 2, 1]) + STRENGTH) / share)
    assert HALF_LIFE_DAYS == 15
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    assert at_share == pytest.approx([*recent / share, 0], abs=1e-6)
    assert found.dtype == at_share.dtype == np.float32


def test_an_item_that_never_sold_has_none():
    assert sales_trend(shop([(0, 0), (1, 30)])).trend[3] == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 3000))
def test_a_day_on_which_all_sells_alike_has_no_trend(items, day):
    found = sales_trend(shop([(item, day) for item in items])).trend
    assert found == pytest.approx(0, abs=1e-6)


def test_later_sales_rise_and_few_of_them_rise_less():
    steady = [(0, day) for day in range(0, 200, 10)]
    steadily, many, once, _ = sales_trend(shop([*steady, *[(1, 190)] * 10, (2, 190)])).trend
    assert many > once > 0 > steadily


def test_the_whole_shop_may_move_in_time():
    rows = [(0, 1), (1, 20), (1, 25), (2, 30)]
    later = [(item, day + 1000) for item, day in rows]
    assert (sales_trend(shop(rows)).trend == sales_trend(shop(later)).trend).all()


def test_without_a_clock_or_a_sale_there_is_no_trend():
    timed = shop([(0, 0), (1, 30)])
    for none in (replace(timed, timed=False), shop([])):
        trend = sales_trend(none)
        assert not trend.trend.any()
        assert not trend.recent.any()


@given(st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4))
def test_a_prior_is_all_the_trend_of_what_never_sold_and_little_where_much_sells(prior):
    """It adds what the formula gives with exp(prior) times the sales that an item is given."""
    rows = [(0, 0), *[(0, 28)] * 40, (1, 30), (1, 12), (2, 0), (2, 2)]
    trend = sales_trend(shop(rows))
    found = trend.trend + trend.shifted_by(np.array(prior, np.float32))
    recent = np.bincount(
        [item for item, _ in rows],
        weights=[0.5 ** ((30 - day) / HALF_LIFE_DAYS) for _, day in rows],
        minlength=4,
    )
    sales, share = np.bincount([item for item, _ in rows], minlength=4), recent.sum() / len(rows)
    given_sales = STRENGTH * share * np.exp(prior)
    expected = np.log((recent + given_sales) / (sales + STRENGTH) / share)
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[3] == pytest.approx(prior[3], abs=1e-6)
    assert abs(found[0] - trend.trend[0]) <= abs(found[1] - trend.trend[1]) + abs(
        prior[0] - prior[1]
    )
