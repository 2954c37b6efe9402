"""A shop comes out as it went in, and every row is accounted for."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from client.importing.shop_import import import_shop, read_shop
from client.shop.splitting import SplitRule
from tests.support.tea import EVENTS, ITEMS, assert_same, tea_mapping, tea_shop

DATA = Path(__file__).parents[4] / "shared" / "data"


def test_a_small_shop_comes_out_as_it_went_in(tmp_path):
    data, report = read_shop(tea_shop(tmp_path), tea_mapping(), name="Tea house")
    rows = data.interactions
    assert data.name == "Tea house"
    assert [item.item_id for item in data.catalogue.items] == ["c1", "t1", "t2"]
    assert data.catalogue.items[1].text == "Green tea"
    assert data.catalogue.items[0].merchant == "Clay"
    assert rows.shopper_ids == ("ann", "bob")
    assert rows.shopper.tolist() == [0, 0, 0, 1]
    assert rows.item.tolist() == [0, 1, 2, 0]
    assert rows.basket.tolist() == [0, 0, 1, 0]
    assert rows.value.tolist() == [1.0] * 4
    start = int(datetime(2024, 1, 5, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert rows.time[:2].tolist() == [start, start]
    assert [array.dtype for array in (rows.shopper, rows.item, rows.time, rows.basket)] == [
        np.int32, np.int32, np.int64, np.int32
    ]  # fmt: skip
    assert rows.value.dtype == np.float32
    assert (report.shoppers, report.items, report.interactions, report.pairs) == (2, 3, 4, 4)
    assert data.event_merchant is None


def test_without_split_dates_shares_of_the_purchases_are_held_out(tmp_path):
    data, _ = read_shop(tea_shop(tmp_path), tea_mapping())
    times = np.unique(data.interactions.time)  # of 2, 1 and 1 purchases
    assert data.split_rule == SplitRule("time", times[1], times[2])


def test_positions_leave_the_last_items_out(tmp_path):
    events = "customer,sku,n\nann,t1,0\nann,t2,1\nann,t1,2\n"
    change = [
        ('time = "when"', 'position = "n"'),
        ('order_id = "order"\nquantity = "qty"\nprice = "price"\n', ""),
    ]
    data, _ = read_shop(tea_shop(tmp_path, events=events), tea_mapping(change=change))
    assert data.split_rule.kind == "leave_last_out"
    assert not data.interactions.timed
    assert data.interactions.time.tolist() == [0, 1, 2]
    assert data.interactions.basket.tolist() == [0, 1, 2]


def test_events_name_merchants_and_values(tmp_path):
    events = "customer,sku,when,shop,stars\nann,t1,2024-01-05,B,4.5\nbob,t2,2024-01-06,,2\n"
    change = [
        ('order_id = "order"\nquantity = "qty"\nprice = "price"', 'merchant="shop"\nvalue="stars"')
    ]
    data, _ = read_shop(tea_shop(tmp_path, events=events), tea_mapping(change=change))
    assert data.merchant_names == ("", "B")
    assert data.event_merchant.tolist() == [1, 0]
    assert data.interactions.value.tolist() == [4.5, 2.0]


def test_unsold_items_stay_as_cold_items_unless_the_mapping_says_otherwise(tmp_path):
    items = ITEMS + "n1,New kettle,Clay\n"
    data, report = read_shop(tea_shop(tmp_path, items=items), tea_mapping())
    assert (len(data.catalogue), report.unsold_items) == (4, 1)
    mapping = tea_mapping(add="[clean]\nkeep_unsold_items = false")
    data, report = read_shop(tmp_path, mapping)
    assert (len(data.catalogue), report.unsold_items) == (3, 0)


def test_every_dirty_row_is_counted_by_its_rule(tmp_path):
    items = ITEMS + "t1,Green tea,Leaf\n,No id,\nx1,&nbsp;,\n\nFEE1,Postage,\n"
    events = EVENTS + (
        "ann,t1,2024-01-05 10:00:00,o1,1,4.5\n"  # exact duplicate
        "ann,t1,2024-01-05 10:00:00,o1,3,4.5\n"  # the same basket and item
        ",t1,2024-01-05 10:00:00,o9,1,4.5\n"  # no shopper
        "bob,t1,2024-01-05 10:00:00,Co9,1,4.5\n"  # cancelled
        "bob,t1,2024-01-05 10:00:00,o9,-1,4.5\n"
        "bob,t1,2024-01-05 10:00:00,o9,1,0\n"
        "bob,FEE1,2024-01-05 10:00:00,o9,1,4.5\n"
        "bob,zz,2024-01-05 10:00:00,o9,1,4.5\n"  # not in the catalogue
        "bob,t1,yesterday,o9,1,4.5\n"
        "bob,t1,1986-01-05 10:00:00,o9,1,4.5\n"
        "bob,t1,2124-01-05 10:00:00,o9,1,4.5\n"
        "bob,t2,2024-03-02 10:00:00,o8,80995,4.5\n"
        "\n"
    )
    mapping = tea_mapping(
        add='[events.cancelled]\ncolumn = "order"\npattern = "^C"\n'
        '[clean]\nproduct_code = "^[a-z]"\n'
    )
    data, report = read_shop(
        tea_shop(tmp_path, items=items, events=events), mapping, max_dropped_share=0.8
    )
    of_items, of_events = report.tables
    assert {rule: rows for rule, rows in of_items.dropped.items() if rows} == {
        "blank_rows": 1, "missing_ids": 1, "non_product_codes": 1, "missing_text": 1
    }  # fmt: skip
    assert of_items.merged == {"same_item": 1}
    assert of_items.rows_kept == len(data.catalogue) == 3
    assert of_events.dropped == {
        "blank_rows": 1, "missing_ids": 1, "exact_duplicates": 1, "cancelled_orders": 1,
        "non_product_codes": 1, "non_positive_quantity": 1, "non_positive_price": 1,
        "malformed_time": 1, "impossible_time": 2, "unknown_items": 1,
    }  # fmt: skip
    assert of_events.merged == {"same_basket_item": 1}
    assert of_events.changed["outlier_quantity"] == 1
    assert of_events.rows_kept == len(data.interactions) == 5


def test_a_capped_quantity_reaches_a_value_that_reads_the_same_column(tmp_path):
    events = EVENTS + "bob,t2,2024-03-02 10:00:00,o8,80995,4.5\n"
    change = [('price = "price"', 'price = "price"\nvalue = "qty"')]
    data, _ = read_shop(tea_shop(tmp_path, events=events), tea_mapping(change=change))
    assert 2 <= data.interactions.value.max() < 80_995


def test_labels_and_public_reviews_are_joined(tmp_path):
    tea_shop(tmp_path)
    (tmp_path / "labels.csv").write_text("sku,kind\nt1,tea\nt2,tea\n")
    (tmp_path / "reviews.jsonl").write_text(
        '{"sku": "t1", "said": "Fresh &amp; mild"}\n{"sku": "c1", "said": ""}\n'
        '{"sku": "t1", "said": "Nice"}\n{"sku": "zz", "said": "Unknown"}\n'
    )
    add = (
        '[labels]\nfile = "labels.csv"\nitem_id = "sku"\ncategory = "kind"\n'
        '[reviews]\nfile = "reviews.jsonl"\nitem_id = "sku"\ntext = "said"\n'
        "reviews_are_public = true\n"
    )
    data, report = read_shop(tmp_path, tea_mapping(add=add))
    assert [item.category for item in data.catalogue.items] == ["", "tea", "tea"]
    assert [item.text for item in data.catalogue.items][:2] == [
        "Tea cup",
        "Green tea Fresh & mild Nice",
    ]
    assert [item.title for item in data.catalogue.items][1] == "Green tea"
    assert [table.table for table in report.tables] == ["items", "events", "labels", "reviews"]


def test_values_come_from_labels_of_shopper_and_item(tmp_path):
    tea_shop(tmp_path)
    (tmp_path / "labels.csv").write_text("sku,who,liked\nc1,ann,0\n")
    add = '[labels]\nfile = "labels.csv"\nitem_id = "sku"\nshopper_id = "who"\nvalue = "liked"\n'
    data, report = read_shop(tmp_path, tea_mapping(add=add))
    assert data.interactions.value.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert report.tables[1].changed["labelled_values"] == 1


def test_the_report_counts_and_never_quotes(tmp_path):
    shop, out = tmp_path / "shop", tmp_path / "out"
    shop.mkdir()
    _, report = import_shop(
        tea_shop(shop, events=EVENTS + ",t1,2024-01-05,o9,1,4\n"), tea_mapping(), out
    )
    saved = json.loads((out / "quality.json").read_text())
    assert saved["tables"][1]["dropped"]["missing_ids"] == 1
    assert saved["tables"][1]["dropped_share"] == pytest.approx(0.2)
    assert (saved["shoppers"], saved["pairs"]) == (2, 4)
    printed = str(report)
    assert "dropped: missing_ids" in printed
    assert "2 shoppers, 3 items" in printed
    for secret in ("ann", "bob", "o1", "t1", "Green"):
        assert secret not in printed
        assert f'"{secret}"' not in (out / "quality.json").read_text()


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not on this machine")
@pytest.mark.parametrize(
    ("folder", "shoppers", "items", "unsold", "pairs"),
    [
        pytest.param("online_retail", 4_334, 3_659, 0, 266_221, marks=pytest.mark.slow),
        pytest.param("amazon_games_5core", 49_156, 17_332, 0, 342_329, marks=pytest.mark.slow),
        ("amazon_industrial_2018_recent", 3_285, 3_686, 145, 21_664),
    ],
)
def test_real_shops_have_the_published_counts(folder, shoppers, items, unsold, pairs):
    data, report = read_shop(DATA / folder)
    assert (report.shoppers, report.items, report.unsold_items) == (shoppers, items, unsold)
    assert report.pairs == pairs
    rows = data.interactions
    order = np.lexsort((rows.item, rows.time, rows.shopper))
    assert np.array_equal(order, np.arange(len(rows)))
    assert data.name == folder


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not on this machine")
def test_the_raw_online_retail_layout_gives_the_same_purchases(tmp_path):
    folder = DATA / "online_retail"
    titles = pl.read_csv(folder / "items.csv", infer_schema=False).select("item_id", "title")
    raw = pl.read_csv(folder / "interactions.csv.gz", infer_schema=False).join(titles, on="item_id")
    raw = raw.rename(
        {"user_id": "CustomerID", "item_id": "StockCode", "title": "Description",
         "timestamp": "InvoiceDate", "quantity": "Quantity", "unit_price": "UnitPrice",
         "order_id": "InvoiceNo", "country": "Country"}
    ).with_columns(pl.col("CustomerID") + ".0")  # fmt: skip
    tenth = raw.gather_every(10)
    dirt = [
        tenth.with_columns(InvoiceNo="C" + pl.col("InvoiceNo"), Quantity="-" + pl.col("Quantity")),
        tenth.with_columns(pl.lit(None, dtype=pl.String).alias("CustomerID")),
        tenth.with_columns(pl.lit("POST").alias("StockCode")),
        tenth.with_columns(
            pl.lit("0.0").alias("UnitPrice"), pl.lit("damaged").alias("Description")
        ),
    ]
    dirt = [frame.select(raw.columns) for frame in dirt]
    pl.concat([raw, *dirt]).sample(fraction=1, shuffle=True, seed=1).write_csv(tmp_path / "raw.csv")
    data, report = read_shop(tmp_path / "raw.csv")
    expected, _ = read_shop(folder)
    assert_same(data, expected)
    assert report.tables[1].dropped["cancelled_orders"] == tenth.unique().height


def test_a_catalogue_is_declared_by_its_own_whole_list_and_learnt_otherwise(tmp_path):
    (tmp_path / "shop").mkdir()
    shop = tea_shop(tmp_path / "shop")
    kept = "[clean]\nkeep_unsold_items = false\n"
    own, report = read_shop(shop, tea_mapping())
    assert own.catalogue_declared
    assert "declared, from an item list" in str(report)
    sold, report = read_shop(shop, tea_mapping(add=kept))
    assert not sold.catalogue_declared
    assert "learnt from purchases" in str(report)
    change = [('file = "items.csv"\n', ""), ('"name"', '"sku"'), ('merchant = "brand"\n', "")]
    read_out, _ = read_shop(shop, tea_mapping(change=change))
    assert not read_out.catalogue_declared
    import_shop(shop, tea_mapping(), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["catalogue_declared"] is True


HOSTILE_ROWS = [
    "bob,12.5,2024-03-02 12:00:00,o4,1,9",  # an id with a fraction: 1.0 is then no float's 1
    "bob,9.0,2024-03-02 12:00:00,o4,1,9",
    "bob,\uff11,2024-03-02 12:00:00,o4,1,9",
    "bob,1.7E+1,2024-03-02 12:00:00,o4,1,9",
    "bob,new,2024-03-02 12:00:00,o4,1,9",
    "1.5,1.0,2024-03-02 12:00:00,2.5,80995,9",
    ",,,,,",
]


@pytest.mark.parametrize("row", HOSTILE_ROWS)
def test_a_declared_catalogue_is_the_same_to_the_letter_whatever_one_shopper_bought(tmp_path, row):
    """Its digest and text keys leave the node before anything is charged."""
    items = "sku,name,brand\n1.0,Green tea,Leaf\n2.0,Black tea,Leaf\n3.0,Tea cup,Clay\n"
    events = EVENTS.replace("t1", "1.0").replace("t2", "2.0").replace("c1", "3.0")
    tea_shop(tmp_path, items=items, events=events)
    before, _ = read_shop(tmp_path, tea_mapping())
    tea_shop(tmp_path, items=items, events=f"{events}{row}\n")
    after, _ = read_shop(tmp_path, tea_mapping(), max_dropped_share=1.0)
    assert after.catalogue.items == before.catalogue.items
    assert after.catalogue.digest == before.catalogue.digest
