"""A file in parts is the file as a whole: the same cells, and the same errors."""

import gzip
import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from client.importing.files import FILE, ROW, read_files
from client.importing.mapping import TableSource
from client.importing.parts import csv_parts
from client.importing.parts.csv_parts import read_in_parts
from client.importing.parts.reading_bar import reading_bar
from client.importing.shop_import import read_shop
from common.errors import InputError
from tests.support.tea import EVENTS, assert_same, tea_mapping, tea_shop

CELL = st.text(alphabet='ab1,"\n\r é茶', max_size=6)
NAMES = ["who", "what", "when"]
SOURCE = TableSource(file=("*.csv",))


@pytest.fixture
def tiny(monkeypatch):
    """Parts of a few bytes."""
    monkeypatch.setattr(csv_parts, "PART", 7)


def written(rows):
    """A CSV file by RFC 4180."""
    quoted = ('"' + cell.replace('"', '""') + '"' for row in rows for cell in row)
    cells = list(quoted)
    lines = [",".join(cells[place : place + 3]) for place in range(0, len(cells), 3)]
    return "\n".join([",".join(NAMES), *lines]) + "\n"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.integers(1, 40))
def test_parts_are_the_whole(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("parts") / "events.csv"
    path.write_bytes(written(rows).encode())
    whole = read_files([path], SOURCE, ["what", "who"], "utf-8").drop(ROW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_parts, "PART", size)
        parts = list(read_in_parts([path], SOURCE, ["what", "who"], "utf-8"))
    assert pl.concat(parts).drop(ROW).equals(whole)
    assert all(not part.is_empty() for part in parts)


@pytest.mark.usefixtures("tiny")
def test_several_files_and_gzip_are_read_in_order_and_watched(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv.gz"]
    paths[0].write_bytes(b"who,what\r\nann,1\r\nbob,2\r\n")
    paths[1].write_bytes(gzip.compress(b"\xef\xbb\xbfwhat,who\n3,cat"))
    seen = []
    watch = lambda done, of: seen.append((done, of))  # noqa: E731 -- two numbers, kept
    parts = list(read_in_parts(paths, SOURCE, ["who", "what"], "utf-8", watch))
    found = pl.concat([part.with_columns(pl.col(FILE).cast(pl.String)) for part in parts])
    assert found.select("who", "what", FILE).rows() == [
        ("ann", "1", "a.csv"), ("bob", "2", "a.csv"), ("cat", "3", "b.csv.gz")
    ]  # fmt: skip
    total = sum(path.stat().st_size for path in paths)
    assert [of for _, of in seen] == [total] * len(seen)
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "events",
    [
        EVENTS + 'bob,c1,2024-01-"05,o9,1,2\n',
        EVENTS + "bob,c1\n",
        EVENTS + "bob,c1,2024-01-05 10:00:00,o9,many,2\n",
        EVENTS + 'bob,"c1\\"",2024-01-05,o9,1,2\n',
        EVENTS.partition("\n")[0] + "\n",
        EVENTS + "bob,c1,2024-01-05,o9,1,2\x00\n",
    ],
)
def test_what_is_wrong_is_said_as_of_the_whole(tmp_path, monkeypatch, events):
    def said():
        try:
            return read_shop(tea_shop(tmp_path, events=events), tea_mapping())[1]
        except InputError as error:
            return str(error)

    in_parts = said()
    monkeypatch.setattr(csv_parts, "PART", 1 << 20)
    assert said() == in_parts
    monkeypatch.setattr("client.importing.sources.ShopSource.csv_parts", lambda *_: None)
    assert said() == in_parts


@pytest.mark.usefixtures("tiny")
def test_a_shop_in_parts_is_the_shop(tmp_path, monkeypatch):
    blank = EVENTS + ",t1,,o77,1,1\n" + "\n"
    shop = tea_shop(tmp_path, events=blank)
    parts, report = read_shop(shop, tea_mapping(), name="Tea")
    monkeypatch.setattr("client.importing.sources.ShopSource.csv_parts", lambda *_: None)
    whole, again = read_shop(shop, tea_mapping(), name="Tea")
    assert_same(parts, whole)
    assert report == again


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("order", ["o1", "an order of many letters", "", "o3.0", "é"])
def test_an_order_unlike_those_before_changes_nothing_else(tmp_path, monkeypatch, order):
    events = EVENTS + f"bob,t1,2024-03-01 12:00:00,{order},1,9\nbob,t2,2024-03-02,{order},1,9\n"
    shop = tea_shop(tmp_path, events=events)
    parts, report = read_shop(shop, tea_mapping(), name="Tea")
    monkeypatch.setattr("client.importing.sources.ShopSource.csv_parts", lambda *_: None)
    whole, again = read_shop(shop, tea_mapping(), name="Tea")
    assert_same(parts, whole)
    assert report == again


def test_a_bar_is_drawn_on_a_terminal_alone():
    for terminal in (True, False):
        screen = io.StringIO()
        with reading_bar(Console(file=screen, force_terminal=terminal, width=100)) as watch:
            watch(1_000_000, 2_000_000)
        assert ("Reading events" in screen.getvalue()) == terminal
