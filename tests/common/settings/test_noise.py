"""Where noise is added by default, and that whatever somebody names stands."""

import math

import pytest

from common.settings.noise import noise_for
from common.settings.run import RunSettings


@pytest.mark.parametrize(
    ("merchants", "expected"),
    [
        (1, {"noise": "local", "epsilon": 4.0}),
        (4, {"noise": "local", "epsilon": 4.0}),
        (5, {"noise": "distributed", "epsilon": 1.0}),
        (500, {"noise": "distributed", "epsilon": 1.0}),
    ],
)
def test_five_merchants_share_the_noise_at_one(merchants, expected):
    choice = noise_for({}, merchants)
    assert choice.settings == expected
    assert f"{merchants}" in choice.reason
    assert RunSettings.from_flat(choice.settings).plan(merchants).dp_model == expected["noise"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"noise": "local", "epsilon": 2}, {}),
        ({"noise": "local"}, {"epsilon": 4.0}),
        ({"noise": "central"}, {"epsilon": 4.0}),
        ({"noise": "none"}, {"epsilon": 4.0}),
        ({"noise": "distributed"}, {"epsilon": 1.0}),
        ({"epsilon": 2}, {"noise": "distributed"}),
        ({"epsilon": math.inf}, {"noise": "local"}),
        ({"aggregation": "median"}, {"noise": "local", "epsilon": 4.0}),
        ({"steps-per-round": 2}, {"noise": "local", "epsilon": 4.0}),
        ({"aggregation": "mean", "rounds": 3}, {"noise": "distributed", "epsilon": 1.0}),
    ],
)
def test_what_somebody_named_stands(asked, given):
    choice = noise_for(asked, 8)
    assert choice.settings == given
    assert bool(choice.reason) == bool(given)
    settings = RunSettings.from_flat({**asked, **choice.settings})
    for name, value in asked.items():
        assert getattr(settings, name.replace("-", "_")) == value
