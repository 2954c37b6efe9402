import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.recommending.filters import Filters
from client.recommending.recommender import Recommender
from client.recommending.shop_model import save_shop_model
from client.serving.lists import bucket_of
from tests.support.served import Counter, made_model


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    found = Counter(tmp_path_factory.mktemp("counter"))
    yield found
    found.store.close()


def ids(answer):
    return [one["item_id"] for one in answer["items"]]


IDS = [f"item-{place}" for place in range(60)]


@settings(max_examples=40)
@given(data=st.data())
def test_a_served_list_is_the_recommenders(counter, data):
    boost = data.draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    rules = {
        "deny": data.draw(st.lists(st.sampled_from(IDS), max_size=4)),
        "keep_bought": data.draw(st.booleans()),
        "categories": data.draw(st.none() | st.just(["Kitchen"])),
        "allow": data.draw(st.none() | st.lists(st.sampled_from(IDS), max_size=30)),
        "not_categories": data.draw(st.just([]) | st.just(["Garden"])),
    }
    count = data.draw(st.integers(1, 70))
    shopper = data.draw(st.none() | st.integers(0, 39).map("shopper-{}".format))
    history = data.draw(st.lists(st.sampled_from(IDS), max_size=6))
    recommender = Recommender(counter.live.snapshot.model, boost)
    if shopper is None:
        found = recommender.for_history(history, count, Filters(**rules))
        who = {"history": [{"item_id": name} for name in history]}
    else:
        found = recommender.for_shopper(shopper, count, Filters(**rules))
        who = {"shopper_id": shopper}
    served = counter.recommend(
        **who, count=count, tail_boost=boost, explain=True, filters={**rules, "in_stock": False}
    )
    assert ids(served) == [one.item.item_id for one in found]
    for rank, (ours, theirs) in enumerate(zip(served["items"], found, strict=True), 1):
        assert ours["rank"] == rank
        assert ours["score"] == theirs.score
        assert ours["chance"] == theirs.chance
        assert ours["reason"] == theirs.because
        history = ours["parts"].pop("history")
        assert ours["parts"] == theirs.explanation.parts
        assert [(one["collaborative"], one["text"]) for one in history] == [
            (one.collaborative, one.text) for one in theirs.explanation.history
        ]


def test_a_list_has_as_many_items_as_asked_for_or_all_that_may_be_shown(counter):
    assert len(counter.recommend(count=7)["items"]) == 7
    assert len(counter.recommend(count=500)["items"]) == 60
    assert ids(counter.recommend(filters={"allow": ["item-4"]})) == ["item-4"]
    assert ids(counter.recommend(filters={"allow": []})) == []


def test_who_is_not_known_gets_the_best_sellers_and_is_told_why(counter):
    nobody = counter.recommend()
    assert nobody["fallback"] == "no_history"
    unknown = counter.recommend(shopper_id="somebody")
    assert unknown["fallback"] == "unknown_shopper"
    assert unknown["items"] == nobody["items"]
    sales = counter.live.snapshot.model.ranker.sales
    assert ids(nobody)[0] == f"item-{sales.argmax()}"
    assert counter.recommend(shopper_id="shopper-3")["fallback"] is None


def test_an_item_of_a_history_that_the_shop_no_longer_has_says_nothing(counter):
    with_it = counter.recommend(history=[{"item_id": "gone"}, {"item_id": "item-3"}])
    assert with_it["items"] == counter.recommend(history=[{"item_id": "item-3"}])["items"]
    assert counter.recommend(history=[{"item_id": "gone"}])["fallback"] == "no_history"


def test_times_of_a_history_order_it(counter):
    def timed(*pairs):
        return [{"item_id": name, "time": f"2026-01-{day:02}T00:00:00Z"} for name, day in pairs]

    names = [("item-3", 1), ("item-30", 9), ("item-12", 20)]
    first = counter.recommend(history=timed(*names))["items"]
    assert counter.recommend(history=timed(*reversed(names)))["items"] == first
    swapped = [("item-3", 20), ("item-30", 9), ("item-12", 1)]
    assert counter.recommend(history=timed(*swapped))["items"] != first


def test_buckets_say_where_an_item_stands(counter):
    snapshot = counter.live.snapshot
    for one in counter.recommend(count=60)["items"]:
        place = snapshot.model.catalogue.index_of(one["item_id"])
        assert one["bucket"] == bucket_of(snapshot, place)
        assert (one["bucket"] == "new") == (snapshot.model.ranker.sales[place] == 0)


def test_more_of_a_list_follows_it_without_a_gap(counter):
    whole = ids(counter.recommend(shopper_id="shopper-5", count=30, tail_boost=2))
    answer = counter.recommend(shopper_id="shopper-5", count=10, tail_boost=2)
    found = ids(answer)
    for _ in range(2):
        path = f"/v1/recommendations/{answer['recommendation_id']}/next"
        answer = counter.ask("POST", path, json={"count": 10}).json()
        found += ids(answer)
    assert found == whole
    unknown = f"/v1/recommendations/{'0' * 32}/next"
    assert counter.ask("POST", unknown, json={}).status_code == 404


def test_like_items_are_the_list_of_who_has_that_one(counter):
    alike = counter.ask("POST", "/v1/items/item-7/similar", json={"count": 5}).json()
    assert alike["items"] == counter.recommend(history=[{"item_id": "item-7"}], count=5)["items"]
    assert "item-7" not in ids(alike)
    assert counter.ask("POST", "/v1/items/none/similar", json={}).status_code == 404


def test_a_batch_has_a_list_or_a_problem_for_each(counter):
    requests = [
        {"shopper_id": "shopper-1", "count": 3},
        {"filters": {"deny": ["no such item"]}},
        {"count": 2},
    ]
    answer = counter.ask("POST", "/v1/recommendations/batch", json={"requests": requests})
    first, wrong, last = answer.json()["results"]
    assert first["items"] == counter.recommend(**requests[0])["items"]
    assert wrong["status"] == 422
    assert "deny" in wrong["detail"]
    assert len(last["items"]) == 2


def test_a_swap_is_seen_by_the_next_request_and_old_answers_stand(tmp_path):
    counter = Counter(tmp_path)
    before = counter.recommend(shopper_id="shopper-3")
    held = counter.live.snapshot
    assert not counter.live.refresh()
    save_shop_model(made_model(seed=4), tmp_path / "model")
    assert counter.live.refresh()
    assert counter.recommend(shopper_id="shopper-3")["items"] != before["items"]
    assert Recommender(held.model).for_shopper("shopper-3", 10)[0].item.item_id == ids(before)[0]
    counter.store.close()


def test_a_row_says_how_a_list_was_made_and_nothing_else(counter):
    answer = counter.recommend(history=[{"item_id": "item-3"}], surface="basket", count=2)
    row = counter.store.find_list(answer["recommendation_id"])
    assert row["surface"] == "basket"
    assert row["inputs"] == {
        "request": {"history": [{"item_id": "item-3"}], "surface": "basket", "count": 2},
        "shown": [],
    }
    assert [one["item_id"] for one in row["items"]] == ids(answer)
    json.dumps(row["items"])
