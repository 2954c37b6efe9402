"""A shop on its first day: no purchase, a catalogue and a release."""

import json
import shutil

import numpy as np
import pytest

from client.recommending.recommender import Recommender
from client.recommending.shop_model import load_shop_model
from tests.support.served import Counter
from tests.support.shops import command


@pytest.fixture(scope="module")
def first_day(simulated, tmp_path_factory):
    """A shop of 40 items that has sold nothing, imported and fitted."""
    folder = tmp_path_factory.mktemp("first-day")
    (folder / "tables").mkdir()
    colours = ("red", "blue", "green", "amber", "ivory")
    things = ("jug", "mug", "bowl", "plate", "lamp", "clock", "frame", "gift box")
    titles = [f"{colour} {thing}" for colour in colours for thing in things]
    lines = [f"item-{place},{title}\n" for place, title in enumerate(titles)]
    (folder / "tables" / "items.csv").write_text("item_id,title\n" + "".join(lines))
    shop = ["--shop", str(folder / "shop")]
    released = ["--release", str(simulated / "release"), "--key", str(simulated / "operator.pub")]

    def run(*words):
        done = command(["client", *words], simulated.parent / "cache")
        assert done.exception is None, done.output
        return done.output

    tables = str(folder / "tables")
    run("import", "--source", tables, "--out", str(folder / "shop"), "--catalogue-only")
    run("fit", *released, *shop)
    return folder, lambda *words: run(*words, *released, *shop)


def test_a_history_is_ranked_by_titles_alone(first_day):
    folder, _ = first_day
    model = load_shop_model(folder / "shop" / "model")
    found = Recommender(model).for_history(["item-0"], 10)
    assert len(found) == 10
    parts = [one.explanation.parts for one in found]
    assert all(one["collaborative"] == one["trend"] == 0 for one in parts)
    assert len({one.score for one in found}) > 5
    assert all(np.isfinite(one.score) and one.chance is None for one in found)
    assert model.chances == {}


def test_the_commands_answer(first_day):
    folder, run = first_day
    found = json.loads(run("recommend", "--history", "red jug", "--top", "5", "--json"))
    assert len(found["recommendations"]) == 5
    assert "red jug" in run("recommend", "--new-shopper", "--top", "40")
    run("recommend", "--all", "--out", str(folder / "lists.jsonl"))
    assert (folder / "lists.jsonl").read_bytes() == b""


def test_the_service_answers(first_day, tmp_path):
    folder, _ = first_day
    counter = Counter(tmp_path, load_shop_model(folder / "shop" / "model"))
    found = counter.recommend(history=[{"item_id": "item-0"}], explain=True)
    assert found["fallback"] is None
    assert {one["bucket"] for one in found["items"]} == {"new"}
    assert counter.recommend()["fallback"] == "no_history"
    assert len(counter.recommend()["items"]) == 10
    assert counter.recommend(history=[{"item_id": "item-0"}], tail_boost=2)["items"]
    assert counter.ask("POST", "/v1/items/item-3/similar", json={}).status_code == 200
    counter.store.close()


def test_a_model_without_purchases_is_kept_and_read_to_the_bit(first_day, tmp_path):
    folder, _ = first_day
    one = load_shop_model(folder / "shop" / "model")
    shutil.copytree(folder / "shop" / "model", tmp_path / "model")
    two = load_shop_model(tmp_path / "model")
    history = ["item-7", "item-0"]
    scores = [[found.score for found in Recommender(model).for_history(history, 9)]
              for model in (one, two)]  # fmt: skip
    assert scores[0] == scores[1]
