import json
import shutil

import pytest

from client.recommending.recommender import Recommender
from client.recommending.shop_model import save_shop_model
from client.serving.experiments.arms import with_arm
from client.serving.http.context import Service
from client.serving.replay import replay
from tests.support.served import NOW, Counter, event, made_model

BODY = {"baseline": "own", "challenger": "release"}
SHOPPERS = [f"shopper-{place}" for place in range(40)]


@pytest.fixture
def counter(tmp_path):
    found = Counter(tmp_path)
    yield found
    found.store.close()


def start(counter, name="autumn", **more):
    return counter.ask("PUT", f"/v1/experiments/{name}", json=BODY | more)


def arms(counter):
    return {name: counter.recommend(shopper_id=name)["variant"] for name in SHOPPERS}


def test_a_shopper_has_one_arm_also_after_a_restart_and_the_arm_makes_the_list(counter):
    assert start(counter).status_code == 200
    found = arms(counter)
    assert set(found.values()) == {"own", "release"}
    assert arms(counter) == found
    counter.service = Service(counter.live, counter.store, counter.worker, now=lambda: NOW)
    counter.app.state.service = counter.service
    assert arms(counter) == found
    name = next(name for name, arm in found.items() if arm == "own")
    own = with_arm(counter.live.snapshot, "own").model
    listed = [one["item_id"] for one in counter.recommend(shopper_id=name)["items"]]
    assert listed == [one.item.item_id for one in Recommender(own).for_shopper(name, 10)]


def test_another_experiment_deals_shoppers_anew(counter):
    start(counter)
    first = arms(counter)
    counter.ask("POST", "/v1/experiments/autumn/stop", json={})
    start(counter, "winter")
    assert arms(counter) != first


def test_only_the_stores_key_says_who_has_which_arm(counter, tmp_path):
    other = Counter(tmp_path / "other")
    start(counter)
    start(other)
    assert arms(counter) != arms(other)
    other.store.close()


def test_who_cannot_be_told_from_others_gets_the_baseline_and_counts_in_no_test(counter):
    start(counter, baseline="frozen")
    for who in ({}, {"shopper_id": "x"}, {"history": [{"item_id": "item-3"}]}):
        answer = counter.recommend(**who)
        assert answer["variant"] == "frozen"
        assert counter.store.find_list(answer["recommendation_id"])["experiment"] is None
    for who in SHOPPERS[5:9]:
        counter.ask("DELETE", f"/v1/shoppers/{who}")
        answer = counter.recommend(shopper_id=who)
        assert answer["variant"] == "frozen"
        assert counter.store.find_list(answer["recommendation_id"])["experiment"] is None
    answer = counter.recommend(shopper_id="shopper-3")
    assert counter.store.find_list(answer["recommendation_id"])["experiment"] == "autumn"


def test_what_comes_after_a_list_is_of_its_arm(counter):
    start(counter)
    served = [counter.recommend(shopper_id=name) for name in SHOPPERS]
    first = next(one for one in served if one["variant"] == "own")
    counter.ask("POST", "/v1/experiments/autumn/stop", json={"serve": "release"})
    more = f"/v1/recommendations/{first['recommendation_id']}/next"
    assert counter.ask("POST", more, json={}).json()["variant"] == "own"
    assert counter.recommend(shopper_id="shopper-3")["variant"] == "release"


@pytest.mark.parametrize("arm", ["own", "frozen", "model:other"])
def test_a_list_of_any_arm_is_made_again(counter, arm):
    save_shop_model(made_model(seed=3), counter.folder / "other")
    counter.ask("PUT", "/v1/items/new", json={"title": "Amber jug"})
    assert start(counter, baseline="release", challenger=arm).status_code == 200
    served = [counter.recommend(shopper_id=name, count=60) for name in SHOPPERS]
    assert {one["variant"] for one in served} == {"release", arm}
    folder = counter.folder / ("other" if arm == "model:other" else "model")
    for one in served[:8]:
        if one["variant"] == arm:
            found = replay(counter.store, one["recommendation_id"], folder)
            assert found["same"]
            assert found["variant"] == arm


def test_one_experiment_runs_at_a_time_and_a_name_is_used_once(counter):
    started = start(counter).json()
    assert started["state"] == "running"
    assert start(counter).json() == started
    assert start(counter, level=0.1).status_code == 422
    assert start(counter, "winter").status_code == 422
    stopped = counter.ask("POST", "/v1/experiments/autumn/stop", json={}).json()
    assert (stopped["state"], stopped["winner"], stopped["reason"]) == ("stopped", "own", "asked")
    assert start(counter).status_code == 422
    assert start(counter, "winter").status_code == 200
    again = counter.ask("POST", "/v1/experiments/autumn/stop", json={"serve": "release"})
    assert again.status_code == 422
    listed = counter.ask("GET", "/v1/experiments").json()["experiments"]
    assert [one["name"] for one in listed] == ["winter", "autumn"]
    assert counter.ask("GET", "/v1/experiments/spring").status_code == 404
    assert counter.ask("POST", "/v1/experiments/spring/stop", json={}).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": "release"},
        {"challenger": "better"},
        {"challenger": "model:../x"},
        {"challenger": "model:nothing-here"},
        {"level": 0.5},
        {"level": "x"},
        {"window_days": 0},
        {"guardrails": {"ctr": 0.1}},
        {"guardrails": {"conversion": 1.5}},
        {"more": 1},
    ],
)
def test_a_body_that_makes_no_sense_is_refused(counter, change):
    assert start(counter, **change).status_code == 422
    assert counter.ask("GET", "/v1/experiments").json() == {"experiments": []}


def test_only_an_admin_may(counter):
    key = counter.keys.new("shop", ["serve", "events"])
    for method, path in (("PUT", "/a"), ("GET", ""), ("GET", "/a"), ("POST", "/a/stop")):
        answer = counter.ask(method, f"/v1/experiments{path}", key=key, json=BODY)
        assert answer.status_code == 403


def test_an_arm_whose_model_is_gone_ends_the_experiment_at_the_next_start(counter):
    save_shop_model(made_model(seed=3), counter.folder / "other")
    start(counter, challenger="model:other")
    shutil.rmtree(counter.folder / "other")
    counter.app.state.service = Service(counter.live, counter.store, counter.worker)
    assert counter.recommend(shopper_id="shopper-3")["variant"] == "release"
    found = counter.ask("GET", "/v1/experiments/autumn").json()
    assert (found["state"], found["reason"]) == ("stopped", "arm_gone")


def test_an_answer_names_no_shopper(counter):
    start(counter, window_days=0.01)
    for name in SHOPPERS:
        one = counter.recommend(shopper_id=name)
        item = one["items"][0]["item_id"]
        counter.send(
            event(name, item=item, recommendation_id=one["recommendation_id"], shopper_id=name)
        )
    counter.service.now = lambda: NOW + 10**10
    told = counter.ask("GET", "/v1/experiments/autumn").json()
    rates = told["figures"]["baseline"]["ctr"], told["figures"]["challenger"]["ctr"]
    assert sum(one["shoppers"] for one in rates) == 40
    assert all(one["rate"] == 1 for one in rates)
    assert told["figures"]["effect"] == {"difference": 0, "low": None, "high": None}
    assert "shopper-" not in json.dumps(told)
