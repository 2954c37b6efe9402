"""Honest vectors keep to their bounds, and what does not is no honest vector."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, norm

from common.errors import FederationError
from common.federation.bounds import (
    CHANCE,
    MOST_BRACKETS,
    Bounds,
    Framing,
    Part,
    honest_bounds,
)
from tests.support.fake_node import LOCAL


@given(
    st.floats(0.01, 1), st.integers(1, 2000), st.floats(0.1, 50), st.integers(1, 5000),
    st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_the_bounds_cover_the_exact_tails(rate, bracket, sigma, size, steps):
    plan = replace(
        LOCAL, sample_rate=rate, size_bracket=bracket, noise_multiplier=sigma, steps=10,
        steps_per_round=steps,
    )  # fmt: skip
    found = honest_bounds(plan, "train", size)
    third, tries = CHANCE / 3, steps * MOST_BRACKETS * bracket
    rows = binom.isf(third, tries, rate) if rate < 1 else tries
    noise = sigma * math.sqrt(steps)
    assert found.norm * plan.divisor >= rows + noise * math.sqrt(chi2.isf(third, size))
    each = norm.isf(third / (2 * size))
    assert found.coordinate * plan.divisor >= rows + noise * each
    # And they are not loose: a third more than the exact tails at most, the rows' own share apart.
    assert found.norm * plan.divisor <= 1.4 * (rows + noise * math.sqrt(chi2.isf(third, size))) + 30


def test_honest_noise_passes_and_ten_times_as_much_does_not():
    plan = replace(LOCAL, noise_multiplier=4.0, size_bracket=50)
    bounds, rng = honest_bounds(plan, "train", 4000), np.random.default_rng(0)
    for _ in range(50):
        vector = (rng.normal(0, 4.0, 4000) / plan.divisor).astype(np.float32)
        bounds.check(vector, "update")
        with pytest.raises(FederationError) as caught:
            bounds.check(10 * vector, "update")
        assert caught.value.public() == "federation:update_norm"


@pytest.mark.parametrize("number", [3e38, -3e38, np.inf, np.nan])
def test_no_number_escapes(number):
    with pytest.raises(FederationError):
        Bounds(10.0, 5.0).check(np.array([0, number], np.float32), "update")
    with pytest.raises(FederationError) as caught:
        Bounds(10.0, 5.0).check(np.array([6.0], np.float32), "update")
    assert caught.value.field == "update_coordinate"


def test_without_local_noise_there_are_none():
    assert honest_bounds(replace(LOCAL, dp_model="central", merchants=3), "train", 5) is None


def test_a_frame_is_taken_off_and_what_leaves_it_is_refused():
    rng = np.random.default_rng(1)
    frame = (rng.normal(size=(20, 6)) * np.geomspace(0.1, 30, 6)).astype(np.float32)
    framing = Framing([Part((3, 4)), Part((20, 5), frame)])
    assert (framing.size, framing.inner_size) == (112, 42)
    plain, inner = rng.normal(size=12), rng.normal(size=(6, 5))
    sent = np.concatenate([plain, (frame @ inner).ravel()]).astype(np.float32)
    found = framing.unframe(sent)
    np.testing.assert_allclose(found, np.concatenate([plain, inner.ravel()]), atol=1e-4)
    outside = sent + np.concatenate([np.zeros(12), rng.normal(size=100)]).astype(np.float32)
    with pytest.raises(FederationError) as caught:
        framing.unframe(outside)
    assert caught.value.field == "update_subspace"
