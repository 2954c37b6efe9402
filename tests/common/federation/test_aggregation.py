import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import FederationError
from common.federation.aggregation import (
    SMOOTHING,
    Aggregator,
    mean_update,
    pool_popularity,
    sum_updates,
)

FINITE = st.floats(-1e4, 1e4, width=32)


@given(st.lists(arrays(np.float32, 3, elements=FINITE), min_size=1, max_size=5))
def test_the_mean_is_uniform(vectors):
    updates = {f"m{place}": vector for place, vector in enumerate(vectors)}
    expected = np.mean(np.array(vectors, dtype=np.float64), axis=0)
    np.testing.assert_allclose(mean_update(updates), expected, rtol=1e-12, atol=1e-9)


@given(arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_the_sum_has_the_same_bits_in_any_order_of_arrival(vectors):
    sums = {
        sum_updates({f"m{place}": vectors[place] for place in order}).tobytes()
        for order in itertools.permutations(range(4))
    }
    assert len(sums) == 1


def test_the_sum_keeps_what_float32_would_lose():
    updates = {"a": np.array([1e8], np.float32), "b": np.array([1], np.float32)}
    assert sum_updates(updates | {"c": np.array([-1e8], np.float32)})[0] == 1.0


RULES = ("mean", "trimmed_mean", "median", "capped_mean")


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(arrays(np.float32, 3, elements=FINITE), min_size=1, max_size=5), st.randoms())
def test_a_rule_gives_the_same_bits_in_any_order_of_arrival(rule, vectors, random):
    updates = {f"m{place}": vector for place, vector in enumerate(vectors)}
    shuffled = list(updates.items())
    random.shuffle(shuffled)
    found = Aggregator(rule)(updates)
    assert found.tobytes() == Aggregator(rule)(dict(shuffled)).tobytes()
    assert (found >= np.min(vectors, axis=0) - 1e-6).all() or rule == "capped_mean"


@given(arrays(np.float32, (7, 4), elements=FINITE))
def test_the_median_is_numpys_and_the_trimmed_mean_leaves_out_the_ends(vectors):
    updates = {f"m{place}": vector for place, vector in enumerate(vectors)}
    wide = vectors.astype(np.float64)
    np.testing.assert_allclose(Aggregator("median")(updates), np.median(wide, axis=0))
    middle = np.sort(wide, axis=0)[2:-2].mean(axis=0)
    np.testing.assert_allclose(Aggregator("trimmed_mean", 0.25)(updates), middle, atol=1e-9)


@pytest.mark.parametrize("rule", RULES[1:])
def test_one_liar_of_five_moves_a_robust_rule_no_further_than_honest_ones_lie(rule):
    honest = {name: np.array([value, 1.0], np.float32) for value, name in enumerate("abcd")}
    lied = Aggregator(rule)(honest | {"e": np.array([1e9, -1e9], np.float32)})
    assert 0 <= lied[0] <= 3
    assert abs(lied[1]) <= 3


@pytest.mark.parametrize(("count", "cut"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_how_many_are_trimmed(count, cut):
    assert Aggregator("trimmed_mean", 0.25).trimmed(count) == cut


def test_a_cap_shortens_only_those_above_the_median():
    updates = {"a": [3, 4], "b": [0.3, 0.4], "c": [30, 40]}
    updates = {name: np.array(one, np.float32) for name, one in updates.items()}
    expected = (np.array([3, 4]) * 2 + np.array([0.3, 0.4])) / 3
    np.testing.assert_allclose(Aggregator("capped_mean")(updates), expected, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_takes_nothing_or_unequal_lengths(rule):
    for updates in ({}, {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}):
        with pytest.raises(FederationError):
            Aggregator(rule)(updates)


def test_popularity_is_never_so_uneven_that_honest_nodes_refuse_it():
    keys = np.arange(10, dtype=np.uint64)
    counts = np.full(10, -1e9, np.float32)
    counts[3] = 9e9
    found = pool_popularity({"a": (keys, counts)}, 1.0).at(keys)
    assert found.max() / found.min() < 1e6


def test_nothing_or_unequal_lengths_cannot_be_summed():
    with pytest.raises(FederationError):
        sum_updates({})
    with pytest.raises(FederationError):
        sum_updates({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})


def keyed(*pairs):
    return (
        np.array([key for key, _ in pairs], dtype=np.uint64),
        np.array([count for _, count in pairs], dtype=np.float32),
    )


def test_equal_texts_are_summed_over_merchants_and_within_one():
    pooled = pool_popularity(
        {"a": keyed((9, 10), (2**63, 4)), "b": keyed((9, 20), (3, -8), (3, 5))}, noise_std=0.0
    )
    assert pooled.text_keys.tolist() == [3, 9, 2**63]
    smoothed = np.array([0, 30, 4]) + 2 * 31 / 3  # the sum of 3 is -3, and counts as 0
    np.testing.assert_allclose(pooled.probability, smoothed / smoothed.sum())


def test_a_node_gets_its_own_items_in_its_own_order():
    pooled = pool_popularity({"a": keyed((1, 9), (2, 19), (3, 39))}, noise_std=0.0)
    got = pooled.at(np.array([3, 77, 1, 3, 2**64 - 1], dtype=np.uint64))
    first, third = 9 + 2 * 67 / 3, 39 + 2 * 67 / 3
    expected = np.array([third, first, first, third, first])  # an unknown text: as the rarest one
    np.testing.assert_allclose(got, expected / expected.sum(), rtol=1e-6)
    assert got.dtype == np.float32


@given(arrays(np.float32, 6, elements=st.floats(-1000, 1000, width=32)), st.floats(0, 1000))
def test_probabilities_are_positive_and_sum_to_one(counts, noise_std):
    keys = np.arange(6, dtype=np.uint64)
    pooled = pool_popularity({"a": (keys, counts)}, noise_std)
    assert (pooled.probability > 0).all()
    assert pooled.probability.sum() == pytest.approx(1)


def test_with_noise_the_pooled_popularity_is_nearer_the_truth_than_the_raw_one():
    rng = np.random.default_rng(5)
    truth = 2000 / np.arange(1, 501)
    keys = np.arange(500, dtype=np.uint64)
    counts = {
        name: (keys, (truth / 4 + rng.normal(0, 8, 500)).astype(np.float32)) for name in "abcd"
    }
    pooled = pool_popularity(counts, 8.0)
    raw = np.maximum(sum(counts[name][1] for name in "abcd"), 1e-3)

    def log_error(values):
        return np.abs(np.log(values / values.sum()) - np.log(truth / truth.sum())).mean()

    assert log_error(pooled.probability) < 0.6 * log_error(raw)


def test_little_noise_does_not_draw_the_logarithms_further_apart():
    """What the loss corrects for is as flat without noise as with it, and no flatter with much."""
    rng = np.random.default_rng(3)
    truth = 2000 / np.arange(1, 501)
    keys = np.arange(500, dtype=np.uint64)

    def reach(noise_std):
        counts = (truth + rng.normal(0, noise_std, 500)).astype(np.float32)
        probability = pool_popularity({"a": (keys, counts)}, noise_std).probability
        return math.log(probability[0] / np.median(probability))

    bare, light, loud = reach(0.0), reach(SMOOTHING * truth.mean()), reach(200.0)
    assert bare == pytest.approx(math.log(1 + 2000 / (2 * truth.mean())), rel=0.15)
    assert light == pytest.approx(bare, rel=0.15)
    assert loud < 0.8 * bare


def test_no_histogram_at_all_is_an_error():
    with pytest.raises(FederationError):
        pool_popularity({}, 1.0)
