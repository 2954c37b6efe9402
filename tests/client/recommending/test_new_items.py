import numpy as np
import pytest

from client.recommending.new_items import read_new_items, with_new_items
from client.shop.dataset import MerchantData
from common.catalogue import Catalogue, Item
from common.errors import InputError
from tests.support.shops import make_catalogue, make_shop


def bought_items(data, shopper):
    rows = data.interactions
    return [data.catalogue.items[item].item_id for item in rows.item[rows.shopper == shopper]]


def test_a_shop_keeps_its_purchases_and_its_order_by_id():
    shop = make_shop(items=30, shoppers=12)
    ids = sorted(item.item_id for item in shop.catalogue.items)
    more = with_new_items(shop, [Item("item-17b", "A", "a"), Item("aa", "B", "b")])
    assert [item.item_id for item in more.catalogue.items] == sorted([*ids, "item-17b", "aa"])
    assert more.interactions.item_count == 32
    for shopper in range(12):
        assert sorted(bought_items(more, shopper)) == sorted(bought_items(shop, shopper))
    rows = more.interactions
    order = np.lexsort((rows.item, rows.time, rows.shopper))
    assert np.array_equal(order, np.arange(len(rows)))
    counts = dict(zip(more.catalogue.items, rows.item_counts(), strict=True))
    assert [counts[item] for item in more.catalogue.items if item.title in "AB"] == [0, 0]


def test_the_sellers_of_events_stay_beside_their_events():
    shop = make_shop(items=30, shoppers=12)
    catalogue = Catalogue(shop.catalogue.items)  # not sorted by id, so rows will move
    seller = (shop.interactions.item % 2).astype(np.int32)
    shop = MerchantData("Two", catalogue, shop.interactions, shop.split_rule, seller, ("a", "b"))
    more = with_new_items(shop, [Item("aa", "B", "b")])
    names = [more.catalogue.items[item].item_id for item in more.interactions.item]
    expected = [int(name.removeprefix("item-")) % 2 for name in names]
    assert more.event_merchant.tolist() == expected


@pytest.mark.parametrize("ids", [["item-3"], ["x", "x"]])
def test_an_id_that_is_taken_is_refused(ids):
    with pytest.raises(InputError) as caught:
        with_new_items(make_shop(), [Item(one, "A", "a") for one in ids])
    assert caught.value.field == "item_id"


def test_a_table_of_new_items_is_read(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("title,item_id,text,extra\nBlue  mug,n1,A mug of blue clay,7\nRed mug,n2,,8\n")
    assert read_new_items(path) == [
        Item("n1", "Blue mug", "A mug of blue clay"),
        Item("n2", "Red mug", "Red mug"),
    ]
    path = tmp_path / "new.jsonl"
    path.write_text('{"item_id": "n1", "title": "Mug", "category": "Kitchen"}\n')
    assert read_new_items(path) == [Item("n1", "Mug", "Mug", "Kitchen")]


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("item_id,title\nn1,\n", "title"),
        ("item_id,title\n,Mug\n", "item_id"),
        ("item_id,name\nn1,Mug\n", "title"),
    ],
)
def test_a_new_item_without_an_id_or_a_title_is_refused(tmp_path, table, field):
    path = tmp_path / "new.csv"
    path.write_text(table)
    with pytest.raises(InputError) as caught:
        read_new_items(path)
    assert caught.value.field == field
    assert "new.csv" in str(caught.value)


def test_the_old_catalogue_is_left_as_it_was():
    shop = make_shop(items=8)
    with_new_items(shop, [Item("n", "A", "a")])
    assert shop.catalogue.digest == make_catalogue(8).digest
