"""Each platform's export goes in without a mapping, and gives the shop that was written."""

import pytest

from client.importing.platforms.layouts import find_section, platform_names
from client.importing.shop_import import look_at_shop, read_shop
from tests.support.platform_samples import GOODS, KEPT, SAMPLES, TITLES

LEARNT = {"ga4", "taobao"}  # they list no goods apart


@pytest.mark.parametrize("name", SAMPLES)
def test_a_platforms_sample_gives_the_shop_that_was_written(tmp_path, name):
    SAMPLES[name](tmp_path)
    data, report = read_shop(tmp_path)
    rows = data.interactions
    bought = {
        (rows.shopper_ids[shopper], data.catalogue.items[item].item_id)
        for shopper, item in zip(rows.shopper, rows.item, strict=True)
    }
    assert bought == {(shopper, sku) for shopper, sku, _ in KEPT}
    titles = {item.item_id: item.title for item in data.catalogue.items}
    assert titles == TITLES
    assert "007" in titles
    assert data.catalogue_declared == (name not in LEARNT)
    assert len(rows) == len(KEPT)
    assert report.tables[0].dropped_share == 0.0


def test_every_platform_has_a_sample():
    assert all(any(sample.startswith(name.split("_")[0]) for sample in SAMPLES)
               for name in platform_names())  # fmt: skip


def test_drafts_and_rows_of_pictures_are_left_out_and_no_dirt(tmp_path):
    SAMPLES["shopify"](tmp_path)
    _, report = read_shop(tmp_path)
    assert report.tables[0].left_out == {"no_variant": 1, "hidden": 1}
    assert report.tables[0].rows_kept == len(GOODS)


def test_a_look_shows_the_layout_and_ten_rows_and_writes_nothing(tmp_path, capsys):
    from rich.console import Console

    SAMPLES["shopify"](tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    Console(width=160).print(look_at_shop(tmp_path))
    shown = capsys.readouterr().out
    assert "Layout: shopify" in shown
    assert "Oak Lamp - Small" in shown
    assert "Purchases by period" in shown
    assert "cancelled_orders" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_file_of_other_columns_is_no_platforms():
    assert find_section("items", ["a", "b"]) is None
    assert find_section("events", ["Name", "Email"]) is None
