import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing.feedback import FedBack, read_feedback, with_feedback
from client.importing.shop_import import import_shop
from client.serving.feedback.store import NewEvent, Store
from client.shop.splitting import SplitRule
from tests.support.shops import DAY, make_shop


def kept(tmp_path, *events):
    (tmp_path / "node").mkdir(parents=True, exist_ok=True)
    address = f"sqlite:///{tmp_path / 'node' / 'events.db'}"
    store = Store(address)
    store.add_events([NewEvent(f"e-{number}", *one) for number, one in enumerate(events)])
    store.close()
    return address


def test_only_purchases_that_stand_come_back(tmp_path):
    address = kept(
        tmp_path,
        ("purchase", 5, "item-1", "anna", None, "order-1"),
        ("purchase", 6, "item-2", "anna", None, "order-1"),
        ("refund", 7, "item-2", "anna", None, "order-1"),
        ("click", 8, "item-3", "anna"),
        ("add_to_cart", 8, "item-3", "anna"),
        ("purchase", 9, "item-4", None, None, "order-2"),
        ("purchase", 10, "item-5", "ben"),
    )
    assert read_feedback(address) == [
        FedBack("anna", "item-1", 5, "order-1"),
        FedBack("ben", "item-5", 10, "e-6"),
    ]


def test_a_store_without_an_event_feeds_nothing_back(tmp_path):
    assert read_feedback(kept(tmp_path)) == []


EVENTS = st.lists(
    st.builds(
        FedBack,
        st.sampled_from([f"shopper-{place}" for place in (0, 3, 99)] + ["somebody new"]),
        st.integers(0, 70).map("item-{}".format),
        st.integers(0, 400).map(lambda day: day * DAY),
        st.sampled_from(["order-1", "order-2", "order-3"]),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(events=EVENTS)
def test_what_joins_is_what_the_tables_lack_in_the_order_that_all_read(events):
    shop = make_shop()
    before, after = shop.interactions, with_feedback(shop, events).interactions
    rows = list(zip(after.shopper, after.time, after.item, strict=True))
    assert rows == sorted(rows)

    def named(rows):
        ids = rows.shopper_ids
        pairs = zip(rows.shopper.tolist(), rows.item.tolist(), rows.time.tolist(), strict=True)
        return {(ids[shopper], f"item-{item}", time) for shopper, item, time in pairs}

    known = named(before)
    assert known <= named(after)
    fresh = {
        (one.shopper_id, one.order_id, one.item_id)
        for one in events
        if one.item_id in shop.catalogue
        and not any(
            who == one.shopper_id and what == one.item_id and abs(time - one.time) <= DAY
            for who, what, time in known
        )
    }
    assert len(after) == len(before) + len(fresh)
    for shopper in range(after.shopper_count):
        mine = after.shopper == shopper
        baskets, times = after.basket[mine], after.time[mine]
        assert set(baskets.tolist()) == set(range(len(set(baskets.tolist()))))
        first = [times[baskets == basket].min() for basket in range(len(set(baskets.tolist())))]
        assert first == sorted(first)
        pairs = list(zip(baskets.tolist(), after.item[mine].tolist(), strict=True))
        assert len(pairs) == len(set(pairs))
    assert with_feedback(shop, []) is shop


@pytest.mark.parametrize(("days", "joins"), [(0, 0), (1, 0), (-1, 0), (500, 1)])
def test_a_purchase_that_the_tables_have_is_not_taken_twice(days, joins):
    shop = make_shop()
    rows = shop.interactions
    who, what = rows.shopper_ids[rows.shopper[0]], f"item-{rows.item[0]}"
    event = FedBack(who, what, int(rows.time[0]) + days * DAY, "order-1")
    assert len(with_feedback(shop, [event]).interactions) == len(rows) + joins


def test_data_without_a_clock_stays_as_it_is():
    shop = make_shop()
    rows = type(shop.interactions)(**{**vars(shop.interactions), "timed": False})
    untimed = type(shop)(shop.name, shop.catalogue, rows, SplitRule("leave_last_out"))
    assert with_feedback(untimed, [FedBack("a", "item-1", 1, "o")]) is untimed


def test_an_import_takes_them_in_by_itself(tmp_path):
    source = tmp_path / "tables"
    source.mkdir()
    items = "".join(f"i{place},Blue mug number {place}\n" for place in range(8))
    (source / "items.csv").write_text("item_id,title\n" + items)
    sold = "".join(
        f"s{place % 4},i{place % 5},2024-0{1 + place % 9}-11T10:00:00\n" for place in range(30)
    )
    (source / "events.csv").write_text("shopper_id,item_id,time\n" + sold)
    out = tmp_path / "shop"
    before, _ = import_shop(source, None, out)
    day = 20_000 * DAY
    kept(out, ("purchase", day, "i7", "s1", None, "o"), ("purchase", day, "i9", "s1", None, "o"))
    after, _ = import_shop(source, None, out)
    assert len(after.interactions) == len(before.interactions) + 1
    assert after.catalogue.items == before.catalogue.items
    assert after.interactions.time.max() == pytest.approx(day)
