import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest

from client.detecting import detect_mapping
from client.importing import read_shop
from client.mapping import (
    _SECTIONS,
    Mapping,
    load_mapping,
    mapping_names,
    microseconds,
    parse_mapping,
)
from client.splitting import SplitRule
from common.errors import InputError, SettingsError

DATA = Path(__file__).parents[2] / "shared" / "data"

BASE = """
[items]
file = "items.csv"
item_id = "sku"
title = "name"
[events]
file = "events.csv"
shopper_id = "customer"
item_id = "sku"
time = "when"
"""


def test_a_mapping_is_named_after_its_file_and_knows_its_columns():
    mapping = parse_mapping(BASE, "tea.toml")
    assert mapping.name == "tea"
    assert mapping.items.columns() == ["sku", "name"]
    assert mapping.events.columns() == ["customer", "sku", "when"]
    assert mapping.items_place.file == ("items.csv",)


def test_items_without_a_place_of_their_own_are_read_from_the_events():
    mapping = parse_mapping(BASE.replace('file = "items.csv"', ""), "tea.toml")
    assert mapping.items_place == mapping.events.place


def test_split_dates_become_microseconds_in_utc():
    split = (
        '[split]\nkind = "time"\nvalid_from = 2011-09-01\ntest_from = "2011-10-01T02:00:00+02:00"'
    )
    mapping = parse_mapping(BASE + split, "tea.toml")
    assert mapping.split is not None
    assert mapping.split.rule() == SplitRule("time", 1_314_835_200_000_000, 1_317_427_200_000_000)
    assert microseconds(mapping.split.test_from) == 1_317_427_200_000_000


WRONG = {
    "not TOML": ("[items", "not valid TOML"),
    "no items": ("[events]\nfile = 'e'", r"there is no \[items\]"),
    "items is a number": ("items = 3", r"\[items\] must be a section"),
    "missing key": (
        BASE.replace('title = "name"', ""),
        r"\[items\] lacks the required key 'title'",
    ),
    "unknown key": (BASE.replace("title", "titel"), r"unknown key 'titel'; known keys are .*title"),
    "unknown section": (BASE + "[orders]", "unknown key 'orders'; known keys are clean, encoding"),
    "wrong type": (BASE.replace('"name"', "7"), r"\[items\] 'title' should be a valid string"),
    "wrong type in a list": (BASE.replace('"name"', '"name"\ntext = [1]'), r"\[items\] 'text'"),
    "two places": (BASE.replace('title = "name"', 'title = "name"\ntable = "t"'), "more than one"),
    "no events file": (BASE.replace('file = "events.csv"', ""), r"needs \[events\] with file"),
    "no time": (BASE.replace('time = "when"', ""), "exactly one of time and position"),
    "time and position": (BASE + 'position = "n"', "exactly one of time and position"),
    "format and unit": (BASE + 'time_format = "%Y"\ntime_unit = "s"', "keep one"),
    "unknown unit": (BASE + 'time_unit = "weeks"', "'time_unit' should be 's', 'ms'"),
    "unknown encoding": ('encoding = "klingon"' + BASE, "'klingon', which Python does not know"),
    "bad pattern": (BASE + '[clean]\nproduct_code = "("', "not a regular expression"),
    "bad cancelled rule": (
        BASE + '[events.cancelled]\ncolumn = "x"',
        "lacks the required key 'pat",
    ),
    "short text bound": (BASE + "[clean]\nmax_text_length = 3", "greater than or equal to 20"),
    "empty column": (BASE.replace('"name"', '""'), "at least 1 character"),
    "split without dates": (BASE + '[split]\nkind = "time"', "needs valid_from and test_from"),
    "unknown split": (BASE + '[split]\nkind = "random"', "should be 'time' or 'leave_last_out'"),
    "valid after test": (
        BASE + '[split]\nkind = "time"\nvalid_from = 2020-02-01\ntest_from = 2020-01-01',
        "not before its test_from",
    ),
    "split date is a number": (
        BASE + '[split]\nkind = "time"\nvalid_from = 5\ntest_from = 6',
        "'valid_from' should be a valid datetime",
    ),
    "dates for leave-last-out": (
        BASE + '[split]\nkind = "leave_last_out"\nvalid_from = 2020-02-01',
        "takes no dates",
    ),
    "time split of positions": (
        BASE.replace("time =", "position =")
        + '[split]\nkind = "time"\nvalid_from = 2020-01-01\ntest_from = 2020-02-01',
        "needs a time",
    ),
    "labels without anything": (BASE + '[labels]\nfile = "l"\nitem_id = "i"', "category or value"),
    "labels without a file": (BASE + '[labels]\nitem_id = "i"\nvalue = "v"', r"needs \[labels\]"),
    "a category per shopper": (
        BASE + '[labels]\nfile = "l"\nitem_id = "i"\nshopper_id = "s"\ncategory = "c"',
        "belongs to an item alone",
    ),
    "reviews not declared public": (
        BASE + '[reviews]\nfile = "r"\nitem_id = "i"\ntext = "t"',
        "declare reviews_are_public = true",
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_mapping_is_refused_and_the_message_says_where(text, expected):
    with pytest.raises(SettingsError, match=expected) as caught:
        parse_mapping(text, "tea.toml")
    assert str(caught.value).startswith("tea.toml: ")
    assert caught.value.field == "mapping"


def test_a_mapping_that_is_not_there_lists_the_ready_made_ones(tmp_path):
    with pytest.raises(SettingsError, match="amazon_2014, amazon_2018"):
        load_mapping("amazon_1999")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_mapping(tmp_path)


# ------------------------------------------------------- the ready-made mappings, in true layouts


def _write(path, rows, *, python=False):
    lines = "\n".join(repr(row) if python else json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def _online_retail(folder):
    (folder / "2010-12-01.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,WHITE HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
        "536365,71053,WHITE METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom\n"
        "536380,71053,WHITE METAL LANTERN,2,12/1/2010 9:41,3.39,17809.0,France\n"
        "536380,71053,white lantern?,2,12/1/2010 9:41,3.39,17809.0,France\n"
    )
    (folder / "2010-12-02.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "C536379,71053,WHITE METAL LANTERN,-1,2010-12-02 09:41:00,3.39,14527.0,United Kingdom\n"
        "536381,POST,POSTAGE,1,2010-12-02 09:42:00,18.0,12583.0,France\n"
    )


def _amazon_2014(folder):
    review = {"reviewerName": "x", "helpful": [2, 3], "summary": "s", "reviewTime": "09 13, 2009"}
    events = [("A1", "B1", 5.0, 1252800000), ("A1", "B2", 3.0, 1352800000), ("A2", "B1", 4, 1e9)]
    _write(
        folder / "reviews_Toys_5.json.gz",
        [
            {"reviewerID": s, "asin": i, "overall": v, "unixReviewTime": t, "reviewText": "t"}
            | review
            for s, i, v, t in events
        ],
    )
    _write(
        folder / "meta_Toys.json.gz",
        [
            {"asin": "B1", "title": "Girls' Tutu", "related": {"also_bought": ["B2"]},
             "price": 3.17, "brand": "Coxlures",
             "categories": [["Toys", "Dress"], ["Dance"]], "description": "Pink"},
            {"asin": "B2", "title": 'A "loud" drum', "categories": [["Toys"]]},
        ],
        python=True,
    )  # fmt: skip


def _amazon_2018(folder):
    events = [("A1", "B1", 5.0, 1252800000), ("A1", "B2", 3.0, 1352800000), ("A2", "B1", 4.0, 1e9)]
    _write(
        folder / "Toys.json.gz",
        [
            {"reviewerID": s, "asin": i, "overall": v, "unixReviewTime": int(t), "reviewText": "t",
             "verified": True, "style": {"Color:": "Pink"}, "vote": "2"}
            for s, i, v, t in events
        ],
    )  # fmt: skip
    _write(
        folder / "meta_Toys.json.gz",
        [
            {"asin": "B1", "title": "Girls' Tutu", "brand": "Coxlures",
             "category": ["Toys", "Dress"], "description": ["Pink"], "also_buy": ["B2"]},
            {"asin": "B2", "title": 'A "loud" drum', "brand": "", "category": ["Toys"],
             "description": []},
        ],
    )  # fmt: skip


def _amazon_2023(folder):
    events = [
        ("A1", "B1", 5.0, 1252800000123),
        ("A1", "B2", 3, 1352800000000),
        ("A2", "B1", 4, 10**12),
    ]
    _write(
        folder / "Toys.jsonl.gz",
        [
            {"user_id": s, "parent_asin": i, "asin": "V9", "rating": v, "timestamp": t, "text": "t",
             "title": "Great", "verified_purchase": True, "images": []}
            for s, i, v, t in events
        ],
    )  # fmt: skip
    _write(
        folder / "meta_Toys.jsonl.gz",
        [
            {"parent_asin": "B1", "title": "Girls' Tutu", "store": "Coxlures", "price": "12.5",
             "categories": ["Toys", "Dress"], "features": ["Cotton"], "description": ["Pink"]},
            {"parent_asin": "B2", "title": 'A "loud" drum', "store": None, "price": None,
             "categories": ["Toys"], "features": [], "description": []},
        ],
    )  # fmt: skip


def _movielens(folder):
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '2,"Heat, The (1995)",Action\n'
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,1,4.0,964982703\n7,2,3.5,964982931\n8,1,5.0,964983000\n"
    )


def _movielens_1m(folder):
    (folder / "movies.dat").write_text(
        '1::Toy Story (1995)::Animation|Children\'s\n2::Am\u00e9lie: "A" (2001)::Comedy\n',
        encoding="latin-1",
    )
    (folder / "ratings.dat").write_text(
        "7::1::4::964982703\n7::2::3::964982931\n8::1::5::964983000\n"
    )


LAYOUTS = {
    "online_retail": _online_retail,
    "amazon_2014": _amazon_2014,
    "amazon_2018": _amazon_2018,
    "amazon_2023": _amazon_2023,
    "movielens": _movielens,
    "movielens_1m": _movielens_1m,
}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    LAYOUTS[request.param](tmp_path)
    return request.param, tmp_path


def test_a_known_layout_is_recognised_by_its_columns(layout):
    name, folder = layout
    assert detect_mapping(folder) == load_mapping(name)


def test_a_known_layout_is_imported(layout):
    name, folder = layout
    data, _ = read_shop(folder, max_dropped_share=1.0)
    assert len(data.catalogue) == 2
    assert data.interactions.shopper_count == 2
    assert len(data.interactions) == 3
    if name.startswith(("amazon", "movielens")):
        assert max(data.interactions.value.tolist()) == 5.0
    assert data.interactions.timed


def test_online_retail_layout_in_detail(tmp_path):
    _online_retail(tmp_path)
    data, report = read_shop(tmp_path, "online_retail", max_dropped_share=1.0)
    assert data.interactions.shopper_ids == ("17809", "17850")
    assert [item.title for item in data.catalogue.items] == [
        "WHITE METAL LANTERN",
        "WHITE HEART HOLDER",
    ]
    assert data.merchant_names == ("France", "United Kingdom")
    assert data.split_rule == SplitRule("time", 1_314_835_200_000_000, 1_317_427_200_000_000)
    events = next(table for table in report.tables if table.table == "events")
    assert events.dropped["cancelled_orders"] == 1
    assert events.dropped["non_product_codes"] == 1
    assert events.changed["tidy_ids"] == 6
    # Rows that differ in the item's wording alone are one event.
    assert events.dropped["exact_duplicates"] == 1


@pytest.mark.parametrize("name", ["amazon_2014", "amazon_2018", "amazon_2023"])
def test_amazon_text_joins_title_path_and_description(name, tmp_path):
    LAYOUTS[name](tmp_path)
    data, _ = read_shop(tmp_path, name)
    first, second = data.catalogue.items
    assert first.title == "Girls' Tutu"
    assert first.category == "Toys > Dress"
    assert first.merchant == "Coxlures"
    assert first.text.startswith("Girls' Tutu Toys Dress")
    assert first.text.endswith("Pink")
    assert second.text == 'A "loud" drum Toys'
    unit = 1_252_800_000_123_000 if name == "amazon_2023" else 1_252_800_000_000_000
    assert unit in data.interactions.time.tolist()


def test_movielens_1m_reads_fields_between_double_colons(tmp_path):
    _movielens_1m(tmp_path)
    data, _ = read_shop(tmp_path)
    assert data.catalogue.items[1].title == 'Am\u00e9lie: "A" (2001)'


def test_every_ready_made_mapping_is_tested_here():
    two_file = {"online_retail_two_file", "amazon_games", "amazon_industrial"}
    assert set(mapping_names()) == LAYOUTS.keys() | two_file


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not on this machine")
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("online_retail", "online_retail_two_file"),
        ("amazon_games_5core", "amazon_games"),
        ("amazon_industrial_2018_recent", "amazon_industrial"),
    ],
)
def test_the_two_file_sets_are_recognised(folder, name):
    assert detect_mapping(DATA / folder) == load_mapping(name)


# --------------------------------------------------------------------------------- guessing


def test_common_column_names_are_guessed_also_with_semicolons(tmp_path):
    (tmp_path / "products.csv").write_text("SKU;Product Name;Brand\nt1;Green tea;Leaf\n")
    (tmp_path / "orders.csv").write_text("Customer_ID;sku;Order Date;Qty\nann;t1;2024-01-05;2\n")
    mapping = detect_mapping(tmp_path)
    assert mapping.items.title == "Product Name"
    assert mapping.items.separator == ";"
    assert mapping.items.merchant == "Brand"
    assert mapping.events.shopper_id == "Customer_ID"
    assert mapping.events.time == "Order Date"
    assert mapping.events.quantity == "Qty"
    data, _ = read_shop(tmp_path)
    assert data.interactions.shopper_ids == ("ann",)


def test_one_file_and_chinese_names_are_guessed(tmp_path):
    path = tmp_path / "shop.parquet"
    pl.DataFrame(
        {
            "用户编号": [1, 2],
            "商品编号": [9, 9],
            "商品名称": ["绿茶", "绿茶"],
            "时间": ["2024-01-05"] * 2,
        }
    ).write_parquet(path)
    mapping = detect_mapping(path)
    assert mapping.items.title == "商品名称"
    assert read_shop(path)[0].catalogue.items[0].title == "绿茶"


def test_a_known_layout_in_another_encoding_is_recognised_when_it_is_named(tmp_path):
    _online_retail(tmp_path)
    path = tmp_path / "2010-12-01.csv"
    path.write_text(path.read_text().replace("lantern?", "£ lantern"), encoding="latin-1")
    with pytest.raises(InputError, match='encoding = "gb18030" or "latin-1"'):
        read_shop(tmp_path)
    data, _ = read_shop(tmp_path, encoding="latin-1", max_dropped_share=1.0)
    assert len(data.interactions) == 3


def test_the_reference_describes_every_key_and_every_ready_made_mapping():
    text = (Path(__file__).parents[1] / "docs" / "ref-mapping.md").read_text("utf-8")
    keys = {key for section in [Mapping, *_SECTIONS.values()] for key in section.model_fields}
    assert not {key for key in keys if f"`{key}`" not in text and f"`[{key}]`" not in text}
    assert not {name for name in mapping_names() if f"`{name}`" not in text}


def test_the_how_to_s_mapping_is_valid():
    text = (Path(__file__).parents[1] / "docs" / "how-to-import-your-shop.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        parse_mapping(block, "how-to.toml")


def test_a_mapping_in_the_folder_itself_comes_first(tmp_path):
    _movielens(tmp_path)
    (tmp_path / "mapping.toml").write_text(BASE)
    assert detect_mapping(tmp_path).items.item_id == "sku"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.csv": "foo,bar\n1,2\n", "b.csv": "baz\n1\n"}, "Seen: a.csv: foo, bar; b.csv: baz"),
        ({"notes.md": "hello"}, "Seen: no table"),
        ({"o.csv": "user_id,item_id\n1,2\n", "i.csv": "item_id,title\n2,x\n"}, "Seen: i.csv"),
        ({"a.csv": ""}, "a.csv: is empty"),
    ],
)
def test_a_folder_that_nothing_fits_is_refused_with_what_was_seen(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=expected):
        detect_mapping(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        detect_mapping(tmp_path / "nowhere")
