import pytest

from client.importing.mapping_detection import NO_EVENTS, find_catalogue_mapping
from client.importing.shop_import import import_shop, look_at_shop, read_shop
from client.serving.feedback.store import NewEvent, Store
from client.shop.dataset import load_merchant_data
from common.errors import InputError
from tests.support.shops import DAY, command
from tests.support.tea import EVENTS, ITEMS, tea_mapping, tea_shop

TIN = "item_id,title,category\nt1,Green tea,Tea\nt2,Black tea,Tea\nc1,Tea cup,Cups\n"


def first_day(folder, items=TIN, name="items.csv"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(items)
    return folder


def test_items_alone_are_a_shop_and_their_list_is_declared(tmp_path):
    import_shop(first_day(tmp_path / "tables"), None, tmp_path / "shop", catalogue_only=True)
    data = load_merchant_data(tmp_path / "shop")
    assert [item.title for item in data.catalogue.items] == ["Tea cup", "Green tea", "Black tea"]
    assert len(data.interactions) == data.interactions.shopper_count == 0
    assert data.catalogue_declared


def test_purchases_that_are_there_are_not_read(tmp_path):
    shop = tea_shop(tmp_path)
    for given in (tea_mapping(), None):
        if given is None:
            first_day(tmp_path, name="items.csv")
        data, report = read_shop(shop, given, catalogue_only=True)
        assert len(data.interactions) == 0
        assert [one.table for one in report.tables] == ["items"]
    assert EVENTS.startswith("customer")


def test_a_mapping_needs_no_events_then(tmp_path):
    first_day(tmp_path, ITEMS)
    lines = '[items]\nfile = "items.csv"\nitem_id = "sku"\ntitle = "name"\n'
    (tmp_path / "mapping.toml").write_text(lines)
    data, _ = read_shop(tmp_path, None, catalogue_only=True)
    assert len(data.catalogue) == 3
    again, _ = read_shop(tmp_path, str(tmp_path / "mapping.toml"), catalogue_only=True)
    assert again.catalogue.items == data.catalogue.items
    with pytest.raises(InputError, match=r"there is no \[events\]"):
        read_shop(tmp_path, None)


def test_a_platforms_export_of_products_is_known(tmp_path):
    products = "Handle,Title,Vendor,Type,Variant SKU,Variant Price,Status\n"
    products += "cup,Tea cup,Clay,Cups,c1,9,active\npot,Tea pot,Clay,Pots,p1,19,active\n"
    data, _ = read_shop(first_day(tmp_path, products, "products.csv"), catalogue_only=True)
    assert len(data.catalogue) == 2


@pytest.mark.parametrize(
    ("items", "field"), [("a,b\n1,2\n", "mapping"), ("item_id,title\n", "row"), ("", "file")]
)
def test_what_is_no_table_of_items_is_said(tmp_path, items, field):
    with pytest.raises(InputError) as caught:
        read_shop(first_day(tmp_path, items), catalogue_only=True)
    assert caught.value.field in {field, "mapping"}


def test_items_read_out_of_events_are_none_without_them(tmp_path):
    mapping = tea_mapping(change=[('file = "items.csv"\n', "")])
    with pytest.raises(InputError) as caught:
        find_catalogue_mapping(tmp_path, mapping, None)
    assert caught.value.field == "mapping"


def test_a_look_shows_no_events(tmp_path):
    tables = str(first_day(tmp_path))
    look = command(
        ["client", "import", "--source", tables, "--check", "--catalogue-only"], tmp_path
    )
    assert look.exception is None, look.output
    assert "[items] file = items.csv" in look.output
    assert "[events]" not in look.output
    assert look_at_shop(tmp_path, catalogue_only=True) is not None


def test_without_the_option_the_error_names_it(tmp_path):
    with pytest.raises(InputError, match="--catalogue-only"):
        read_shop(first_day(tmp_path))


def test_the_first_purchases_of_the_service_join_at_the_next_import(tmp_path):
    tables, shop = first_day(tmp_path / "tables"), tmp_path / "shop"
    (shop / "node").mkdir(parents=True)
    store = Store(f"sqlite:///{shop / 'node' / 'events.db'}")
    sold = [("ann", "t1", 1), ("ann", "c1", 2), ("bob", "t2", 3), ("bob", "t1", 9)]
    store.add_events(
        [
            NewEvent(f"e-{day}", "purchase", day * DAY, item, shopper, None, f"o-{day}")
            for shopper, item, day in sold
        ]
    )
    store.close()
    data, _ = import_shop(tables, None, shop, catalogue_only=True)
    assert len(data.interactions) == 4
    assert data.split_rule.kind == "time"
    assert NO_EVENTS.time is not None
