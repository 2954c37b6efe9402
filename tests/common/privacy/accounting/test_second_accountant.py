"""The second accountant: the best that is there, and what it refuses."""

import builtins
import math

import pytest

from common.errors import SettingsError
from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld, epsilon_rdp
from common.privacy.accounting.second_accountant import SecondOpinion, second_opinion

HISTOGRAM = MechanismEvent(1.0, 6.0, 1)
SCHEDULES = {
    "a run": [MechanismEvent(0.25, 2.02, 40), HISTOGRAM],
    "two runs": [MechanismEvent(0.25, 3.75, 50), MechanismEvent(0.1, 1.3, 60), HISTOGRAM],
    "full batches": [MechanismEvent(1.0, 8.0, 10)],
}


@pytest.fixture
def without(monkeypatch):
    """Make packages fail to import, as where they are not installed."""
    real = builtins.__import__

    def without(*packages):
        def load(name, *rest, **named):
            if name.split(".")[0] in packages:
                raise ModuleNotFoundError(name)
            return real(name, *rest, **named)

        monkeypatch.setattr(builtins, "__import__", load)

    return without


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_with_and_without_torch_a_numerical_accountant_agrees_with_pld(schedule, without):
    events, delta = SCHEDULES[schedule], 1e-5
    pld, here = epsilon_pld(events, delta), second_opinion(events, delta)
    assert here.accountant.startswith("PRV by opacus ")
    without("opacus", "torch")
    there = second_opinion(events, delta)
    assert there.accountant.startswith("PRV by prv-accountant ")
    for one in (here, there):
        assert one.numerical
        assert one.accepts(pld)
        assert not one.accepts(pld + 0.05)
        assert not one.accepts(pld - 0.05)


def test_where_no_numerical_one_is_renyi_accounting_bounds_from_above(without):
    events, delta = SCHEDULES["a run"], 1.1e-5
    without("opacus", "torch", "prv_accountant")
    bound = second_opinion(events, delta)
    assert bound.accountant.startswith("RDP by dp-accounting ")
    assert not bound.numerical
    assert bound.epsilon == epsilon_rdp(events, delta)
    assert bound.accepts(epsilon_pld(events, delta))
    assert not bound.accepts(bound.epsilon + 0.01)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ((), "PRV by opacus "),
        (("opacus",), "PRV by prv-accountant "),
        (("opacus", "prv_accountant"), "RDP by dp-accounting "),
    ],
)
def test_nothing_spent_is_nothing_and_no_noise_is_without_bound(missing, named, without):
    without(*missing)
    nothing = second_opinion([], 1.2e-5)
    assert nothing.epsilon == 0
    assert nothing.accountant.startswith(named)  # nobody is named who was not there
    endless = second_opinion([MechanismEvent(0.5, 0.0, 1)], 1.2e-5)
    assert math.isinf(endless.epsilon)
    assert endless.accepts(math.inf)
    assert endless.accepts(4.0) != endless.numerical  # as a bound from above it says nothing


def test_a_delta_out_of_bounds_is_refused():
    with pytest.raises(SettingsError):
        second_opinion(SCHEDULES["a run"], 0.0)


def test_a_value_that_is_no_number_is_not_accepted():
    assert not SecondOpinion("PRV", 4.0, numerical=True).accepts(math.nan)
    assert not SecondOpinion("RDP", 4.0, numerical=False).accepts(math.nan)
