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
    found = sales_trend(shop([(0, 0), (0, 15), (1, 30), (1, 30), (2, 0)]))
    recent = np.array([0.25 + 0.5, 2.0, 0.25])
    share = recent.sum() / 5
    expected = np.log((recent + STRENGTH * share) / (np.array([2, 2, 1]) + STRENGTH) / share)
    assert HALF_LIFE_DAYS == 15
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    assert found.dtype == np.float32


def test_an_item_that_never_sold_has_none():
    assert sales_trend(shop([(0, 0), (1, 30)]))[3] == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 3000))
def test_a_day_on_which_all_sells_alike_has_no_trend(items, day):
    assert sales_trend(shop([(item, day) for item in items])) == pytest.approx(0, abs=1e-6)


def test_later_sales_rise_and_few_of_them_rise_less():
    steady = [(0, day) for day in range(0, 200, 10)]
    steadily, many, once, _ = sales_trend(shop([*steady, *[(1, 190)] * 10, (2, 190)]))
    assert many > once > 0 > steadily


def test_the_whole_shop_may_move_in_time():
    rows = [(0, 1), (1, 20), (1, 25), (2, 30)]
    later = [(item, day + 1000) for item, day in rows]
    assert (sales_trend(shop(rows)) == sales_trend(shop(later))).all()


def test_without_a_clock_or_a_sale_there_is_no_trend():
    timed = shop([(0, 0), (1, 30)])
    assert not sales_trend(replace(timed, timed=False)).any()
    assert not sales_trend(shop([])).any()
