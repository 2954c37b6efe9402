"""The same shop from every kind of file, database, encoding and time."""

import gzip
import json
from datetime import UTC, date, datetime

import polars as pl
import pytest

from client.importing.mapping import parse_mapping
from client.importing.shop_import import import_shop, read_shop
from client.shop.dataset import load_merchant_data
from tests.support.tea import EVENTS, assert_same, tea_database, tea_mapping, tea_shop


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


def _utf_16_unannounced(folder):
    _utf_16(folder)
    return []


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


WAYS = [
    _gzipped,
    _tsv,
    _windows,
    _utf_16,
    _utf_16_unannounced,
    _parquet,
    _json_lines,
    _no_header,
    _two_parts,
]


@pytest.mark.parametrize("write", WAYS, ids=lambda write: write.__name__.strip("_"))
def test_every_format_gives_the_same_shop(tmp_path, write):
    expected, _ = read_shop(tea_shop(tmp_path), tea_mapping())
    data, _ = read_shop(tmp_path, tea_mapping(change=write(tmp_path)))
    assert_same(data, expected)


@pytest.mark.parametrize(
    "place", ['table = "events"', 'query = "SELECT * FROM events WHERE qty > 0"']
)
def test_a_database_gives_the_same_shop(tmp_path, place):
    expected, _ = read_shop(tea_shop(tmp_path), tea_mapping())
    change = [('file = "items.csv"', 'table = "items"'), ('file = "events.csv"', place)]
    address = tea_database(tmp_path)
    data, _ = read_shop(None, tea_mapping(change=change), database_url=address)
    assert_same(data, expected)
    assert data.name == "tea"
    half = tea_mapping(change=change[1:])  # items from a file, events from the database
    assert_same(read_shop(tmp_path, half, database_url=address)[0], expected)


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
    tea_shop(tmp_path)
    frame = pl.DataFrame({"customer": [1, 2], "sku": ["t1", "t2"], "when": column})
    frame.write_parquet(tmp_path / "e.parquet")
    change = [
        ('"events.csv"', '"e.parquet"'),
        ('order_id = "order"\nquantity = "qty"\nprice = "price"', keys),
    ]
    data, report = read_shop(tmp_path, tea_mapping(change=change))
    assert report.tables[1].dropped["malformed_time"] == 0
    moments = [datetime.fromtimestamp(one / 1e6, UTC) for one in data.interactions.time.tolist()]
    assert {moment.date() for moment in moments} == {date(2024, 1, 5)}
    if isinstance(column[0], str) and "+02:00" in column[0]:
        assert moments[0] == moments[1]


def test_decimal_commas(tmp_path):
    events = EVENTS.replace(",4.5\n", ',"1.004,50"\n')
    mapping = tea_mapping(change=[('price = "price"', 'price = "price"\ndecimal_comma = true')])
    _, report = read_shop(tea_shop(tmp_path, events=events), mapping)
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
    assert_same(load_merchant_data(tmp_path / "out"), data)


def test_ids_that_pandas_made_floats_are_whole_again(tmp_path):
    tea_shop(tmp_path)
    frame = pl.read_csv(EVENTS.encode()).with_columns(
        customer=pl.Series([17850.0, 17850.0, float("nan"), 7.0])
    )
    frame.write_parquet(tmp_path / "e.parquet")
    data, report = read_shop(tmp_path, tea_mapping(change=[('"events.csv"', '"e.parquet"')]))
    assert data.interactions.shopper_ids == ("17850", "7")
    assert report.tables[1].dropped["missing_ids"] == 1
