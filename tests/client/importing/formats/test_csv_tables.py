"""A CSV file gives exactly the rows that were written, or is refused by row."""

import csv
import io
import random

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest

from client.importing.formats.csv_structure import csv_structure, with_plain_line_ends
from client.importing.formats.csv_tables import CsvStyle, read_csv
from client.importing.formats.encodings import as_utf8
from common.errors import InputError

HOSTILE = [
    "", "a", "A1", "7", "007", '"', '""', ",", ";", "\t", "\n", "\r", "\r\n", "\\", '\\"', "'",
    " ", "é", "茶", "“", "NULL", "\\N", "x" * 300, '",', '\n"', "#", "|", "\x0b", "\u2028", "0",
]  # fmt: skip
SEPARATORS = ",;\t|"
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "gb18030"]


def _table(chance):
    width, height = chance.randint(2, 5), chance.randint(1, 6)
    names = [f"n{place}" + chance.choice(["", " x", "\n", '"', "é"]) for place in range(width)]
    rows = [
        ["".join(chance.choices(HOSTILE, k=chance.randint(0, 3))) for _ in names]
        for _ in range(height)
    ]
    return names, rows


def _by_csv_module(names, rows, separator, chance):
    """Python's csv module, with each of its ways to quote, escape and end a line."""
    style = chance.choice(
        [{"quoting": csv.QUOTE_MINIMAL}, {"quoting": csv.QUOTE_ALL},
         {"quoting": csv.QUOTE_NONNUMERIC}, {"doublequote": False, "escapechar": "\\"}]
    )  # fmt: skip
    if any('"' in name for name in names):
        style.pop("escapechar", None)  # a header is read without escapes
        style.pop("doublequote", None)
    stream = io.StringIO(newline="")
    # Before Python 3.13 the module quotes a bare return only if it is part of a line's end; left
    # bare at a line's end, the file itself no longer says whose it is.
    bare = any("\r" in cell for row in [names, *rows] for cell in row)
    end = "\r\n" if bare else chance.choice(["\n", "\r\n"])
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, **style)
    writer.writerows([names, *rows])
    return stream.getvalue(), style.get("escapechar")


def _by_polars(names, rows, separator, chance):
    frame = pl.DataFrame(dict(zip(names, zip(*rows, strict=True), strict=True)))
    style = chance.choice(["necessary", "always", "non_numeric"])
    return frame.write_csv(separator=separator, quote_style=style), None


def _by_arrow(names, rows, separator, chance):
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=names)
    stream = io.BytesIO()
    options = pyarrow.csv.WriteOptions(delimiter=separator)
    pyarrow.csv.write_csv(table, stream, options)
    return stream.getvalue().decode(), None


def _cells(frame):
    return [[cell or "" for cell in row] for row in frame.drop("row").iter_rows()]


def _write_and_read(seed):
    """Return whether the table came back; fail if another one did."""
    chance = random.Random(seed)
    names, rows = _table(chance)
    separator = chance.choice(SEPARATORS)
    write = chance.choice([_by_csv_module, _by_polars, _by_arrow])
    text, escape = write(names, rows, separator, chance)  # no file says that it has escapes
    encoding = chance.choice(ENCODINGS)
    content = as_utf8("t.csv", text.encode(encoding), encoding)
    try:
        frame = read_csv("t.csv", content, CsvStyle(separator, escape=escape), names, "row")
    except InputError as error:
        return "row" not in str(error) and "header" not in str(error) and pytest.fail(str(error))
    assert _cells(frame) == rows, (seed, write.__name__, text)
    assert frame["row"].to_list() == list(range(1, len(rows) + 1))
    return True


def test_a_hostile_table_comes_back_or_is_refused_by_row():
    came = [_write_and_read(seed) for seed in range(250)]
    assert np.mean(came) > 0.6  # refusing all would be no reader


@pytest.mark.statistical
def test_two_thousand_hostile_tables_come_back_or_are_refused_by_row():
    came = [_write_and_read(seed) for seed in range(2_000)]
    assert np.mean(came) > 0.6


# -------------------------------------------------------------------------- by example


def _read(text, columns=("a", "b"), **style):
    frame = read_csv("t.csv", text.encode(), CsvStyle(**style), columns, "row")
    return [list(row) for row in frame.drop("row").iter_rows()]


def test_an_escape_that_is_named_is_undone():
    text = 'a,b\n1,"x \\"y"\n2,"C:\\\\"\n\\N,\\N\nN,p\\,q\n'
    assert _read(text, escape="\\") == [
        ["1", 'x "y'], ["2", "C:\\"], [None, None], ["N", "p,q"]
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"row 1 is wrongly quoted.*set escape"):
        _read(text)


def test_a_backslash_at_a_fields_end_is_read_where_it_can_mean_one_thing_only():
    assert _read('a,b\n1,"C:\\"\n2,x\n') == [["1", "C:\\"], ["2", "x"]]
    both = 'a,b\n1,"\\""\n'.replace('""', '"",""') + '2,"\\""\n'.replace('""', '"",""')
    with pytest.raises(InputError):
        _read(both)


def test_a_file_that_can_be_read_both_ways_is_refused_until_the_mapping_says_which():
    text = 'a,b\n"\\",",",""\n'.replace(',""', "")
    assert _read(text, escape="") == [["\\", ","]]
    # With the escape: one field, which holds `",` ... and is then of another width.
    twofold = 'a,b\n"\\","x","\\"\n'.replace('"x",', '"x')
    with pytest.raises(InputError, match="row 1"):
        _read(twofold)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_record_and_one_inside_quotes_stays(end):
    text = end.join(["a,b", '1,"x\r\ny"', "", '2,"p\rq"', ""])
    assert _read(text) == [["1", "x\r\ny"], [None, None], ["2", "p\rq"]]


def test_a_bare_return_inside_a_field_is_refused_by_row():
    with pytest.raises(InputError, match="row 2 has 1 fields; 2 are expected"):
        _read("a,b\n1,x\n2\r2,y\n")


def test_a_separator_of_several_characters_may_stand_in_quotes():
    assert _read('a::b\n1::"x::y"\n', separator="::") == [["1", "x::y"]]
    with pytest.raises(InputError, match="control character"):
        _read("a::b\n1::x\x1fy\n", separator="::")


def test_unmapped_columns_may_have_one_name_or_none():
    assert _read("a,,b,,c,c\n1,2,3,4,5,6\n") == [["1", "3"]]


@pytest.mark.parametrize("seed", range(30))
def test_the_strict_reader_finds_what_pythons_finds(seed):
    chance = random.Random(seed)
    names, rows = _table(chance)
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([names, *rows])
    text = with_plain_line_ends(stream.getvalue().encode(), '"')
    found = csv_structure(text, ",", '"')
    expected = list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))
    assert found.widths.tolist() == [max(len(row), 1) for row in expected]
    lengths = found.lengths(np.arange(len(found.ends)))
    assert lengths.tolist() == [len(cell.encode()) for row in expected for cell in row or [""]]
