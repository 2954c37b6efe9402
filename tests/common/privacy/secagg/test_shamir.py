"""Shares open a secret from the threshold on, and tell nothing below."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.privacy.secagg.shamir import PRIME, combine, combine_checked, draw_secret, split

secrets = st.integers(0, PRIME - 1)


@settings(max_examples=50, deadline=None)
@given(secret=secrets, data=st.data())
def test_any_threshold_of_shares_opens_the_secret(secret, data):
    holders = data.draw(st.lists(st.integers(1, 2000), min_size=1, max_size=20, unique=True))
    threshold = data.draw(st.integers(1, len(holders)))
    shares = dict(zip(holders, split(secret, holders, threshold), strict=True))
    some = data.draw(st.permutations(holders))[:threshold]
    assert combine({point: shares[point] for point in some}, threshold) == secret


def test_one_share_less_fits_every_secret():
    """For each other secret there is a last share with which it would be the one."""
    shares = dict(zip((1, 2, 3), split(5, (1, 2, 3), 3), strict=True))
    weight_of_last = combine({1: 0, 2: 0, 3: 1}, 3)
    without = combine(shares | {3: 0}, 3)
    for other in (0, 5, draw_secret()):
        last = (other - without) * pow(weight_of_last, -1, PRIME) % PRIME
        assert combine(shares | {3: last}, 3) == other


def test_equal_secrets_have_other_shares_each_time():
    assert split(5, (1, 2, 3), 2) != split(5, (1, 2, 3), 2)


@pytest.mark.parametrize("false", [0, 1, 2, 3])
def test_false_shares_are_left_out_where_there_are_spare_ones(false):
    holders = tuple(range(1, 10))
    shares = dict(zip(holders, split(77, holders, 6), strict=True))
    for point in holders[:false]:
        shares[point] += 1
    assert combine_checked(shares, 6, lambda secret: secret == 77) == 77


def test_too_many_false_or_too_few_shares_open_nothing():
    shares = dict(zip((1, 2, 3, 4), split(77, (1, 2, 3, 4), 3), strict=True))
    assert combine_checked({1: 1, 2: 1} | {3: shares[3]}, 3, lambda secret: secret == 77) is None
    assert combine_checked({1: shares[1], 2: shares[2]}, 3, lambda _: True) is None
    with pytest.raises(ValueError, match="too few"):
        combine({1: 1}, 2)


@pytest.mark.parametrize(
    ("holders", "threshold"), [((0, 1), 1), ((1, 1), 1), ((1, 2), 3), ((1, 2), 0), ((PRIME,), 1)]
)
def test_a_share_at_zero_or_a_threshold_that_none_reaches_is_refused(holders, threshold):
    with pytest.raises(ValueError, match=r"holders|threshold"):
        split(5, holders, threshold)
