"""The merchants' season vectors come to one, the same to the bit whoever answers first."""

import itertools

import numpy as np
import pytest

from common.errors import FederationError
from common.federation.aggregation import Aggregator
from common.federation.season_sum import sum_seasons

VECTORS = {
    name: np.random.default_rng(place).normal(size=6).astype(np.float32)
    for place, name in enumerate(("birch", "ash", "cedar", "elm"))
}


def test_it_is_the_sum_with_the_noise_of_all():
    season = sum_seasons(VECTORS, (10, 20), 3.0, Aggregator())
    expected = np.sum([one.astype(np.float64) for one in VECTORS.values()], axis=0)
    np.testing.assert_allclose(season.vectors, expected.reshape(2, 3), rtol=1e-6)
    assert (season.ends, season.merchants, season.noise_std) == ((10, 20), 4, 6.0)


@pytest.mark.parametrize("rule", ["mean", "trimmed_mean", "median", "capped_mean"])
def test_it_does_not_depend_on_the_order_of_answers(rule):
    found = {
        sum_seasons(dict(order), (10, 20), 1.0, Aggregator(rule)).to_bytes()
        for order in itertools.permutations(VECTORS.items())
    }
    assert len(found) == 1


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "capped_mean"])
def test_under_a_robust_rule_one_merchant_cannot_turn_it(rule):
    """Five alike and one a thousand times as long, the other way: the sum still points theirs."""
    alike = {f"m{place}": np.full(6, 1.0, np.float32) for place in range(5)}
    wild = {**alike, "wild": np.full(6, -1000.0, np.float32)}
    assert sum_seasons(wild, (10,), 1.0, Aggregator()).vectors.max() < 0
    robust = sum_seasons(wild, (10,), 1.0, Aggregator(rule)).vectors
    assert robust.min() > 0
    assert robust.max() <= 6.0 + 1e-6


@pytest.mark.parametrize(
    ("vectors", "ends"),
    [
        ({}, (1,)),
        (VECTORS, ()),
        (VECTORS, (1, 2, 3, 4)),
        ({**VECTORS, "x": np.zeros(3, "f4")}, (1,)),
    ],
)
def test_what_does_not_fit_is_refused(vectors, ends):
    with pytest.raises(FederationError):
        sum_seasons(vectors, ends, 1.0, Aggregator())
