import pytest

from client.importing.mapping_detection import detect_mapping, merchant_columns
from client.importing.merchant_column import like_merchants, merchant_column


@pytest.mark.parametrize(
    "name",
    [
        "merchant",
        "merchant_category",
        "merchant_platform",
        "Merchant ID",
        "seller",
        "seller_id",
        "SellerName",
        "store",
        "store_no",
        "Store Number",
        "shop",
        "shop-id",
        "vendor.name",
        "retailer",
        "outlet_id",
        "brand",
        "商家",
        "商家名称",
        "店铺",
        "店铺ID",
        "卖家",
        "门店编号",
        "品牌",
    ],
)
def test_a_column_that_names_a_merchant_is_found_among_others(name):
    assert merchant_column(["item_id", "title", name, "category_path"]) == name


@pytest.mark.parametrize(
    "name",
    ["shopper_id", "shopping_cart", "storage", "商家编码", "restored", "workshop", "merchandise"],
)
def test_a_column_that_only_sounds_like_one_is_not(name):
    assert merchant_column(["item_id", "title", name]) is None
    if name != "商家编码":
        assert list(like_merchants(["item_id", name])) == []


def test_a_seller_goes_before_a_brand_and_an_id_before_a_name():
    assert merchant_column(["brand", "store"]) == "store"
    assert merchant_column(["store_name", "store_id"]) == "store_id"


def test_what_may_be_one_is_listed_and_not_taken():
    assert merchant_column(["seller_rating"]) is None
    assert list(like_merchants(["title", "seller_rating", "store"])) == ["seller_rating", "store"]


def write(folder, items, events="user_id,item_id,position\nu,1,0\nu,2,1\n"):
    (folder / "items.csv").write_text(items, encoding="utf-8")
    (folder / "interactions.csv").write_text(events, encoding="utf-8")


def test_a_folder_of_common_names_has_its_merchants_mapped(tmp_path):
    write(tmp_path, "item_id,title,category_path,merchant_category\n1,a,b,Makeup\n2,c,d,Hair\n")
    mapping = detect_mapping(tmp_path)
    assert mapping.items.merchant == "merchant_category"
    assert mapping.items.category == "category_path"
    assert merchant_columns(tmp_path, mapping).passed_over == ()


def test_a_brand_does_not_stand_before_the_seller_that_events_name(tmp_path):
    events = "user_id,item_id,position,store_id\nu,1,0,s1\nu,2,1,s2\n"
    write(tmp_path, "item_id,title,brand\n1,a,Acme\n2,c,Bolt\n", events)
    mapping = detect_mapping(tmp_path)
    assert (mapping.items.merchant, mapping.events.merchant) == (None, "store_id")


def test_a_mapping_without_merchants_passes_a_column_over_and_that_is_said(tmp_path):
    write(tmp_path, "item_id,title,merchant_category\n1,a,Makeup\n2,c,Hair\n")
    (tmp_path / "mapping.toml").write_text(
        '[items]\nfile = "items.csv"\nitem_id = "item_id"\ntitle = "title"\n'
        '[events]\nfile = "interactions.csv"\nshopper_id = "user_id"\nitem_id = "item_id"\n'
        'position = "position"\n'
    )
    found = merchant_columns(tmp_path, detect_mapping(tmp_path))
    assert found.passed_over == (("items.csv", "merchant_category"),)
    assert found.items is None
