from dataclasses import replace

from client.importing.shop_import import read_shop
from client.shop.dataset import save_merchant_data
from simulations.data.merchant_note import merchant_notes
from tests.client.importing.test_merchant_column import write
from tests.simulations.data.test_partition import make_data

EVENTS = "user_id,item_id,position,shop\n" + "".join(
    f"u{n},{1 + n % 2},{n},s{n % 3}\n" for n in range(12)
)
ITEMS = "item_id,title\n1,red pot\n2,blue pot\n"


def test_nothing_is_said_of_the_marketplace():
    assert list(merchant_notes(None, None, make_data(0), "column")) == []


def test_the_column_that_divides_is_named(tmp_path):
    write(tmp_path, "item_id,title,merchant_category\n1,red pot,A\n2,blue pot,B\n")
    data, _ = read_shop(tmp_path)
    [note] = merchant_notes(tmp_path, None, data, "column")
    assert "'merchant_category' of the items, 2 names" in note


def test_a_column_that_was_not_used_is_named_with_the_option_that_uses_it(tmp_path):
    write(tmp_path, ITEMS, EVENTS)
    data, _ = read_shop(tmp_path)
    [note] = merchant_notes(tmp_path, None, data, "random")
    assert "'shop' of the purchases has 3 names" in note
    assert "--partition column" in note


def test_a_column_that_no_mapping_uses_is_named_with_the_line_to_write(tmp_path):
    write(tmp_path, "item_id,title,seller_rank\n1,red pot,1\n2,blue pot,2\n")
    data, _ = read_shop(tmp_path)
    [note] = merchant_notes(tmp_path, None, data, "random")
    assert 'merchant = "seller_rank"' in note


def test_of_a_saved_data_set_the_names_are_counted_and_no_column_is_named(tmp_path):
    data = make_data(0)
    save_merchant_data(data, tmp_path / "saved")
    [note] = merchant_notes(tmp_path / "saved", None, data, "random")
    assert "The merchant column of the items has 6 names" in note
    bare = replace(make_data(0, brands=0, sellers=0))
    assert list(merchant_notes(tmp_path / "saved", None, bare, "random")) == []
