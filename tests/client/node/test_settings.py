from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.node.session import close_nodes, open_node
from client.node.settings import (
    NodeSettings,
    check_dp_model,
    merchant_folders,
    node_settings,
)
from common.errors import PolicyError, SettingsError
from tests.support.fake_node import LOCAL, federation, shops

__all__ = ["federation", "shops"]  # fixtures


def partition(place, count=3):
    return {"partition-id": place, "num-partitions": count}


def test_a_deployed_node_lies_where_its_merchant_says(federation, tmp_path):
    shop = federation / "ash"
    assert node_settings({"data": str(shop)}, {}) == NodeSettings(
        "ash", shop, shop / "node", shop / "node" / "cache", simulated=False
    )
    configured = {"data": str(shop), "merchant": "Ash & Co", "state": str(tmp_path / "s")}
    assert node_settings(configured, {}) == NodeSettings(
        "Ash & Co", shop, tmp_path / "s", tmp_path / "s" / "cache", simulated=False
    )


def test_an_operator_cannot_move_a_deployed_node(federation):
    config = {"data": str(federation / "ash")} | partition(2)
    settings = node_settings(config, {"federation": str(federation)})
    assert settings.data == federation / "ash"
    assert not settings.simulated


def test_simulated_nodes_are_the_visible_folders_in_order(federation):
    (federation / ".cache").mkdir()
    (federation / "notes.txt").write_text("not a merchant")
    run_config = {"federation": str(federation)}
    settings = [node_settings(partition(place), run_config) for place in range(3)]
    assert [one.merchant for one in settings] == ["ash", "birch", "cedar"]
    assert all(one.simulated and one.data == federation / one.merchant for one in settings)
    assert {one.cache for one in settings} == {federation / ".cache"}
    elsewhere = node_settings(partition(0), run_config | {"cache": str(federation / "c")})
    assert elsewhere.cache == federation / "c"


@pytest.mark.parametrize(
    ("node_config", "run_config", "field"),
    [
        ({}, {}, "data"),
        ({"data": ""}, {}, "data"),
        ({"data": "/nowhere/at/all"}, {}, "data"),
        (partition(0), {}, "federation"),
        (partition(0), {"federation": "/nowhere/at/all"}, "federation"),
    ],
)
def test_a_node_without_a_shop_is_refused(node_config, run_config, field):
    with pytest.raises(SettingsError) as caught:
        node_settings(node_config, run_config)
    assert caught.value.field == field


def test_another_number_of_nodes_than_merchants_is_refused(federation):
    with pytest.raises(SettingsError) as caught:
        node_settings(partition(0, 2), {"federation": str(federation)})
    assert "num-supernodes to 3" in str(caught.value)


def test_folders_are_listed_once_for_all_messages_of_a_run(federation, monkeypatch):
    listed = []

    def counting(folder):
        listed.append(folder)
        return merchant_folders(folder)

    monkeypatch.setattr("client.node.settings.merchant_folders", counting)
    for place in (0, 1, 2, 0):
        node_settings(partition(place), {"federation": str(federation)})
    assert len(listed) == 1


def test_a_merchant_that_joins_between_two_runs_is_seen(federation):
    run = {"federation": str(federation)}
    before = node_settings(partition(0), run)
    new = federation / "willow"
    new.mkdir()
    assert node_settings(partition(3, 4), run).data == new
    assert node_settings(partition(0, 4), run) == before


@pytest.mark.parametrize("dp_model", ["central", "none"])
def test_only_a_simulation_may_send_unprotected_updates(federation, dp_model):
    noise = (
        {}
        if dp_model == "central"
        else dict.fromkeys(("noise_multiplier", "popularity_noise_multiplier"), 0.0)
    )
    plan = replace(LOCAL, dp_model=dp_model, **noise)
    simulated = NodeSettings("ash", federation, federation, federation, simulated=True)
    check_dp_model(plan, simulated)
    with pytest.raises(PolicyError) as caught:
        check_dp_model(plan, replace(simulated, simulated=False))
    assert caught.value.public() == "policy:dp_model"
    check_dp_model(LOCAL, replace(simulated, simulated=False))


def test_a_node_is_opened_once_in_a_process_and_prepared_once_for_a_basis(shops, federation):
    context = Context(1, 7, {"data": str(federation / "ash")}, RecordDict(), {})
    _, node = open_node(context)
    assert open_node(context)[1] is node
    first = node.prepare(b"basis", {"rate": 1})
    assert node.prepare(b"basis", {"rate": 1}) is first
    assert [call[0] for call in shops.works["ash"].calls] == ["prepare"]
    node.prepare(b"other", {"rate": 1})
    node.prepare(b"other", {"rate": 2})
    assert len(shops.works["ash"].calls) == 3
    close_nodes()
    assert open_node(context)[1] is not node
    np.testing.assert_array_equal(node.work.keys, shops.works["ash"].keys)
