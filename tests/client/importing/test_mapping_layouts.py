"""The ready-made mappings, on files in their true layouts."""

from pathlib import Path

import pytest

from client.importing.mapping import (
    load_mapping,
    mapping_names,
)
from client.importing.mapping_detection import detect_mapping
from client.importing.shop_import import read_shop
from client.shop.splitting import SplitRule
from tests.support.layouts import LAYOUTS, write_movielens_1m, write_online_retail

DATA = Path(__file__).parents[4] / "shared" / "data"


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
    write_online_retail(tmp_path)
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
    assert events.changed["canonical_ids"] == 6
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
    write_movielens_1m(tmp_path)
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
