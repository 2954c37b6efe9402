"""A simulated merchant's folder: its policy pays for the plan it was made for, and little more."""

import pytest

from client.node.settings import merchant_folders
from client.privacy.policy import Policy
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.splitting import SplitRule
from common.errors import PolicyError
from common.privacy.accounting.accountants import budget_share
from common.settings.run import RunSettings
from simulations.data.shop import Shop
from simulations.federation.folders import (
    REPEATED_ROUNDS,
    folder_name,
    policy_text,
    write_federation,
)
from tests.support.shops import interactions_of, make_catalogue

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
    with pytest.raises(PolicyError, match="DP model"):
        policy(PLANS["local"].plan(4)).check(PLANS["without noise"].plan(4))


def test_folder_names_are_plain_unique_and_in_order():
    names = [
        folder_name(place, name)
        for place, name in enumerate(["Wii U", "日本", "../a", "", "b" * 90])
    ]
    assert names == ["00-wii-u", "01-日本", "02-a", "03", "04-" + "b" * 24]


def test_folders_of_more_than_a_hundred_merchants_stay_in_order(tmp_path):
    names = [folder_name(place, "shop") for place in range(130)]
    for name in reversed(names):
        (tmp_path / name).mkdir()
    assert [one.name for one in merchant_folders(tmp_path)] == names


def test_a_node_holds_no_id_of_a_shopper_who_only_comes_later(tmp_path):
    rows = [(0, 0, 1, 0), (0, 1, 2, 1), (0, 5, 9, 2), (1, 2, 9, 0), (2, 3, 1, 0), (2, 4, 2, 1)]
    interactions = interactions_of(rows, 6, 3)  # shopper 1 comes after the test has begun
    rule = SplitRule("time", valid_from=2, test_from=9)
    shop = Shop.of(MerchantData("shop", make_catalogue(6), interactions, rule))
    write_federation([shop], tmp_path, PLANS["local"].plan(1))
    (folder,) = merchant_folders(tmp_path)
    held = load_merchant_data(folder).interactions
    assert held.shopper_ids == ("shopper-0", "shopper-2")
    assert held.time.max() < rule.test_from
    assert shop.test_cases.shoppers.tolist() == [0]
