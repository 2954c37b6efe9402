"""The merchant's floor at a node that gets messages: what a policy forbids does not happen."""

from dataclasses import replace

import numpy as np
import pytest

from client.node.participant import MerchantWork
from client.node.session import close_nodes
from client.node.settings import NodeSettings
from client.privacy.app_guard_command import GUARDED
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.canaries import FOLDER
from client.privacy.policy import POLICY_FILE
from common.errors import PolicyError
from common.release.app_bundle import app_digest
from tests.client.node.test_participant import POLICY, Shop, entries, ground, plan_of
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


def test_a_node_does_nothing_without_the_guard(ground, tmp_path, monkeypatch):
    shop, adapter = shop_of(ground, tmp_path, "")
    monkeypatch.delenv(GUARDED, raising=False)
    shop.guarded = False
    replies = shop.answers(plan_of(), adapter)
    assert replies[0].error.reason == "policy:app_digests"
    assert not (shop.folder / "node").exists()
    shop.guarded = True
    assert not any(reply.has_error() for reply in shop.answers(plan_of(), adapter))
    charged = open_ledger(shop.folder / "node" / LEDGER_FILE, "ash").entries()
    assert {one.app_digest for one in charged if one.kind != "data"} == {app_digest()}


def test_a_catalogue_that_was_learnt_from_purchases_is_refused(ground, tmp_path):
    """One shopper more is one item more, and the item's keys would leave uncharged."""
    settings, data, basis, adapter = ground
    shop = Shop(tmp_path / "ash", replace(data, catalogue_declared=False), settings, basis)
    replies = shop.answers(plan_of(), adapter)
    assert replies[0].error.reason == "policy:catalogue_declared"
    assert {reply.error.reason for reply in replies[1:]} == {"federation:prepare"}
    assert not (shop.folder / "node").exists()


def test_neighbours_with_learnt_items_get_the_same_refusal(ground, tmp_path):
    settings, data, basis, adapter = ground
    fewer = data.interactions.only_shoppers(np.arange(1, data.interactions.shopper_count))
    answers = [
        Shop(tmp_path / name, one, settings, basis).answers(plan_of(), adapter)[0].error.reason
        for name, one in {
            "a": replace(data, catalogue_declared=False),
            "b": replace(data, interactions=fewer, catalogue_declared=False),
        }.items()
    ]
    assert answers[0] == answers[1]


def test_a_seeded_run_that_the_policy_forbids_leaves_no_canaries_that_its_seed_tells(
    ground, tmp_path
):
    """They would be the run's own: coins and orders that the operator knows before training."""
    settings, data, basis, _ = ground
    shop = Shop(tmp_path / "ash", data, settings, basis, policy="delta = 1e-3\n")
    shop.settings = settings.model_copy(update={"seeded_noise": True, "audit_canaries": 8})
    replies = shop.answers(plan_of(), ground[3])
    assert replies[0].error.reason == "policy:seeded_noise"
    assert not list((shop.folder / "node").glob(f"{FOLDER}/*"))


@pytest.mark.parametrize("number", [5, 100_000])
def test_a_round_that_the_plan_does_not_have_is_refused_before_the_charge(ground, tmp_path, number):
    """The run's own epsilon, which the policy was asked about, is of the plan's four rounds."""
    shop, adapter = shop_of(ground, tmp_path, "")
    replies = shop.answers(plan_of(), adapter, rounds=(4, number))
    assert [reply.has_error() for reply in replies] == [False, False, False, True]
    assert replies[-1].error.reason == "federation:round"
    charged = open_ledger(shop.folder / "node" / LEDGER_FILE, "ash").entries()
    assert [one.round_number for one in charged if one.kind == "train"] == [4]


def test_a_policy_that_allows_no_seeded_noise_refuses_a_test_run(ground, tmp_path):
    settings, data, basis, adapter = ground
    shop = Shop(tmp_path / "ash", data, settings, basis, policy="max_epsilon = 50.0\ndelta = 1e-3")
    replies = shop.answers(plan_of(), adapter)
    expected = ["policy:seeded_noise"] + ["federation:prepare"] * 3
    assert [reply.error.reason for reply in replies] == expected
    work = MerchantWork(shop_node(tmp_path / "ash"))
    work._settings = settings  # prepared before the policy was changed
    with pytest.raises(PolicyError) as caught:
        work.popularity(plan_of(), 1, 0)
    assert caught.value.public() == "policy:seeded_noise"
    assert entries(work) == []


def shop_node(folder):
    return NodeSettings("ash", folder, folder / "node", folder / "cache", simulated=True)


def test_without_a_policy_file_the_defaults_hold(ground, tmp_path):
    settings, data, basis, adapter = ground
    shop = Shop(tmp_path / "ash", data, settings, basis)
    (tmp_path / "ash" / POLICY_FILE).unlink()
    shop.settings = settings.model_copy(update={"seeded_noise": False})
    replies = shop.answers(plan_of(), adapter)
    assert not replies[0].has_error()
    assert all(reply.error.reason.startswith("policy:") for reply in replies[1:])
