import gzip
import json
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from client.dataset import load_merchant_data
from client.importing import import_shop, read_shop
from client.mapping import Mapping, parse_mapping
from client.splitting import SplitRule
from common.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"

ITEMS = "sku,name,brand\nt1,Green tea,Leaf\nt2,Black tea,Leaf\nc1,Tea cup,Clay\n"
EVENTS = (
    "customer,sku,when,order,qty,price\n"
    "ann,t1,2024-01-05 10:00:00,o1,1,4.5\n"
    "ann,c1,2024-01-05 10:00:00,o1,2,9\n"
    "ann,t2,2024-02-01 09:30:00,o2,1,4\n"
    "bob,c1,2024-03-01 12:00:00,o3,1,9\n"
)
MAPPING = """
[items]
file = "items.csv"
item_id = "sku"
title = "name"
merchant = "brand"
[events]
file = "events.csv"
shopper_id = "customer"
item_id = "sku"
time = "when"
order_id = "order"
quantity = "qty"
price = "price"
"""


def _shop(folder, *, items=ITEMS, events=EVENTS):
    (folder / "items.csv").write_bytes(items if isinstance(items, bytes) else items.encode())
    (folder / "events.csv").write_bytes(events if isinstance(events, bytes) else events.encode())
    return folder


def _mapping(*, change=(), add="") -> Mapping:
    text = MAPPING
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    return parse_mapping(text + add, "tea.toml")


def _same(one, other):
    assert one.catalogue.items == other.catalogue.items
    assert one.interactions.shopper_ids == other.interactions.shopper_ids
    for name in ("shopper", "item", "time", "basket", "value"):
        assert np.array_equal(getattr(one.interactions, name), getattr(other.interactions, name))


def test_a_small_shop_comes_out_as_it_went_in(tmp_path):
    data, report = read_shop(_shop(tmp_path), _mapping(), name="Tea house")
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


def test_without_split_dates_the_last_thirds_of_thirty_percent_are_held_out(tmp_path):
    data, _ = read_shop(_shop(tmp_path), _mapping())
    first, last = int(data.interactions.time.min()), int(data.interactions.time.max())
    tenth = round((last - first) * 0.15)
    assert data.split_rule == SplitRule("time", last - 2 * tenth, last - tenth)


def test_positions_leave_the_last_items_out(tmp_path):
    events = "customer,sku,n\nann,t1,0\nann,t2,1\nann,t1,2\n"
    change = [
        ('time = "when"', 'position = "n"'),
        ('order_id = "order"\nquantity = "qty"\nprice = "price"\n', ""),
    ]
    data, _ = read_shop(_shop(tmp_path, events=events), _mapping(change=change))
    assert data.split_rule.kind == "leave_last_out"
    assert not data.interactions.timed
    assert data.interactions.time.tolist() == [0, 1, 2]
    assert data.interactions.basket.tolist() == [0, 1, 2]


def test_events_name_merchants_and_values(tmp_path):
    events = "customer,sku,when,shop,stars\nann,t1,2024-01-05,B,4.5\nbob,t2,2024-01-06,,2\n"
    change = [
        ('order_id = "order"\nquantity = "qty"\nprice = "price"', 'merchant="shop"\nvalue="stars"')
    ]
    data, _ = read_shop(_shop(tmp_path, events=events), _mapping(change=change))
    assert data.merchant_names == ("", "B")
    assert data.event_merchant.tolist() == [1, 0]
    assert data.interactions.value.tolist() == [4.5, 2.0]


def test_unsold_items_stay_as_cold_items_unless_the_mapping_says_otherwise(tmp_path):
    items = ITEMS + "n1,New kettle,Clay\n"
    data, report = read_shop(_shop(tmp_path, items=items), _mapping())
    assert (len(data.catalogue), report.unsold_items) == (4, 1)
    mapping = _mapping(add="[clean]\nkeep_unsold_items = false")
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
    mapping = _mapping(
        add='[events.cancelled]\ncolumn = "order"\npattern = "^C"\n'
        '[clean]\nproduct_code = "^[a-z]"\n'
    )
    data, report = read_shop(
        _shop(tmp_path, items=items, events=events), mapping, max_dropped_share=0.8
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
    data, _ = read_shop(_shop(tmp_path, events=events), _mapping(change=change))
    assert 2 <= data.interactions.value.max() < 80_995


# ----------------------------------------------------------------------------------- formats


def _gzipped(folder):
    for name in ("items.csv", "events.csv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    return [('"items.csv"', '"items.csv.gz"'), ('"events.csv"', '"events.csv.gz"')]


def _tsv(folder):
    for name in ("items", "events"):
        (folder / f"{name}.tsv").write_text((folder / f"{name}.csv").read_text().replace(",", "\t"))
    return [('"items.csv"', '"items.tsv"'), ('"events.csv"', '"events.tsv"')]


def _windows(folder):
    for name in ("items.csv", "events.csv"):
        text = (folder / name).read_text().replace("\n", "\r\n")
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    return []


def _utf_16(folder):
    for name in ("items.csv", "events.csv"):
        (folder / name).write_bytes((folder / name).read_text().encode("utf-16"))
    return [("[items]", 'encoding = "utf-16"\n[items]')]


def _parquet(folder):
    for name in ("items", "events"):
        frame = pl.read_csv(folder / f"{name}.csv", try_parse_dates=True)
        frame.write_parquet(folder / f"{name}.parquet")
    return [('"items.csv"', '"items.parquet"'), ('"events.csv"', '"events.parquet"')]


def _json_lines(folder):
    for name in ("items", "events"):
        frame = pl.read_csv(folder / f"{name}.csv")
        lines = frame.write_ndjson().encode()
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines))
    return [('"items.csv"', '"items.jsonl.gz"'), ('"events.csv"', '"events.jsonl.gz"')]


def _no_header(folder):
    text = (folder / "events.csv").read_text()
    header, _, rows = text.partition("\n")
    (folder / "events.dat").write_text(rows.replace(",", "||"))
    names = json.dumps(header.split(","))
    return [('"events.csv"', f'"events.dat"\nseparator = "||"\nheader = {names}')]


def _two_parts(folder):
    header, *rows = (folder / "events.csv").read_text().splitlines()
    (folder / "part-1.csv").write_text("\n".join([header, *rows[:2]]))
    (folder / "part-2.csv").write_text("\n".join([header, *rows[2:]]))
    (folder / "part-9.csv").write_text("no such columns")
    return [('"events.csv"', '["part-*.csv", "!part-9*"]')]


WAYS = [_gzipped, _tsv, _windows, _utf_16, _parquet, _json_lines, _no_header, _two_parts]


@pytest.mark.parametrize("write", WAYS, ids=lambda write: write.__name__.strip("_"))
def test_every_format_gives_the_same_shop(tmp_path, write):
    expected, _ = read_shop(_shop(tmp_path), _mapping())
    data, _ = read_shop(tmp_path, _mapping(change=write(tmp_path)))
    _same(data, expected)


def _database(folder):
    path = folder / "shop.db"
    with sqlite3.connect(path) as connection:
        for name in ("items", "events"):
            frame = pl.read_csv(folder / f"{name}.csv")
            columns = ", ".join(f'"{column}"' for column in frame.columns)
            marks = ", ".join("?" * frame.width)
            connection.execute(f'CREATE TABLE "{name}" ({columns})')
            connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', frame.rows())  # noqa: S608 - our own names
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    "place", ['table = "events"', 'query = "SELECT * FROM events WHERE qty > 0"']
)
def test_a_database_gives_the_same_shop(tmp_path, place):
    expected, _ = read_shop(_shop(tmp_path), _mapping())
    change = [('file = "items.csv"', 'table = "items"'), ('file = "events.csv"', place)]
    address = _database(tmp_path)
    data, _ = read_shop(None, _mapping(change=change), database_url=address)
    _same(data, expected)
    assert data.name == "tea"
    half = _mapping(change=change[1:])  # items from a file, events from the database
    _same(read_shop(tmp_path, half, database_url=address)[0], expected)


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        ([1_704_448_800, 1_704_448_801], 'time_unit = "s"'),
        (["1704448800000", "1704448801000"], 'time_unit = "ms"'),
        (["05.01.2024 10:00", "05.01.2024 10:01"], 'time_format = "%d.%m.%Y %H:%M"'),
        (["2024-01-05", "05/01/24"], 'time_format = ["%Y-%m-%d", "%d/%m/%y"]'),
        (["2024-01-05T12:00:00+02:00", "2024-01-05T10:00:00Z"], ""),
        (["2024-01-05T10:00:00.25", "2024-01-05"], ""),
        ([date(2024, 1, 5), date(2024, 1, 5)], ""),
        ([datetime(2024, 1, 5, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC)], ""),
    ],
)
def test_times_of_many_kinds_are_read(tmp_path, column, keys):
    _shop(tmp_path)
    frame = pl.DataFrame({"customer": [1, 2], "sku": ["t1", "t2"], "when": column})
    frame.write_parquet(tmp_path / "e.parquet")
    change = [
        ('"events.csv"', '"e.parquet"'),
        ('order_id = "order"\nquantity = "qty"\nprice = "price"', keys),
    ]
    data, report = read_shop(tmp_path, _mapping(change=change))
    assert report.tables[1].dropped["malformed_time"] == 0
    moments = [datetime.fromtimestamp(one / 1e6, UTC) for one in data.interactions.time.tolist()]
    assert {moment.date() for moment in moments} == {date(2024, 1, 5)}
    if isinstance(column[0], str) and "+02:00" in column[0]:
        assert moments[0] == moments[1]


def test_decimal_commas(tmp_path):
    events = EVENTS.replace(",4.5\n", ',"1.004,50"\n')
    mapping = _mapping(change=[('price = "price"', 'price = "price"\ndecimal_comma = true')])
    _, report = read_shop(_shop(tmp_path, events=events), mapping)
    assert report.interactions == 4


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("said", ["mapping", "argument"])
def test_a_chinese_shop(tmp_path, encoding, said):
    items = (
        "商品编号,商品名称,类别\nL001,西湖龙井\u3000绿茶 &amp; 茶具,茶叶\n"
        "L002,普洱茶饼，陈年,茶叶\n"
    )
    events = (
        "用户编号,商品编号,下单时间,订单号,数量\n"
        "张三,L001,2024年01月05日,甲1,1\n张三,L002,2024年02月05日,甲2,2\n李四,L002,2024年03月05日,乙1,1\n"
    )
    text = """
[items]
file = "商品.csv"
item_id = "商品编号"
title = "商品名称"
text = ["商品名称", "类别"]
category = "类别"
[events]
file = "订单.csv"
shopper_id = "用户编号"
item_id = "商品编号"
time = "下单时间"
time_format = "%Y年%m月%d日"
order_id = "订单号"
quantity = "数量"
"""
    (tmp_path / "商品.csv").write_text(items, encoding=encoding)
    (tmp_path / "订单.csv").write_text(events, encoding=encoding)
    stated = f'encoding = "{encoding}"\n' if said == "mapping" else ""
    argument = encoding if said == "argument" else None
    data, report = import_shop(
        tmp_path, parse_mapping(stated + text, "茶.toml"), tmp_path / "out", encoding=argument
    )
    assert data.catalogue.items[0].title == "西湖龙井 绿茶 & 茶具"
    assert data.catalogue.items[1].text == "普洱茶饼，陈年 茶叶"
    assert data.interactions.shopper_ids == ("张三", "李四")
    assert report.tables[0].changed["html_entities"] == 1
    _same(load_merchant_data(tmp_path / "out"), data)


# ------------------------------------------------------------------------- labels and reviews


def test_labels_and_public_reviews_are_joined(tmp_path):
    _shop(tmp_path)
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
    data, report = read_shop(tmp_path, _mapping(add=add))
    assert [item.category for item in data.catalogue.items] == ["", "tea", "tea"]
    assert [item.text for item in data.catalogue.items][:2] == [
        "Tea cup",
        "Green tea Fresh & mild Nice",
    ]
    assert [item.title for item in data.catalogue.items][1] == "Green tea"
    assert [table.table for table in report.tables] == ["items", "events", "labels", "reviews"]


def test_values_come_from_labels_of_shopper_and_item(tmp_path):
    _shop(tmp_path)
    (tmp_path / "labels.csv").write_text("sku,who,liked\nc1,ann,0\n")
    add = '[labels]\nfile = "labels.csv"\nitem_id = "sku"\nshopper_id = "who"\nvalue = "liked"\n'
    data, report = read_shop(tmp_path, _mapping(add=add))
    assert data.interactions.value.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert report.tables[1].changed["labelled_values"] == 1


# -------------------------------------------------------------------------------- broken files

LONG = "sku,name,brand\n" + "".join(f"s{i},Tea number {i},Leaf\n" for i in range(4000))
EARLY_SPLIT = '[split]\nkind = "time"\nvalid_from = 2020-01-01\ntest_from = 2020-02-01\n'
BROKEN = {
    # files that are not there, or not tables
    "missing file": (
        lambda f: (f / "events.csv").unlink(), (), "no file matches 'events.csv'.*items.csv"
    ),
    "a folder instead of a file": (
        lambda f: ((f / "events.csv").unlink(), (f / "events.csv").mkdir()),
        (), "events.csv: is a folder",
    ),
    "empty file": ({"events.csv": b""}, (), "events.csv: is empty"),
    "only white space": ({"events.csv": b" \n\n"}, (), "events.csv: is empty"),
    "header only": ({"items.csv": b"sku,name,brand\n"}, (), "items.csv: has no data rows"),
    "unknown ending": (
        {"events.log": EVENTS.encode()}, [('"events.csv"', '"events.log"')],
        "events.log: the ending '.log' says no format",
    ),
    "a spreadsheet": ({"events.csv": b"PK\x03\x04"}, (), "events.csv: looks like a spreadsheet"),
    "UTF-16 unannounced": (
        {"events.csv": EVENTS.encode("utf-16")}, (), "events.csv: looks like UTF-16"
    ),
    "parquet called csv": ({"events.csv": b"PAR1....PAR1"}, (), 'set format = "parquet"'),
    # gzip
    "truncated gzip": (
        {"items.csv.gz": gzip.compress(LONG.encode())[:-200]}, [('"items.csv"', '"items.csv.gz"')],
        "items.csv.gz: the gzip data is cut short",
    ),
    "damaged gzip": (
        {"items.csv.gz": gzip.compress(LONG.encode())[:40] + bytes(60)},
        [('"items.csv"', '"items.csv.gz"')], "items.csv.gz: the gzip data is cut short or damaged",
    ),
    "not gzip": (
        {"items.csv.gz": ITEMS.encode()}, [('"items.csv"', '"items.csv.gz"')],
        "items.csv.gz: ends with .gz but is not gzip",
    ),
    # encodings
    "broken UTF-8": (
        {"items.csv": ITEMS.encode().replace(b"Black", b"Bl\xff\xfeck")}, (),
        "items.csv: line 3 is not valid utf-8",
    ),
    "GB18030 unannounced": (
        {"items.csv": "sku,name,brand\nt1,绿茶,茶\n".encode("gb18030")}, (),
        "items.csv: line 2 is not valid utf-8.*gb18030",
    ),
    "NUL byte": (
        {"events.csv": EVENTS.replace("bob", "b\x00b").encode()}, (),
        "events.csv: line 5 holds a NUL byte",
    ),
    # columns
    "missing column": (
        {"events.csv": EVENTS.replace("qty", "Qty").encode()}, (),
        "events.csv: no column 'qty'.*'when'.*Did you mean 'Qty'",
    ),
    "wrong delimiter": (
        {"events.csv": EVENTS.replace(",", ";").encode()}, (),
        "events.csv: the header has no ','.*set separator = \";\"",
    ),
    "duplicate column": (
        {"events.csv": EVENTS.replace("price", "qty").encode()}, (),
        "events.csv: two columns are called 'qty'",
    ),
    # rows
    "too many fields": (
        {"events.csv": (EVENTS + "bob,t1,2024-03-05,o4,1,9,9\n").encode()}, (),
        "events.csv: row 5 has 7 fields; 6 are expected",
    ),
    "too few fields": (
        {"events.csv": (EVENTS + "bob,t1,2024-03-05\n").encode()}, (),
        "events.csv: row 5 has 3 fields; 6 are expected",
    ),
    "an open quote": (
        {"items.csv": ITEMS.replace("Black tea", '"Black tea').encode()}, (),
        "items.csv: row 2 is wrongly quoted",
    ),
    "text behind a quote": (
        {"items.csv": ITEMS.replace("Black tea", '"Black" tea').encode()}, (),
        "items.csv: row 2 is wrongly quoted",
    ),
    # values
    "quantity is text": (
        {"events.csv": EVENTS.replace(",o1,2,", ",o1,abc,").encode()}, (),
        "events.csv: row 2, column 'qty': 'abc' is not a number",
    ),
    "infinite price": (
        {"events.csv": EVENTS.replace(",4\n", ",inf\n").encode()}, (),
        "events.csv: row 3, column 'price': 'inf' is not a number",
    ),
    "position is a fraction": (
        {"events.csv": EVENTS.encode()}, [('time = "when"', 'position = "price"')],
        "events.csv: row 1, column 'price': '4.5' is not a whole number",
    ),
    "times of another format": (
        {"events.csv": EVENTS.encode()}, [('"when"', '"when"\ntime_format = "%d/%m/%Y"')],
        "events.csv: row 1, column 'when': '2024-01-05 10:00:00' does not fit time_format %d/%m/%Y",
    ),
    "time format that is none": (
        {"events.csv": EVENTS.encode()}, [('"when"', '"when"\ntime_format = "%Q"')],
        "does not fit time_format %Q",
    ),
    "seconds without a unit": (
        {"events.csv": EVENTS.replace("2024-01-05 10:00:00", "1704448800").encode()},
        [('"when"', '"when"\ntime_unit = "s"')],
        "events.csv: row 3, column 'when': '2024-02-01 09:30:00' is not a number",
    ),
    # JSON Lines
    "malformed JSON line": (
        {"items.jsonl": b'{"sku": "a", "name": "x", "brand": ""}\n\n{"sku": "b",\n'},
        [('"items.csv"', '"items.jsonl"')], "items.jsonl: row 2 is not valid JSON",
    ),
    "JSON that is a list": (
        {"items.json": b'[{"sku": "a", "name": "x", "brand": ""}]'},
        [('"items.csv"', '"items.json"')], "row 1 is not a JSON object; one object a line",
    ),
    "missing JSON key": (
        {"items.jsonl": b'{"sku": "a", "title": "x", "brand": ""}\n'},
        [('"items.csv"', '"items.jsonl"')], "no line has the key 'name'.*'sku', 'title'",
    ),
    "a Python line that is none": (
        {"items.json": b"{'sku': 'a', 'name': 'x', 'brand': ''}\n{'sku': __import__('os')}\n"},
        [('"items.csv"', '"items.json"')], "items.json: row 2 is not a Python dictionary",
    ),
    # Parquet
    "corrupt parquet": (
        {"items.parquet": b"PAR1 and then nothing"}, [('"items.csv"', '"items.parquet"')],
        "items.parquet: not a readable Parquet file",
    ),
    "parquet without a column": (
        {"items.parquet": pl.DataFrame({"sku": ["a"]})}, [('"items.csv"', '"items.parquet"')],
        "items.parquet: no column 'name'",
    ),
    "parquet with records as ids": (
        {"items.parquet": pl.DataFrame({"sku": [{"a": 1}], "name": ["x"], "brand": [""]})},
        [('"items.csv"', '"items.parquet"')], "column 'sku' is of type Struct.*text or whole",
    ),
    "parquet with bytes as titles": (
        {"items.parquet": pl.DataFrame({"sku": ["a"], "name": [b"x"], "brand": [""]})},
        [('"items.csv"', '"items.parquet"')], "column 'name' is of type Binary",
    ),
    "parquet with dates as quantities": (
        {"events.parquet": pl.read_csv(EVENTS.encode()).with_columns(qty=date(2024, 1, 1))},
        [('"events.csv"', '"events.parquet"')], "'qty' is of type Date; numbers are expected",
    ),
    "parquet with plain numbers as times": (
        {"events.parquet": pl.read_csv(EVENTS.encode()).with_columns(when=pl.lit(1_704_448_800))},
        [('"events.csv"', '"events.parquet"')], "column 'when' is of type Int.*set time_unit",
    ),
    "files that differ in type": (
        {"e1.parquet": pl.read_csv(EVENTS.encode()),
         "e2.parquet": pl.read_csv(EVENTS.encode()).with_columns(qty=[1])},
        [('"events.csv"', '"e*.parquet"')], "one column has different types",
    ),
    # what is left after cleaning
    "too dirty": (
        {"events.csv": (EVENTS + ",t1,2024-01-01,o9,1,1\n" * 3).encode()}, (),
        "events: 42.9% of 7 rows were dropped.*missing_ids 3",
    ),
    "events of other items": (
        {"events.csv": EVENTS.replace("t1", "x").replace("t2", "y").replace("c1", "z").encode()},
        (), "events: none of the 4 rows is left.*unknown_items 4",
    ),
    "items without any text": (
        {"items.csv": b"sku,name,brand\nt1,,Leaf\nt2, ,Leaf\n"}, (),
        "items: none of the 2 rows is left.*missing_text 2",
    ),
    "milliseconds called seconds": (
        {"events.csv": EVENTS.replace("when", "w").replace("price", "when")
         .replace(",9\n", ",1704448800000\n").replace(",4\n", ",1704448800000\n")
         .replace(",4.5\n", ",1704448800000\n").encode()},
        [('time = "when"', 'time = "when"\ntime_unit = "s"'), ('\nprice = "price"', "")],
        "none of the 4 rows is left.*impossible_time 4",
    ),
    "nothing to train on": (
        {"events.csv": EVENTS.encode()},
        [("[items]", f"{EARLY_SPLIT}[items]")],
        "leaves nothing to train on: valid_from is 2020-01-01 and the first event is of 2024-01-05",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "change", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_and_the_last_good_data_set_stays(
    tmp_path, files, change, expected
):
    shop, out = tmp_path / "shop", tmp_path / "out"
    shop.mkdir()
    good, _ = import_shop(_shop(shop), _mapping(), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    if callable(files):
        files(shop)
    else:
        for name, content in files.items():
            if isinstance(content, pl.DataFrame):
                content.write_parquet(shop / name)
            else:
                (shop / name).write_bytes(content)
    with pytest.raises(InputError, match=f"(?s){expected}") as caught:
        import_shop(shop, _mapping(change=change), out)
    assert str(tmp_path) not in str(caught.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    _same(load_merchant_data(out), good)


def test_there_are_more_than_thirty_kinds():
    assert len(BROKEN) >= 30


BROKEN_DATABASES = {
    "no address": (None, "comes from a database; give its address"),
    "not an address": ("shop.db", "not of the form dialect://"),
    "unknown dialect": ("klingon://host/shop", "kind that is not installed"),
    "no such file": ("sqlite:////nowhere/shop.db", "shop.db: no such SQLite database file"),
    "no file at all": ("sqlite://", "no such SQLite database file"),
    "not a database": (
        "{folder}/events.csv",
        "sqlite database cannot be read: file is not a database",
    ),
    "no such table": ("{folder}/shop.db", "has no table 'sales'; it has: events, items"),
}


@pytest.mark.parametrize(
    ("address", "expected"), BROKEN_DATABASES.values(), ids=BROKEN_DATABASES.keys()
)
def test_a_broken_database_is_refused(tmp_path, address, expected):
    _database(_shop(tmp_path))
    mapping = _mapping(change=[('file = "events.csv"', 'table = "sales"')])
    if address is not None and "{folder}" in address:
        address = "sqlite:///" + address.format(folder=tmp_path)
    with pytest.raises(InputError, match=expected):
        read_shop(tmp_path, mapping, database_url=address)


def test_a_database_without_rows_or_columns_or_sense_is_refused(tmp_path):
    address = _database(_shop(tmp_path))
    for query, expected in (
        ("SELECT * FROM events WHERE qty > 99", "query: has no rows"),
        ("SELECT customer FROM events", "query: no column 'sku'"),
        ("SELEC", "sqlite database cannot be read: near"),
    ):
        mapping = _mapping(change=[('file = "events.csv"', f'query = "{query}"')])
        with pytest.raises(InputError, match=expected):
            read_shop(tmp_path, mapping, database_url=address)


def test_a_password_in_an_address_is_never_repeated(tmp_path):
    mapping = _mapping(change=[('file = "events.csv"', 'table = "events"')])
    for address in ("klingon://me:tribble7@host/shop", "me:tribble7@host"):
        with pytest.raises(InputError) as caught:
            read_shop(_shop(tmp_path), mapping, database_url=address)
        assert "tribble7" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "mapping", "expected"),
    [
        ("nowhere", _mapping(), "nowhere: no such folder"),
        (
            "shop/items.csv",
            _mapping(),
            "items.csv: the mapping tea reads items and events from two",
        ),
        (None, _mapping(), "comes from files; give the folder"),
        (None, None, "A database needs a mapping"),
        ("shop", _mapping(change=[('"events.csv"', '"/events.csv"')]), "relative to the shop's"),
        ("shop", "klingon", "klingon: no such mapping"),
    ],
)
def test_a_wrong_source_is_refused(tmp_path, source, mapping, expected):
    (tmp_path / "shop").mkdir()
    _shop(tmp_path / "shop")
    with pytest.raises(InputError, match=expected):
        read_shop(tmp_path / source if source else None, mapping)


def test_a_share_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="from 0 to 1"):
        read_shop(_shop(tmp_path), _mapping(), max_dropped_share=35)


def test_a_shop_is_not_imported_into_its_own_folder(tmp_path):
    with pytest.raises(InputError, match="own folder"):
        import_shop(_shop(tmp_path), _mapping(), tmp_path)


def test_ids_that_pandas_made_floats_are_whole_again(tmp_path):
    _shop(tmp_path)
    frame = pl.read_csv(EVENTS.encode()).with_columns(
        customer=pl.Series([17850.0, 17850.0, float("nan"), 7.0])
    )
    frame.write_parquet(tmp_path / "e.parquet")
    data, report = read_shop(tmp_path, _mapping(change=[('"events.csv"', '"e.parquet"')]))
    assert data.interactions.shopper_ids == ("17850", "7")
    assert report.tables[1].dropped["missing_ids"] == 1


# --------------------------------------------------------------------------------- the report


def test_the_report_counts_and_never_quotes(tmp_path):
    shop, out = tmp_path / "shop", tmp_path / "out"
    shop.mkdir()
    _, report = import_shop(_shop(shop, events=EVENTS + ",t1,2024-01-05,o9,1,4\n"), _mapping(), out)
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


# ----------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not on this machine")
@pytest.mark.parametrize(
    ("folder", "shoppers", "items", "unsold", "pairs"),
    [
        ("online_retail", 4_334, 3_659, 0, 266_221),
        ("amazon_games_5core", 49_156, 17_332, 0, 342_329),
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
    _same(data, expected)
    assert report.tables[1].dropped["cancelled_orders"] == tenth.unique().height
