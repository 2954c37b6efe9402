"""Broken input: refused with a message that says where; the last good data set stays."""

import gzip
from datetime import date

import polars as pl
import pytest

from client.importing.shop_import import import_shop, read_shop
from client.shop.dataset import load_merchant_data
from common.errors import InputError
from tests.support.tea import EVENTS, ITEMS, assert_same, tea_database, tea_mapping, tea_shop

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
    "a quote inside a field": (
        {"items.csv": ITEMS.replace("Black tea", 'Tea tin 10" wide').encode()}, (),
        'items.csv: row 2 is wrongly quoted.*quote = ""',
    ),
    "an escaped quote that nobody announced": (
        {"items.csv": ITEMS.replace("Black tea", r'"Black \"tea"').encode()}, (),
        "items.csv: row 2 is wrongly quoted.*set escape",
    ),
    "a backslash that may be one or not": (
        {"items.csv": ITEMS.replace("Green tea", r'"Green\"",""\"').encode()
         .replace(b"Leaf\nt2", b"\nt2").replace(b"sku,name,brand", b"sku,name,brand,x")}, (),
        "items.csv: row",
    ),
    "a quoted header of one column too many": (
        {"items.csv": ITEMS.replace("sku,name,brand", '"sku";"name"').encode()}, (),
        "items.csv: the header line is wrongly quoted",
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
    good, _ = import_shop(tea_shop(shop), tea_mapping(), out)
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
        import_shop(shop, tea_mapping(change=change), out)
    assert str(tmp_path) not in str(caught.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert_same(load_merchant_data(out), good)


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
    tea_database(tea_shop(tmp_path))
    mapping = tea_mapping(change=[('file = "events.csv"', 'table = "sales"')])
    if address is not None and "{folder}" in address:
        address = "sqlite:///" + address.format(folder=tmp_path)
    with pytest.raises(InputError, match=expected):
        read_shop(tmp_path, mapping, database_url=address)


def test_a_database_without_rows_or_columns_or_sense_is_refused(tmp_path):
    address = tea_database(tea_shop(tmp_path))
    for query, expected in (
        ("SELECT * FROM events WHERE qty > 99", "query: has no rows"),
        ("SELECT customer FROM events", "query: no column 'sku'"),
        ("SELEC", "sqlite database cannot be read: near"),
    ):
        mapping = tea_mapping(change=[('file = "events.csv"', f'query = "{query}"')])
        with pytest.raises(InputError, match=expected):
            read_shop(tmp_path, mapping, database_url=address)


def test_a_password_in_an_address_is_never_repeated(tmp_path):
    mapping = tea_mapping(change=[('file = "events.csv"', 'table = "events"')])
    for address in ("klingon://me:tribble7@host/shop", "me:tribble7@host"):
        with pytest.raises(InputError) as caught:
            read_shop(tea_shop(tmp_path), mapping, database_url=address)
        assert "tribble7" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "mapping", "expected"),
    [
        ("nowhere", tea_mapping(), "nowhere: no such folder"),
        (
            "shop/items.csv",
            tea_mapping(),
            "items.csv: the mapping tea reads items and events from two",
        ),
        (None, tea_mapping(), "comes from files; give the folder"),
        (None, None, "A database needs a mapping"),
        ("shop", tea_mapping(change=[('"events.csv"', '"/events.csv"')]), "relative to the shop's"),
        ("shop", "klingon", "klingon: no such mapping"),
    ],
)
def test_a_wrong_source_is_refused(tmp_path, source, mapping, expected):
    (tmp_path / "shop").mkdir()
    tea_shop(tmp_path / "shop")
    with pytest.raises(InputError, match=expected):
        read_shop(tmp_path / source if source else None, mapping)


def test_a_share_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="from 0 to 1"):
        read_shop(tea_shop(tmp_path), tea_mapping(), max_dropped_share=35)


def test_a_shop_is_not_imported_into_its_own_folder(tmp_path):
    with pytest.raises(InputError, match="own folder"):
        import_shop(tea_shop(tmp_path), tea_mapping(), tmp_path)
