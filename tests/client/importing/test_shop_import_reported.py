"""Files as people reported them: each kind with its right result."""

import errno

import numpy as np
import pytest

from client.importing.shop_import import import_shop, read_shop
from client.shop import dataset
from client.shop.dataset import load_merchant_data
from common.errors import InputError
from tests.support.tea import tea_mapping, tea_shop

ITEMS = "sku,name\nA1,Red lamp\nA2,Blue mug\nA3,Green towel\n"
HEAD = "customer_id,sku,created_at\n"


def _shop(folder, orders, items=ITEMS, **files):
    for name, content in {"orders.csv": orders, "items.csv": items, **files}.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(raw)
    return folder


def _bought(data):
    rows = data.interactions
    return sorted(
        (rows.shopper_ids[shopper], data.catalogue.items[item].item_id)
        for shopper, item in zip(rows.shopper, rows.item, strict=True)
    )


READ = {
    "a quoted header": (
        '"customer_id","sku","created_at"\n"c1","A1","2026-01-01"\n"c2","A2","2026-03-01"\n',
        [("c1", "A1"), ("c2", "A2")],
    ),
    "a line break in the header": (
        (
            '"customer_id","sku","created_at","internal\nnote"\nc1,A1,2026-01-01 10:00,x\n'
            "c2,A2,2026-03-01 10:00,z\n"
        ),
        [("c1", "A1"), ("c2", "A2")],
    ),
    "returns and one newline": (
        HEAD.replace("\n", "\r") + "c1,A1,2026-01-01\rc2,A2,2026-03-01\n",
        [("c1", "A1"), ("c2", "A2")],
    ),
    "ids of which some are floats": (
        HEAD + "1.0,A1,2026-01-01\n2,A2,2026-02-01\n1,A2,2026-03-01\n2.0,A3,2026-04-01\n",
        [("1", "A1"), ("1", "A2"), ("2", "A2"), ("2", "A3")],
    ),
    "an address in two cases": (
        HEAD + "ann@example.com,A1,2026-01-01\nAnn@example.com,A2,2026-02-01\n",
        [("ann@example.com", "A1"), ("ann@example.com", "A2")],
    ),
    "words for nothing": (
        HEAD + "c1,A1,2026-01-01\nNULL,A2,2026-02-01\nN/A,A2,2026-03-01\nnan,A3,2026-03-01\n",
        [("c1", "A1")],
    ),
    "leading zeros": (
        HEAD + "007,A1,2026-01-01\n7,A1,2026-01-02\n",
        [("007", "A1"), ("7", "A1")],
    ),
    "a very long field that nobody reads": (
        HEAD.replace("\n", ",note\n") + f'c1,A1,2026-01-01,"{"x" * 200_000}"\n',
        [("c1", "A1")],
    ),
    "two hundred columns, some without a name": (
        HEAD.replace("\n", "," * 197 + "\n") + "c1,A1,2026-01-01" + "," * 197 + "\n",
        [("c1", "A1")],
    ),
}


@pytest.mark.parametrize(("orders", "bought"), READ.values(), ids=READ.keys())
def test_what_was_reported_goes_in_right(tmp_path, orders, bought):
    data, _ = read_shop(_shop(tmp_path, orders), max_dropped_share=1.0)
    assert _bought(data) == bought


REFUSED = {
    "an escaped quote": (
        ('customer_id,note,sku,created_at\nc1,ok,A1,2026-01-01\nc2,"a \\"b",A2,2026-03-01\n'
        'c3,ok,A3,2026-03-02\nc4,"d \\"e",A1,2026-03-03\nc5,ok,A3,2026-03-05\n'),
        ITEMS, "orders.csv: row 2 is wrongly quoted.*set escape",
    ),
    "ids in scientific notation": (
        HEAD + "c1,4.0069E+12,2026-01-01\n",
        "sku,name\n4.0069E+12,Red lamp\n4.0069E+12,Blue mug\n",
        "2 values of item_id .* a spreadsheet has cut their digits",
    ),
    "cp1252": (
        HEAD + "c1,A1,2026-01-01\n", "sku,name\nA1,Café “Crème” – 5€\n".encode("cp1252"),
        "items.csv: line 2 is not valid utf-8.*as \"cp1252\" it reads 'Café'",
    ),
    "a bare quote": (
        HEAD + "c1,A1,2026-01-01\n", 'sku,name\nA1,Towel 10" wide\nA2,Frame 12" high\n',
        'items.csv: row 1 is wrongly quoted.*quote = ""',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("orders", "items", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_was_reported_is_refused_by_row_with_a_remedy(tmp_path, orders, items, expected):
    with pytest.raises(InputError, match=f"(?s){expected}"):
        read_shop(_shop(tmp_path, orders, items))


def test_iso_8601_in_any_form_is_one_moment(tmp_path):
    forms = ["2026-03-01T10:00", "2026-03-01T10:00Z", "2026-03-01T12:00+02:00", "20260301T100000Z",
             "2026-03-01 10:00:00 +0000", "2026-03-01T05:00-05", "2026/03/01 10:00",
             "2026-03-01T10:00:00,000"]  # fmt: skip
    orders = HEAD + "".join(f"c{n},A1,{form}\n" for n, form in enumerate(forms))
    data, report = read_shop(_shop(tmp_path, orders.replace("00,000", "00.000")))
    assert report.tables[1].rows_kept == len(forms)
    assert np.unique(data.interactions.time).tolist() == [1_772_359_200_000_000]


def test_excels_serial_days_are_read_when_the_mapping_says_so(tmp_path):
    orders = HEAD + "c1,A1,46082.5\nc1,A2,46083\n"
    mapping = (
        '[items]\nfile = "items.csv"\nitem_id = "sku"\ntitle = "name"\n[events]\n'
        'file = "orders.csv"\nshopper_id = "customer_id"\nitem_id = "sku"\n'
        'time = "created_at"\ntime_unit = "excel_days"\n'
    )
    _shop(tmp_path, orders, mapping__toml=mapping)
    data, _ = read_shop(tmp_path)
    days = data.interactions.time.astype("M8[us]").astype("M8[h]").astype(str)
    assert days.tolist() == ["2026-03-01T12", "2026-03-02T00"]


NESTED = (
    '{"time":"1767434400000000","who":"111.222","o":{"id":"T1"},"items":[{"id":"MUG","name":"Blue '
    'Mug","q":1},{"id":"TT","name":"Towel","q":2}]}\n'
    '{"time":"1770112800000000","who":"333.444","o":{"id":"T2"},"items":[{"id":"MUG","name":"Blue '
    'Mug","q":1}]}\n'
)
NESTED_MAPPING = (
    '[items]\nitem_id = "items"\ntitle = "items"\n[events]\nfile = "e.jsonl"\n'
    'shopper_id = "who"\nitem_id = "items"\ntime = "time"\ntime_unit = "us"\n'
)


def test_nested_records_are_refused_by_name_and_unnested_by_a_key(tmp_path):
    (tmp_path / "e.jsonl").write_text(NESTED)
    (tmp_path / "mapping.toml").write_text(NESTED_MAPPING)
    with pytest.raises(InputError, match=r"row 1, 'items' holds a list of records.*unnest"):
        read_shop(tmp_path)
    text = NESTED_MAPPING.replace('item_id = "items"', 'item_id = "items.id"')
    text = text.replace('title = "items"', 'title = "items.name"')
    text += 'unnest = "items"\norder_id = "o.id"\nquantity = "items.q"\n'
    (tmp_path / "mapping.toml").write_text(text)
    data, _ = read_shop(tmp_path)
    assert _bought(data) == [("111.222", "MUG"), ("111.222", "TT"), ("333.444", "MUG")]
    assert [item.title for item in data.catalogue.items] == ["Blue Mug", "Towel"]


def test_a_mapped_shopify_export_cancels_whole_orders_and_titles_variants(tmp_path):
    from tests.support.platform_samples import KEPT, TITLES, shopify

    shopify(tmp_path)
    mapping = (
        '[items]\nfile = "products_export_1.csv"\nitem_id = "Variant SKU"\ntitle = "Title"\n'
        'text = ["Title", "Body (HTML)", "Tags"]\n[events]\nfile = "orders_export_1.csv"\n'
        'shopper_id = "Email"\nitem_id = "Lineitem sku"\ntime = "Created at"\norder_id = "Name"\n'
        '[events.cancelled]\ncolumn = "Financial Status"\npattern = "refunded|voided"\n'
    )
    (tmp_path / "mapping.toml").write_text(mapping)
    data, report = read_shop(tmp_path)
    assert _bought(data) == sorted((shopper, sku) for shopper, sku, _ in KEPT)
    titles = {item.item_id: item.title for item in data.catalogue.items}
    assert TITLES.items() <= titles.items()
    assert not report.tables[0].dropped["missing_text"]


def test_cp1252_read_as_latin_1_is_doubted(tmp_path):
    items = "sku,name\nA1,Café “Crème” – 5€\n".encode("cp1252")
    orders = HEAD + "c1,A1,2026-01-01\n"
    _, report = read_shop(_shop(tmp_path, orders, items), encoding="latin-1")
    assert 'Set encoding = "cp1252"' in str(report)
    data, report = read_shop(tmp_path, encoding="cp1252")
    assert data.catalogue.items[0].title == "Café “Crème” – 5€"
    assert "C1" not in str(report)


def test_examples_of_doubtful_ids_are_shown_and_not_written(tmp_path):
    orders = HEAD + "AB-1,A1,2026-01-01\nab1,A1,2026-01-02\n"
    (tmp_path / "shop").mkdir()
    _, report = import_shop(_shop(tmp_path / "shop", orders), None, tmp_path / "out")
    assert "'AB-1' and 'ab1'" in str(report).replace("\n", " ")
    written = (tmp_path / "out" / "quality.json").read_text()
    assert "2 shopper ids differ" in written
    assert "AB-1" not in written


def test_an_unknown_encoding_is_refused_by_name(tmp_path):
    for name in ("nonsense", "base64"):
        with pytest.raises(InputError, match=name) as caught:
            read_shop(tea_shop(tmp_path), tea_mapping(), encoding=name)
        assert caught.value.field == "encoding"


@pytest.mark.parametrize("step", range(4))
def test_a_full_disk_is_one_line_and_leaves_no_orphan(tmp_path, monkeypatch, step):
    shop, out = tmp_path / "shop", tmp_path / "out"
    shop.mkdir()
    good, _ = import_shop(tea_shop(shop), tea_mapping(), out)
    before = sorted(path.name for path in out.iterdir())
    tea_shop(shop, items="sku,name,brand\nt1,Oolong,Leaf\nt2,Black tea,L\nc1,Cup,Clay\n",
             events=(shop / "events.csv").read_text().replace("2024", "2023"))  # fmt: skip
    write, steps = dataset.write_atomic, iter(range(9))

    def full(path, content, **options):
        if next(steps) == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content, **options)

    monkeypatch.setattr(dataset, "write_atomic", full)
    with pytest.raises(InputError, match="out: cannot be written: No space left") as caught:
        import_shop(shop, tea_mapping(), out)
    assert caught.value.field == "out"
    assert sorted(path.name for path in out.iterdir()) == before
    assert load_merchant_data(out).catalogue.items == good.catalogue.items
