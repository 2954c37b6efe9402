"""Mappings: read from TOML, refused when wrong, guessed from columns."""

import re
from pathlib import Path

import polars as pl
import pytest

from client.importing.mapping import (
    _SECTIONS,
    Mapping,
    load_mapping,
    mapping_names,
    microseconds,
    parse_mapping,
)
from client.importing.mapping_detection import detect_mapping
from client.importing.shop_import import read_shop
from client.shop.splitting import SplitRule
from common.errors import InputError, SettingsError
from tests.support.layouts import write_movielens, write_online_retail

DATA = Path(__file__).parents[4] / "shared" / "data"

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
    write_online_retail(tmp_path)
    path = tmp_path / "2010-12-01.csv"
    path.write_text(path.read_text().replace("lantern?", "£ lantern"), encoding="latin-1")
    with pytest.raises(InputError, match='as "cp1252" it reads'):
        read_shop(tmp_path)
    data, _ = read_shop(tmp_path, encoding="latin-1", max_dropped_share=1.0)
    assert len(data.interactions) == 3


def test_the_reference_describes_every_key_and_every_ready_made_mapping():
    text = (Path(__file__).parents[3] / "docs" / "ref-mapping.md").read_text("utf-8")
    keys = {key for section in [Mapping, *_SECTIONS.values()] for key in section.model_fields}
    assert not {key for key in keys if f"`{key}`" not in text and f"`[{key}]`" not in text}
    assert not {name for name in mapping_names() if f"`{name}`" not in text}


def test_the_how_to_s_mapping_is_valid():
    text = (Path(__file__).parents[3] / "docs" / "how-to-import-your-shop.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        parse_mapping(block, "how-to.toml")


def test_a_mapping_in_the_folder_itself_comes_first(tmp_path):
    write_movielens(tmp_path)
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
