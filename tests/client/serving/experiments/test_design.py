import numpy as np
import pytest

from client.serving.experiments.design import Decision, Design, ShopperCounts, decide, figures_of


def counts(shoppers=1500, *, ctr=0.1, conversion=0.04, tail=0.5, seed=0):
    random = np.random.default_rng(seed)
    seen = 1 + random.poisson(8, shoppers)
    return ShopperCounts(seen, *(random.binomial(seen, rate) for rate in (ctr, conversion, tail)))


def design(**changes):
    usual = {
        "baseline": "own",
        "challenger": "release",
        "window_days": 7,
        "level": 0.05,
        "guardrails": {"conversion": 0.2, "tail_share": 0.2},
    }
    return Design(**usual | changes)


STAYS, TAKES_OVER = "own", "release"


@pytest.mark.parametrize(
    ("challenger", "decision"),
    [
        ({}, None),
        ({"ctr": 0.14}, Decision(TAKES_OVER, "better")),
        ({"ctr": 0.07}, Decision(STAYS, "worse")),
        ({"ctr": 0.14, "tail": 0.3}, Decision(STAYS, "guardrail")),
        ({"ctr": 0.14, "conversion": 0.02}, Decision(STAYS, "guardrail")),
        ({"ctr": 0.14, "tail": 0.4}, None),  # at the bound: not shown to hold
        ({"tail": 0.3}, Decision(STAYS, "guardrail")),
        ({"ctr": 0.14, "shoppers": 99}, None),
    ],
)
def test_the_challenger_takes_over_only_where_all_that_is_asked_is_shown(challenger, decision):
    found = figures_of(design(), counts(), counts(**{"seed": 1} | challenger))
    assert decide(design(), found) == decision


def test_without_guardrails_click_through_decides():
    free = design(guardrails={})
    found = figures_of(free, counts(), counts(ctr=0.14, tail=0.1, conversion=0.01, seed=1))
    assert decide(free, found) == Decision(TAKES_OVER, "better")
    assert found.guardrails == {}


def test_nobody_decides_nothing():
    nobody = ShopperCounts(*(np.empty(0, np.int64) for _ in range(4)))
    found = figures_of(design(), nobody, nobody)
    assert decide(design(), found) is None
