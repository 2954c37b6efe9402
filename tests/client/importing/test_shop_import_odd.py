"""Odd files of every kind: read as Python's own reader has them, or refused in one clear sentence.

Each is read whole and in parts of a few bytes, and both must say the same. What is refused names no
shopper.
"""

import codecs
import csv
import gzip
import io
import json
from datetime import UTC, datetime

import polars as pl
import pytest

from client.importing.mapping import load_mapping, parse_mapping
from client.importing.parts import csv_parts
from client.importing.shop_import import import_shop, look_at_shop, read_shop
from common.errors import FedtailError, InputError, SettingsError
from tests.support.tea import EVENTS, tea_mapping, tea_shop

ITEMS = "sku,name\nA1,Red lamp\nA2,Blue mug\nA3,Green towel\n"
HEAD = "customer_id,sku,created_at\n"
ROWS = "zq1,A1,2026-01-01\nzq1,A2,2026-02-01\nzq2,A2,2026-03-01\nzq2,A3,2026-04-01\n"
MARK = codecs.BOM_UTF8.decode()
NOTES = "customer_id,sku,created_at,note\n"
LONG = NOTES + 'zq1,A1,2026-01-01,"' + "a,b\n" * 90 + '"\nzq2,A2,2026-02-01,x\n'


@pytest.fixture(params=["whole", "in parts"])
def each_way(request, monkeypatch):
    if request.param == "in parts":
        monkeypatch.setattr(csv_parts, "PART", 48)


def shop(folder, orders, name="orders.csv", items=ITEMS):
    (folder / "items.csv").write_text(items)
    (folder / name).write_bytes(orders if isinstance(orders, bytes) else orders.encode())
    return folder


def bought(folder, **options):
    data, _ = read_shop(folder, max_dropped_share=1.0, **options)
    rows = data.interactions
    ids = [item.item_id for item in data.catalogue.items]
    return sorted(
        (rows.shopper_ids[who], ids[what], int(when))
        for who, what, when in zip(rows.shopper, rows.item, rows.time, strict=True)
    )


def by_python(orders, separator=","):
    """What the csv module reads, each purchase once."""
    rows = [row for row in csv.reader(io.StringIO(orders, newline=""), delimiter=separator) if row]
    columns = [rows[0].index(name) for name in ("customer_id", "sku", "created_at")]
    found = [tuple(row[at] for at in columns) for row in rows[1:]]
    return sorted({(who, what, moment(when)) for who, what, when in found})


def moment(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


READ = {
    "empty lines that fill a part": HEAD + ROWS[:18] + "\n" * 200 + ROWS[18:],
    "the same with returns": HEAD + ROWS[:18] + "\r\n" * 200 + ROWS[18:],
    "empty lines before the header": "\n" * 100 + HEAD + ROWS,
    "returns of three kinds": HEAD.replace("\n", "\r\n") + ROWS.replace("\n", "\r", 2),
    "a record longer than a part": LONG,
    "returns inside quotes": NOTES + 'zq1,A1,2026-01-01,"a\r\nb\rc"\r\nzq2,A2,2026-02-01,x\r\n',
    "doubled quotes where parts end": HEAD
    + '"zq""2","A3","2026-03-01"\n"zq1","A1","2026-01-02"\n' * 9,
    "no line end behind the last": HEAD + ROWS[:-1],
    "two columns of one name, neither used": NOTES.replace("note", "x,x")
    + ROWS.replace("\n", ",1,2\n"),
    "columns without a name": NOTES.replace("note", "  ,") + ROWS.replace("\n", ",1,2\n"),
    "ids that differ by case and zeros": HEAD + "zqA,A1,2026-01-01\nZQa,A1,2026-01-02\n"
    + "007,A2,2026-01-03\n7,A2,2026-01-04\n07,A2,2026-01-05\n",
    "ids beyond 2^53": HEAD + "9007199254740993,A1,2026-01-01\n9007199254740992,A1,2026-01-01\n"
    + "18446744073709551617,A1,2026-01-01\n",
    "a table of five repeats": HEAD + ROWS * 5,
}  # fmt: skip


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("orders", READ.values(), ids=READ.keys())
def test_an_odd_file_is_read_as_python_reads_it(tmp_path, orders):
    assert bought(shop(tmp_path, orders)) == by_python(orders.lstrip("\n"))


WRITTEN = {
    "a mark at the start": (MARK + HEAD + ROWS).encode(),
    "a mark in the middle": (HEAD + ROWS[:18] + MARK + ROWS[18:]).encode(),
    "utf-16": (HEAD + ROWS).encode("utf-16"),
    "utf-32": (HEAD + ROWS).encode("utf-32"),
    "utf-32 from the other end": codecs.BOM_UTF32_BE + (HEAD + ROWS).encode("utf-32-be"),
    "tabs": (HEAD + ROWS).replace(",", "\t").encode(),
    "semicolons": (HEAD + ROWS).replace(",", ";").encode(),
    "Excel's line of the separator": b"sep=;\r\n" + (HEAD + ROWS).replace(",", ";").encode(),
    "the same with a comma": b"sep=,\n" + (HEAD + ROWS).encode(),
    "the same in quotes and behind a mark": b'\xef\xbb\xbf"sep=,"\n' + (HEAD + ROWS).encode(),
}


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("orders", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_file_is_the_same_however_it_is_written(tmp_path, orders):
    assert bought(shop(tmp_path, orders)) == by_python(HEAD + ROWS)


@pytest.mark.usefixtures("each_way")
def test_gzip_in_two_members_is_one_file(tmp_path):
    packed = gzip.compress((HEAD + ROWS[:18]).encode()) + gzip.compress(ROWS[18:].encode())
    assert bought(shop(tmp_path, packed, "orders.csv.gz")) == by_python(HEAD + ROWS)


@pytest.mark.usefixtures("each_way")
def test_an_hour_that_a_clock_shows_twice_is_two_moments(tmp_path):
    orders = HEAD + "zq1,A1,2026-10-25T02:30:00+02:00\nzq1,A2,2026-10-25T02:30:00+01:00\n"
    first, second = bought(shop(tmp_path, orders))
    assert second[2] - first[2] == 3_600_000_000


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(
    "when",
    [
        "0001-01-01", "9999-12-31", "0000-01-01", "99999-12-31", "2026-13-01",
        "2026-01-01T10:00:00+99:99", "2026-01-01 10:00 +15:00", "2026-01-01T10:00+0160",
    ],
)  # fmt: skip
def test_a_moment_that_cannot_be_is_dropped(tmp_path, when):
    orders = HEAD + ROWS + f"zq3,A1,{when}\n"
    assert bought(shop(tmp_path, orders)) == by_python(HEAD + ROWS)


PACKED = gzip.compress((HEAD + ROWS * 50).encode())
REFUSED = {
    "a quote that a later part leaves open": (HEAD + ROWS * 5 + 'zq4,"A1,2026-01-01\n' + ROWS * 5,
                                              "row 21 is wrongly quoted .a quote is never closed"),
    "a quote that is open to the end": (NOTES + 'zq1,A1,2026-01-01,"' + "x\n" * 5000,
                                        "row 1 is wrongly quoted"),
    "a header alone": (HEAD, "has no data rows"),
    "a header without a line end": (HEAD[:-1], "has no data rows"),
    "NUL behind the last row": (HEAD + ROWS + "\0" * 70, "line 6 holds a NUL byte"),
    "utf-16 without a mark": ((HEAD + ROWS).encode("utf-16-be"), "set encoding = .utf-16"),
    "utf-16 and one byte": ((HEAD + ROWS).encode("utf-16") + b"\n", "not valid utf-16"),
    "another encoding in a later part": ((HEAD + ROWS * 9).encode() + b"zq\xe9,A1,2026-01-02\n",
                                         "line 38 is not valid utf-8"),
    "an empty zip": (b"PK\x05\x06" + b"\0" * 18, "an empty zip file"),
    "one column twice": (HEAD.replace("sku", "sku,sku") + "zq1,A1,A2,2026-01-01\n",
                         "two columns are called 'sku'"),
    "a comma in a price": (NOTES.replace("note", "price").replace(",", ";")
                           + "zq1;A1;2026-01-01;9,50\n", "row 1.*'9,50'.*decimal_comma = true"),
    "a name for a quantity": (NOTES.replace("note", "quantity") + "zq1,A1,2026-01-01,zqAnna\n",
                              "row 1, column 'quantity': '…' is not a number.$"),
    "an address for a time": (HEAD + "zq1,A1,zqanna@zqshop.example\n" * 3, "'…@….…' does not fit"),
    "another word for the separator": ("sep=|\n" + HEAD + ROWS, r"the header has no '\|'"),
    "a field too many in a later part": (HEAD + ROWS * 9 + "zq1,A1,2026-01-01,1\n",
                                         "row 37 has 4 fields; 3 are expected"),
}  # fmt: skip
REFUSED_PACKED = {
    "gzip cut in the middle": (PACKED[: len(PACKED) // 2], "cut short or damaged"),
    "gzip without its last byte": (PACKED[:-1], "cut short or damaged"),
    "gzip of another sum": (PACKED[:-8] + bytes(4) + PACKED[-4:], "cut short or damaged"),
    "gzip and more behind it": (PACKED + b"zqbehind", "cut short or damaged"),
    "gzip in gzip": (gzip.compress(PACKED), "packed twice"),
}


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(
    ("name", "orders", "expected"),
    [("orders.csv", *one) for one in REFUSED.values()]
    + [("orders.csv.gz", *one) for one in REFUSED_PACKED.values()],
    ids=[*REFUSED, *REFUSED_PACKED],
)
def test_an_odd_file_is_refused_without_a_shopper_and_nothing_is_written(
    tmp_path, name, orders, expected
):
    (tmp_path / "shop").mkdir()
    with pytest.raises(InputError, match=f"(?s){expected}") as caught:
        import_shop(shop(tmp_path / "shop", orders, name), None, tmp_path / "out")
    said = str(caught.value).replace("zqé", "")  # of an unknown encoding, a word is shown
    assert "zq" not in said
    assert caught.value.field
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("each_way")
def test_a_separator_that_the_first_line_denies_is_refused(tmp_path):
    mapping = tea_mapping(change=[('"events.csv"', '"events.csv"\nseparator = ";"')])
    tea_shop(tmp_path, events="sep=|\n" + EVENTS)
    with pytest.raises(InputError, match=r"first line says that fields end at '\|'"):
        read_shop(tmp_path, mapping)


def test_a_record_longer_than_any_is_left_to_the_reader_of_whole_files(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_parts, "PART", 48)
    monkeypatch.setattr(csv_parts, "LONGEST", 96)
    assert bought(shop(tmp_path, LONG)) == by_python(LONG)


@pytest.mark.parametrize("large", [2.0**53, -(2.0**60), 1e300])
def test_floats_that_have_lost_digits_of_an_id_are_refused(tmp_path, large):
    orders = pl.DataFrame({"customer_id": [1.0, large, None], "sku": ["A1", "A2", "A2"]})
    orders = orders.with_columns(created_at=pl.lit("2026-01-01"))
    (tmp_path / "items.csv").write_text(ITEMS)
    orders.write_parquet(tmp_path / "orders.parquet")
    with pytest.raises(InputError, match=r"'customer_id' holds floats of 2\^53 and more"):
        read_shop(tmp_path)


def test_whole_numbers_in_parquet_keep_each_digit(tmp_path):
    ids = [2**53, 2**53 + 1, 2**64 - 1]
    orders = pl.DataFrame({"customer_id": pl.Series(ids, dtype=pl.UInt64), "sku": ["A1"] * 3})
    (tmp_path / "items.csv").write_text(ITEMS)
    orders.with_columns(created_at=pl.lit("2026-01-01")).write_parquet(tmp_path / "orders.parquet")
    assert [who for who, _, _ in bought(tmp_path)] == sorted(map(str, ids))


def _lines(folder, lines):
    (folder / "items.csv").write_text(ITEMS)
    (folder / "orders.jsonl").write_text(lines)
    return folder


def test_what_pandas_writes_for_nothing_is_nothing(tmp_path):
    nothing = float("nan")
    lines = [{"customer_id": who, "sku": "A1", "created_at": "2026-01-01", "note": note}
             for who, note in (("zq1", nothing), (nothing, "x"), (2**70, "x"))]  # fmt: skip
    found = bought(_lines(tmp_path, "".join(json.dumps(line) + "\n" for line in lines)))
    assert [who for who, _, _ in found] == [str(2**70), "zq1"]


def test_a_key_that_has_no_value_at_all_is_told_from_one_that_is_missing(tmp_path):
    line = '{"customer_id": NaN, "sku": "A1", "created_at": "2026-01-01"}\n'
    with pytest.raises(InputError, match="no line has a value under 'customer_id'"):
        read_shop(_lines(tmp_path, line * 2))


def test_a_python_line_of_other_values_is_text(tmp_path):
    line = "{'customer_id': 'zq%d', 'sku': 'A1', 'created_at': '2026-01-0%d', 'x': (b'1', 2j)}\n"
    folder = _lines(tmp_path, line % (1, 1) + (line % (2, 2)).replace("'A1'", "b'A1'"))
    assert [who for who, _, _ in bought(folder)] == ["zq1"]


def test_a_mapping_nested_too_deeply_is_no_toml(tmp_path):
    deep = "x = " + "[" * 5000 + "]" * 5000
    with pytest.raises(SettingsError, match="not valid TOML"):
        parse_mapping(deep, "deep.toml")
    (tmp_path / "mapping.toml").write_text(deep)
    with pytest.raises(FedtailError, match="not valid TOML"):
        read_shop(shop(tmp_path, HEAD + ROWS), tmp_path / "mapping.toml", catalogue_only=True)


def test_what_the_system_refuses_is_said_without_a_path(tmp_path, monkeypatch):
    folder = shop(tmp_path, HEAD + ROWS)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refused)
    for reading in (read_shop, look_at_shop, lambda one: import_shop(one, None, tmp_path / "out")):
        with pytest.raises(InputError, match="cannot be read: Permission denied") as caught:
            reading(folder)
        assert str(tmp_path.parent) not in str(caught.value)
    monkeypatch.setattr("pathlib.Path.read_text", lambda path, _: refused(path))
    with pytest.raises(SettingsError, match=r"Permission denied\.$") as caught:
        load_mapping(tmp_path / "mapping.toml")
    assert str(tmp_path) not in str(caught.value)
