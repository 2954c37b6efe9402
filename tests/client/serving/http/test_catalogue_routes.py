import numpy as np
import pytest

from client.recommending.recommender import Recommender
from client.recommending.shop_model import save_shop_model
from client.serving.live_shop import LiveShop
from tests.support.served import Counter, event, made_model


@pytest.fixture
def counter(tmp_path):
    found = Counter(tmp_path)
    yield found
    found.store.close()


def ids(answer):
    return [one["item_id"] for one in answer["items"]]


def put(counter, name, **body):
    return counter.ask("PUT", f"/v1/items/{name}", json=body)


def test_a_new_item_is_ranked_when_the_answer_is_there(counter):
    assert put(counter, "new/1", title="Amber jug", category="Kitchen").status_code == 200
    assert counter.worker.read == ["Amber jug"]
    [one] = counter.recommend(
        history=[{"item_id": "item-3"}], filters={"allow": ["new/1"]}, explain=True
    )["items"]
    assert one["bucket"] == "new"
    assert one["parts"]["cold_start"] > 0
    assert len(ids(counter.recommend(history=[{"item_id": "new/1"}], count=100))) == 60
    assert "new/1" in ids(counter.recommend(count=61, filters={"categories": ["Kitchen"]}))
    assert counter.send(event(1, item="new/1"))["accepted"] == 1


def test_shares_beside_a_new_item_still_add_up_to_the_parts(counter):
    put(counter, "new", title="Amber jug")
    snapshot = counter.live.snapshot
    recommender = Recommender(snapshot.model)
    for name in ("shopper-1", "shopper-2"):
        history, _ = recommender.known_shopper(name)
        found = recommender.picked(history, np.ones(61, bool), 61)
        ranker = snapshot.model.ranker
        raw = ranker.collaborative.score(history.bought())[0]
        shares = ranker.collaborative.shares(history.item, found.items).sum(axis=0)
        assert shares == pytest.approx((raw - raw.mean())[found.items], abs=1e-5)


def test_an_item_that_was_there_gets_its_new_title_and_keeps_its_place_in_sales(counter):
    before = counter.live.snapshot
    assert counter.ask("PATCH", "/v1/items/item-3", json={"category": "Kitchen"}).status_code == 200
    assert counter.worker.read == []  # the text is the old one
    after = counter.live.snapshot
    place = after.model.catalogue.index_of("item-3")
    assert after.model.catalogue.items[place].category == "Kitchen"
    assert before.model.catalogue.items[place].category == "Garden"
    assert np.array_equal(before.model.ranker.sales, after.model.ranker.sales)
    answer = counter.ask("PATCH", "/v1/items/item-3", json={"title": "Oak clock"}).json()
    assert answer["text"] == "Oak clock"
    assert counter.worker.read == ["Oak clock"]
    vectors = counter.live.snapshot.model.ranker.text.candidate_vectors
    changed = (vectors != before.model.ranker.text.candidate_vectors).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [place]
    assert counter.ask("PATCH", "/v1/items/none", json={"title": "x"}).status_code == 404


def test_a_deleted_item_is_gone_from_lists_until_it_is_put_back(counter):
    assert counter.ask("DELETE", "/v1/items/item-3").status_code == 204
    assert "item-3" not in ids(counter.recommend(count=500))
    assert counter.recommend(history=[{"item_id": "item-3"}])["fallback"] is None
    item = counter.live.snapshot.model.catalogue.items[3]
    put(counter, "item-3", title=item.title, text=item.text)
    assert "item-3" in ids(counter.recommend(count=500))
    assert counter.worker.read == []


def test_stock_narrows_lists_that_ask_for_it(counter):
    wanted = {"in_stock": True}
    refused = counter.ask("POST", "/v1/recommendations", json={"filters": wanted})
    assert refused.status_code == 422
    stock = [{"item_id": f"item-{place}", "quantity": place % 2} for place in range(10)]
    answer = counter.ask("PUT", "/v1/stock", json={"items": [*stock, *stock[:1]]}).json()
    assert answer == {"changed": 10, "unknown": 0}
    found = ids(counter.recommend(count=60, filters=wanted))
    assert sorted(found) == [f"item-{place}" for place in range(1, 10, 2)]
    only = [{"item_id": "item-2", "quantity": 5}, {"item_id": "nothing", "quantity": 1}]
    answer = counter.ask("PUT", "/v1/stock", json={"items": only, "complete": True}).json()
    assert answer["unknown"] == 1
    assert ids(counter.recommend(count=60, filters=wanted)) == ["item-2"]
    assert len(ids(counter.recommend(count=60))) == 60


def test_what_changed_outlives_the_process(counter):
    put(counter, "new", title="Amber jug")
    counter.ask("DELETE", "/v1/items/item-3")
    here = counter.recommend(shopper_id="shopper-4", count=60)["items"]
    counter.live = counter.service.live = LiveShop(counter.folder / "model", counter.store)
    assert counter.recommend(shopper_id="shopper-4", count=60)["items"] == here


def test_a_new_item_waits_for_a_release_that_has_not_read_it(counter):
    put(counter, "new", title="Amber jug")
    model = made_model(seed=3)
    other = model.source.model_copy(update={"release_digest": "9" * 64})
    save_shop_model(type(model)(**{**vars(model), "source": other}), counter.folder / "model")
    assert counter.live.refresh()
    assert counter.ask("GET", "/v1/release").json()["waiting"] == 1
    assert "new" not in ids(counter.recommend(count=100))
    refused = put(counter, "more", title="Oak clock")
    assert refused.status_code == 409  # the worker still has the old release
    counter.worker.digest = "9" * 64
    assert counter.service.place_waiting() == 1
    assert "new" in ids(counter.recommend(count=100))


# ------------------------------------------------------------------ erasure
def test_a_shopper_who_asks_is_forgotten_here(counter):
    listed = counter.recommend(shopper_id="shopper-3")
    other = counter.recommend(shopper_id="shopper-4")
    counter.send(event(1, shopper_id="shopper-3"), event(2, shopper_id="shopper-4"))
    assert counter.ask("DELETE", "/v1/shoppers/shopper-3").status_code == 204
    assert counter.recommend(shopper_id="shopper-3")["fallback"] == "unknown_shopper"
    assert counter.recommend(shopper_id="shopper-4")["items"] == other["items"]
    counter.store.lists.flush()
    assert counter.store.find_list(listed["recommendation_id"]) is None
    assert counter.store.find_list(other["recommendation_id"]) is not None
    counter.recommend(shopper_id="shopper-3")
    counter.store.lists.flush()
    with counter.store.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())
    assert "e-2" in dump
    assert "e-1" not in dump
    assert "shopper-3" not in dump  # nor in the rows of lists that were asked for after it


def test_no_byte_of_a_forgotten_shopper_is_left_in_the_files(counter):
    name = "somebody-quite-unmistakable"
    counter.recommend(shopper_id=name)
    counter.send(*[event(number, shopper_id=name) for number in range(200)])
    counter.store.lists.flush()

    def left():
        return sum(path.read_bytes().count(name.encode()) for path in counter.folder.glob("*.db*"))

    assert left() > 0
    counter.ask("DELETE", f"/v1/shoppers/{name}")
    assert left() == 0
