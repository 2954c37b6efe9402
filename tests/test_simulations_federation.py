"""A simulated merchant's folder: its policy pays for the plan it was made for, and little more."""

import pytest

from client.policy import Policy
from common.errors import PolicyError
from common.privacy.accounting import budget_share
from common.settings import RunSettings
from simulations.federation import REPEATED_ROUNDS, folder_name, policy_text

PLANS = {
    "local": RunSettings(rounds=20),
    "several steps a round": RunSettings(rounds=10, steps_per_round=3),
    "no histogram": RunSettings(rounds=20, popularity_strength=0),
    "central": RunSettings(rounds=20, noise="central"),
    "without noise": RunSettings(rounds=20, noise="none"),
}


@pytest.fixture
def policy(tmp_path):
    def policy(plan):
        path = tmp_path / "policy.toml"
        path.write_bytes(policy_text(plan))
        return Policy.from_toml(path)

    return policy


@pytest.mark.parametrize("case", PLANS)
def test_the_policy_allows_its_plan_once_and_a_few_rounds_again(case, policy):
    plan = PLANS[case].plan(4)
    allowed = policy(plan)
    allowed.check(plan, seeded_noise=True)
    again = (plan.event("train"),) * REPEATED_ROUNDS
    assert budget_share((*plan.events(), *again), allowed.delta, allowed.max_epsilon) <= 1


def test_the_policy_does_not_pay_for_a_second_run(policy):
    plan = PLANS["local"].plan(4)
    allowed = policy(plan)
    assert budget_share(plan.events() * 2, allowed.delta, allowed.max_epsilon) > 1


def test_the_policy_of_a_run_with_noise_refuses_one_without(policy):
    with pytest.raises(PolicyError, match="placement"):
        policy(PLANS["local"].plan(4)).check(PLANS["without noise"].plan(4))


def test_folder_names_are_plain_unique_and_in_order():
    names = [
        folder_name(place, name)
        for place, name in enumerate(["Wii U", "日本", "../a", "", "b" * 90])
    ]
    assert names == ["00-wii-u", "01-日本", "02-a", "03", "04-" + "b" * 24]
