"""Privacy random variables: the quick composition gives what Opacus itself gives."""

import pytest
from opacus.accountants import PRVAccountant

from common.errors import PrivacyError
from common.privacy.accounting import prv
from common.privacy.accounting.accountants import MechanismEvent, epsilon_prv

DELTA = 1e-5


@pytest.mark.parametrize(
    "events",
    [
        [(0.25, 2.16, 40)],
        [(0.05, 0.79, 200), (0.5, 6.0, 1)],
        [(0.25, 3.0, 7), (0.25, 5.0, 7), (0.1, 2.0, 1), (0.02, 1.0, 100)],
        [(0.3 + 0.02 * place, 5.0 + 0.1 * place, 2) for place in range(6)],
    ],
)
def test_opacus_says_the_same(events):
    untouched = PRVAccountant()
    untouched.history = [(sigma, q, count) for q, sigma, count in events]
    expected = untouched.get_epsilon(DELTA, eps_error=prv.EPSILON_ERROR)
    found = epsilon_prv([MechanismEvent(*event) for event in events], DELTA)
    assert found == pytest.approx(expected, abs=2e-5)


def test_a_grid_that_loses_the_mean_is_refused():
    """A grid much too narrow cuts mass off, and with it the mean."""
    with pytest.raises(PrivacyError) as caught:
        prv.epsilon_of_variables([(1.0, 0.2, 1)], DELTA, width=0.0)
    assert caught.value.field == "epsilon"
