"""The merchant's floor at a node that gets messages: what a policy forbids does not happen."""

import pytest

from client.node.participant import MerchantWork
from client.node.session import close_nodes
from client.privacy.app_guard_command import GUARDED
from tests.client.node.test_participant import POLICY, Shop, ground, plan_of
from tests.support.privacy_bugs import plant

__all__ = ["ground"]  # a fixture


@pytest.fixture(autouse=True)
def closed():
    yield
    close_nodes()


def shop_of(ground, root, policy):
    settings, data, basis, adapter = ground
    return Shop(root / "ash", data, settings, basis, policy=POLICY + policy), adapter


@pytest.mark.parametrize("cohort", [1, 2])
def test_a_run_with_too_small_a_cohort_is_refused_before_anything_is_charged(
    ground, tmp_path, cohort
):
    shop, adapter = shop_of(ground, tmp_path, f"min_cohort = {cohort}\n")  # settings say 1
    replies = shop.answers(plan_of(), adapter)[1:]
    reasons = [reply.error.reason if reply.has_error() else "" for reply in replies]
    assert reasons == [["", "policy:min_merchants"][cohort - 1]] * 3


def test_a_metric_that_the_policy_does_not_name_stops_the_reply(ground, tmp_path, monkeypatch):
    shop, adapter = shop_of(ground, tmp_path, 'metrics = ["delta"]\n')
    plant(monkeypatch, MerchantWork, "public_metrics", ("] = {}", "] = {'epsilon': 1.0}"))
    last = shop.answers(plan_of(), adapter)[-1]
    assert last.error.reason == "policy:metrics"


def test_a_node_whose_policy_names_apps_does_nothing_without_the_guard(
    ground, tmp_path, monkeypatch
):
    shop, adapter = shop_of(ground, tmp_path, f'app_digests = ["{"f" * 64}"]\n')
    monkeypatch.delenv(GUARDED, raising=False)
    replies = shop.answers(plan_of(), adapter)
    assert replies[0].error.reason == "policy:app_digests"
    monkeypatch.setenv(GUARDED, str(shop.folder))
    assert not any(reply.has_error() for reply in shop.answers(plan_of(), adapter))
