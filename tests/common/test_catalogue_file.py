import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.catalogue import Catalogue, Item, read_catalogue, write_catalogue
from common.errors import InputError
from tests.support.shops import make_catalogue

words = st.text(min_size=1, max_size=10)


@given(st.lists(st.tuples(words, words, st.text(max_size=5), st.text(max_size=5)), min_size=1))
def test_a_catalogue_comes_back_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.jsonl"
    catalogue = Catalogue(
        tuple(
            Item(str(place), title, text, category, merchant)
            for place, (title, text, category, merchant) in enumerate(rows)
        )
    )
    write_catalogue(catalogue, path)
    found = read_catalogue(path)
    assert found.items == catalogue.items
    assert found.digest == catalogue.digest


def test_a_title_may_hold_a_line_separator(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    catalogue = Catalogue((Item("a", "red\u2028jug\x85", "red\u2029jug\r\n"),))
    write_catalogue(catalogue, path)
    assert read_catalogue(path).items == catalogue.items


def test_people_can_read_it(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    write_catalogue(Catalogue((Item("a", "红色茶杯", "红色茶杯"), Item("b", "jug", "jug"))), path)
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert "红色茶杯" in first
    assert json.loads(second)["title"] == "jug"


def refused(path):
    with pytest.raises(InputError) as caught:
        read_catalogue(path)
    assert path.name in str(caught.value) or caught.value.field in {"items", "item_id"}
    return caught.value


def test_a_missing_file_is_named(tmp_path):
    assert refused(tmp_path / "none.jsonl").field == "catalogue"


def test_another_encoding_is_refused(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    path.write_bytes("红色".encode("gb18030"))
    assert "UTF-8" in str(refused(path))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("not json", "catalogue"),
        ("[1, 2]", "catalogue"),
        ("", "catalogue"),
        ('{"title": "t", "text": "t"}', "item_id"),
        ('{"item_id": "x", "title": "", "text": "t"}', "title"),
        ('{"item_id": "x", "title": "t", "text": 5}', "text"),
        ('{"item_id": 7, "title": "t", "text": "t"}', "item_id"),
    ],
)
def test_a_broken_line_is_named_by_file_line_and_field(tmp_path, line, field):
    path = tmp_path / "catalogue.jsonl"
    write_catalogue(make_catalogue(2), path)
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")
    error = refused(path)
    assert error.field == field
    assert "line 3" in str(error)


def test_an_empty_file_and_a_doubled_id_are_refused(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    path.write_text("")
    assert refused(path).field == "items"
    line = '{"item_id": "a", "title": "t", "text": "t"}\n'
    path.write_text(line + line)
    assert refused(path).field == "item_id"
