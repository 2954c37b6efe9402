import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.ranking.fusion_weights import SEARCH_ERRORS
from client.ranking.model_selection import clearly_better


@given(st.integers(0, 2**32), st.floats(-1, 1))
def test_the_same_gain_for_everybody_is_clear_and_none_is_not(seed, gain):
    default = np.round(np.random.default_rng(seed).random(30), 3)
    assert clearly_better(default + 0.5, default)
    assert not clearly_better(default, default)
    assert not clearly_better(default - abs(gain), default)


def test_luck_seldom_looks_clear():
    random = np.random.default_rng(0)
    lucky = sum(clearly_better(random.normal(size=100), np.zeros(100)) for _ in range(2000))
    assert 0.01 < lucky / 2000 < 0.04  # one side of two standard errors: 2.3%


def test_the_luckiest_of_forty_seldom_looks_clear_where_a_search_asks_for_more():
    random = np.random.default_rng(0)
    nobody = np.zeros(100)
    by_two = by_search = 0
    for _ in range(300):
        luckiest = max(random.normal(size=(40, 100)), key=np.mean)
        by_two += clearly_better(luckiest, nobody)
        by_search += clearly_better(luckiest, nobody, SEARCH_ERRORS)
    assert by_two / 300 > 0.4
    assert by_search / 300 < 0.12  # 40 independent ones at .13% each: 5%


def test_one_lucky_case_is_not_clear():
    found = np.zeros(100)
    found[0] = 1.0
    assert not clearly_better(found, np.zeros(100))


def test_nobody_is_no_evidence():
    assert not clearly_better(np.empty(0), np.empty(0))
