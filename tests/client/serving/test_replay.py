import pytest

from client.serving.replay import replay
from common.errors import InputError
from tests.support.served import Counter, event, made_model


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    found = Counter(tmp_path_factory.mktemp("replay"))
    yield found
    found.store.close()


def test_every_kind_of_list_is_made_again_to_the_last_bit(counter):
    ask = counter.recommend
    stock = [{"item_id": f"item-{place}", "quantity": place % 3} for place in range(60)]
    counter.ask("PUT", "/v1/stock", json={"items": stock})
    served = [
        ask(),
        ask(shopper_id="shopper-3", count=20, tail_boost=1.7),
        ask(shopper_id="nobody"),
        ask(history=[{"item_id": "item-3", "time": "2026-01-01T00:00:00Z"}]),
        ask(shopper_id="shopper-4", filters={"in_stock": True, "deny": ["item-1"]}),
    ]
    more = f"/v1/recommendations/{served[1]['recommendation_id']}/next"
    served.append(counter.ask("POST", more, json={"count": 4}).json())
    # All that changes afterwards leaves them as they were.
    counter.ask("PUT", "/v1/items/new", json={"title": "Amber jug"})
    counter.ask("DELETE", f"/v1/items/{served[1]['items'][0]['item_id']}")
    counter.ask("PUT", "/v1/stock", json={"items": [], "complete": True})
    counter.send(event(1))
    for one in served:
        found = replay(counter.store, one["recommendation_id"], counter.folder / "model")
        assert found["same"]
        assert found["release_digest"] == "a" * 64
        again = [(item["item_id"], item["score"]) for item in found["items"]]
        assert again == [(item["item_id"], item["score"]) for item in one["items"]]
        assert all(item["parts"] and item["reason"] for item in found["items"])


def test_a_list_that_was_altered_is_not_the_same(counter, monkeypatch):
    name = counter.recommend(shopper_id="shopper-3")["recommendation_id"]
    row = counter.store.find_list(name)
    row["items"][0]["score"] += 1e-6
    monkeypatch.setattr(counter.store, "find_list", lambda _: row)
    assert not replay(counter.store, name, counter.folder / "model")["same"]


def test_another_model_or_id_is_refused(counter, tmp_path):
    other = Counter(tmp_path, made_model(seed=5))
    name = counter.recommend()["recommendation_id"]
    with pytest.raises(InputError, match="holds"):
        replay(counter.store, name, tmp_path / "model")
    with pytest.raises(InputError):
        replay(other.store, name, tmp_path / "model")
    other.store.close()
