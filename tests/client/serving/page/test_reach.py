from dataclasses import replace

import numpy as np
import pytest

from client.recommending.recommender import Recommender
from client.serving.feedback.reach import ServedItems
from client.serving.lists import bucket_of
from client.serving.live_shop import snapshot_of
from client.serving.page.reach import BUCKETS, FEWEST_LISTS, ReachOfLists, buckets_of
from tests.support.served import made_model

SNAPSHOT = snapshot_of(made_model(), [])
NOTHING = ServedItems(0, 0, {})


def measured(served=NOTHING, snapshot=SNAPSHOT):
    return ReachOfLists(lambda _: served).measure(snapshot)


def test_where_nothing_was_served_lists_are_made_for_the_models_own_shoppers():
    found = measured()
    recommender = Recommender(SNAPSHOT.model)
    wanted = {
        one.item.item_id
        for name in recommender.shopper_ids
        for one in recommender.for_shopper(name, 10)
    }
    assert found.source == "sample"
    assert found.lists == len(recommender.shopper_ids)
    assert found.whole.reached == len(wanted)


def test_where_enough_was_served_that_says_it():
    served = ServedItems(FEWEST_LISTS, 1, {"item-0": 30, "item-1": 10, "gone": 5})
    found = measured(served)
    assert (found.source, found.lists, found.whole.reached) == ("served", FEWEST_LISTS, 2)
    assert measured(replace(served, lists=FEWEST_LISTS - 1)).source == "sample"


def test_parts_of_the_catalogue_are_those_of_the_lists_and_shares_add_up():
    where = buckets_of(SNAPSHOT)
    assert [BUCKETS[one] for one in where] == [bucket_of(SNAPSHOT, item) for item in range(60)]
    found = measured()
    assert sum(one.items for one in found.buckets.values()) == found.whole.items == 60
    for share in ("sales_share", "slots_share"):
        total = sum(getattr(one, share) for one in found.buckets.values())
        assert total == pytest.approx(1)


def test_the_curve_falls_and_has_every_product_once():
    bins = measured().bins
    sales = [one.sales for one in bins]
    assert sales == sorted(sales, reverse=True)
    assert sum(one.items for one in bins) == 60
    assert all(0 <= one.reached <= 1 for one in bins)


def test_what_was_deleted_is_neither_counted_nor_reached():
    gone = replace(SNAPSHOT, rankable=np.arange(60) >= 30)
    found = measured(snapshot=gone)
    assert found.whole.items == 30
    assert measured(snapshot=replace(SNAPSHOT, rankable=np.zeros(60, bool))).bins == ()


def test_a_sample_is_drawn_once_for_each_state_of_the_shop(monkeypatch):
    calls = []
    ranker = type(SNAPSHOT.model.ranker)
    score = ranker.score
    monkeypatch.setattr(ranker, "score", lambda self, one: calls.append(1) or score(self, one))
    reach = ReachOfLists(lambda _: NOTHING)
    first = reach.measure(SNAPSHOT)
    before = len(calls)
    assert reach.measure(SNAPSHOT) == first
    assert len(calls) == before > 0
    reach.measure(replace(SNAPSHOT, version=1))
    assert len(calls) == 2 * before
