"""Privacy loss distributions: on the grid they are Google's; a tree composes alike."""

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as library
from hypothesis import given, settings
from hypothesis import strategies as st

from common.privacy.accounting.pld import LOSS_INTERVAL, _one_loss, epsilon_of_losses

DELTA = 1e-5


def theirs(q, sigma):
    return library.from_gaussian_mechanism(
        standard_deviation=sigma,
        sampling_prob=q,
        value_discretization_interval=LOSS_INTERVAL,
        neighboring_relation=library.NeighborRel.ADD_OR_REMOVE_ONE,
    )


@settings(max_examples=8)
@given(st.sampled_from([1.0, 0.9, 0.5, 0.25, 0.05, 0.001]), st.floats(0.4, 12))
def test_one_release_is_googles_in_both_directions(q, sigma):
    ours, google = _one_loss(q, sigma), theirs(q, sigma)
    for side in ("_pmf_remove", "_pmf_add"):
        mine, others = getattr(ours, side), getattr(google, side)
        epsilons = np.linspace(-0.5, 4, 19)
        expected = others.get_delta_for_epsilon(epsilons)
        assert mine.get_delta_for_epsilon(epsilons) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=5)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 0.3, 0.05]), st.sampled_from([2.0, 3.5, 8.0]), st.integers(1, 90)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_tree_is_one_after_the_other(events):
    total = library.identity(value_discretization_interval=LOSS_INTERVAL)
    for q, sigma, count in events:
        total = total.compose(theirs(q, sigma).self_compose(count))
    expected = total.get_epsilon_for_delta(DELTA)
    assert epsilon_of_losses(events, DELTA) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 30.0])
def test_little_and_much_noise_are_computed_too(sigma):
    expected = theirs(0.25, sigma).get_epsilon_for_delta(DELTA)
    assert epsilon_of_losses([(0.25, sigma, 1)], DELTA) == pytest.approx(expected, rel=1e-6)
