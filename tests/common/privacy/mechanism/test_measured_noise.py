"""Noise as it is measured: exact tests against draws of known kinds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from common.privacy.mechanism.measured_noise import BLOCKING_CHANCE, measure_noise

STEPS, CANARIES, SIGMA = 40, 512, 2.02


def canaries_of(seed, spoil=lambda noise: noise, *, steps=STEPS):
    """Canaries with noise of SIGMA, spoilt before what is in the data is added; and their bits."""
    random = np.random.default_rng(seed)
    bits = random.random(CANARIES) < 0.5
    noise = spoil(random.normal(size=(steps, CANARIES)) * SIGMA)
    taken = random.random((steps, CANARIES)) < 0.25
    return (noise + bits * taken).astype(np.float32), bits


def hit(share, factor, seed=7):
    """Scale a random share of the draws, new in each step: what an order makes of a range."""
    places = np.random.default_rng(seed)
    return lambda noise: np.where(places.random(noise.shape) < share, factor, 1.0) * noise


def repeated(noise):
    return np.tile(noise[:1], (len(noise), 1))


FAULTS = {
    "half everywhere": hit(1.0, 0.5),
    "nine tenths everywhere": hit(1.0, 0.9),
    "half on a fifth": hit(0.2, 0.5),
    "none on a hundredth": hit(0.01, 0.0),
    "a hundredth on a fiftieth": hit(0.02, 0.01),
    "none on half, more on the others": lambda noise: hit(0.5, 0.0)(noise) * np.sqrt(2),
    "one side": np.abs,
    "the same in each step": repeated,
    "none": np.zeros_like,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refuted(fault):
    measured = measure_noise(*canaries_of(1, FAULTS[fault]), SIGMA)
    assert measured.refuted
    assert measured.chance < BLOCKING_CHANCE


def test_honest_noise_is_measured_to_a_few_parts_in_a_hundred():
    found = [measure_noise(*canaries_of(seed), SIGMA) for seed in range(20)]
    assert not any(one.refuted for one in found)
    assert np.allclose([one.deviation for one in found], 1, atol=0.03)


def test_half_the_noise_shows_in_three_steps():
    measured = measure_noise(*canaries_of(1, hit(1.0, 0.5), steps=3), SIGMA)
    assert measured.refuted
    assert measured.deviation == pytest.approx(0.5, abs=0.03)


def test_more_noise_than_claimed_is_no_fault():
    assert not measure_noise(*canaries_of(1, hit(1.0, 1.5)), SIGMA).refuted


def test_only_canaries_that_are_out_are_looked_at():
    canaries, bits = canaries_of(1)
    other = np.where(bits, 1e6, canaries).astype(np.float32)
    assert measure_noise(other, bits, SIGMA) == measure_noise(canaries, bits, SIGMA)


@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20))
def test_units_do_not_matter(seed, power):
    canaries, bits = canaries_of(seed, steps=2)
    scaled = np.ldexp(canaries, power)
    assert measure_noise(scaled, bits, np.ldexp(SIGMA, power)) == measure_noise(
        canaries, bits, SIGMA
    )


def test_without_draws_nothing_is_measured():
    for shape, bits in (((0, 3), [0, 1, 0]), ((4, 3), [1, 1, 1])):
        measured = measure_noise(np.zeros(shape, np.float32), np.array(bits, bool), SIGMA)
        assert (measured.deviation, measured.chance, measured.draws) == (None, 1.0, 0)
        assert not measured.refuted


def test_the_deviation_and_its_chance_are_those_of_the_sum_of_squares():
    canaries, bits = canaries_of(3, hit(1.0, 0.975))
    own = canaries[:, ~bits].astype(float) / SIGMA
    measured = measure_noise(canaries, bits, SIGMA)
    assert measured.draws == own.size
    assert measured.deviation == pytest.approx(np.sqrt((own**2).mean()))
    assert measured.chance <= 13 * chi2.cdf((own**2).sum(), own.size) * (1 + 1e-9)


@pytest.mark.statistical
def test_a_chance_is_not_below_what_it_says_in_honest_runs():
    chances = np.array(
        [measure_noise(*canaries_of(seed, steps=5), SIGMA).chance for seed in range(5000)]
    )
    for level in (0.2, 0.05, 0.01):
        assert (chances <= level).mean() <= level + 2 * np.sqrt(level / 5000)
    assert (chances < BLOCKING_CHANCE).sum() <= 3
