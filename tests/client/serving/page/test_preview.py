import pytest

from client.recommending.explanation import REASONS
from client.serving.live_shop import snapshot_of
from client.serving.page.preview import BOOSTS, find_products, make_preview, some_shopper
from client.serving.page.texts import texts
from tests.support.served import made_model

SNAPSHOT = snapshot_of(made_model(), [])
CATALOGUE = SNAPSHOT.model.catalogue


def preview(shopper=None, history=(), boost=1.0, *, erased=False):
    return make_preview(SNAPSHOT, shopper, history, boost, lambda _: erased)


def test_the_page_shows_the_list_that_the_service_serves(counter):
    for boost in BOOSTS:
        served = counter.recommend(shopper_id="shopper-3", tail_boost=boost, explain=True)["items"]
        snapshot = counter.live.snapshot
        shown = make_preview(snapshot, "shopper-3", (), boost, counter.store.is_erased).items
        assert [one.item.item_id for one in shown] == [one["item_id"] for one in served]
        assert [one.score for one in shown] == [one["score"] for one in served]
        assert [one.chance for one in shown] == [one["chance"] for one in served]
        said = [REASONS[one.reason].format(title=one.reason_title) for one in shown]
        assert said == [one["reason"] for one in served]


def test_the_costs_are_those_of_the_lists():
    found = preview("shopper-3")
    for boost in BOOSTS:
        items, cost = preview("shopper-3", boost=boost).items, found.cost_at(boost)
        assert cost.count == len(items) == 10
        assert cost.beyond_head == sum(one.bucket != "head" for one in items)
        chances = [one.chance for one in items]
        if cost.expected is None:
            assert chances == [None] * 10
        else:
            assert cost.expected == pytest.approx(sum(chances))
    assert found.cost_at(0.0).beyond_head <= found.cost_at(2.0).beyond_head


def test_the_parts_shown_add_up_to_the_score():
    for one in preview("shopper-3").items:
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-4)
        shown = sum(part.collaborative + part.text for part in one.history) + one.others[1]
        both = one.parts["collaborative"] + one.parts["text"]
        assert shown == pytest.approx(both, abs=1e-4)


def test_a_history_is_read_the_latest_first_and_what_the_shop_lacks_says_nothing():
    found = preview(history=["item-1", "gone", "item-2"])
    titles = [CATALOGUE.items[CATALOGUE.index_of(one)].title for one in ("item-2", "item-1")]
    assert found.bought == tuple(titles)
    assert found.fallback is None


def test_nobody_and_whoever_is_not_known_get_the_best_sellers_and_are_told():
    assert preview().fallback == "no_history"
    assert preview("nobody").fallback == "unknown_shopper"
    assert preview("shopper-3", erased=True).fallback == "unknown_shopper"
    assert preview("nobody").items == preview().items
    assert {one.reason for one in preview().items} <= {"popular", "left"}


def test_every_reason_has_words_in_each_language():
    for language in ("en", "zh"):
        assert {f"why.{one}" for one in REASONS} <= texts(language).known.keys()


def test_a_product_is_found_by_id_by_title_or_by_words():
    item = CATALOGUE.items[5]
    assert find_products(CATALOGUE, "item-5") == [item]
    assert find_products(CATALOGUE, f"  {item.title.upper()} ") == [item]
    word = item.title.split()[0]
    several = find_products(CATALOGUE, word)
    assert 1 < len(several) <= 6
    assert all(word in one.title for one in several)
    assert find_products(CATALOGUE, "") == []
    assert find_products(CATALOGUE, "no such product") == []


def test_a_die_picks_a_shopper_of_the_shop():
    names = SNAPSHOT.model.purchases.shopper_ids
    assert some_shopper(SNAPSHOT, 10**9, lambda _: False) in names


def test_who_is_forgotten_is_not_picked_by_chance():
    names = SNAPSHOT.model.purchases.shopper_ids
    for place in range(len(names)):
        assert some_shopper(SNAPSHOT, place, lambda one: one != names[3]) == names[3]
    assert some_shopper(SNAPSHOT, 5, lambda _: True) is None
