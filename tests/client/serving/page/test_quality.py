import json

import pytest

from client.importing.quality_report import Doubt, QualityReport, TableQuality
from client.serving.live_shop import snapshot_of
from client.serving.page.quality import count_catalogue, read_quality
from tests.support.served import made_model


def report():
    table = TableQuality("events", 100, 90, {"unknown_items": 8}, {"same": 2}, {"unicode": 0})
    doubt = Doubt("2 shopper ids look like accounts.", ("'guest'",))
    return QualityReport("Ash", (table,), 5, 9, 1, 90, 80, True, 0.35, doubts=(doubt,))


def test_the_page_reads_what_an_import_writes(tmp_path):
    (tmp_path / "quality.json").write_bytes(report().to_json("b" * 64))
    found = read_quality(tmp_path, "b" * 64)
    assert found.of_this_model
    assert (found.shoppers, found.interactions) == (5, 90)
    assert found.doubts == ("2 shopper ids look like accounts.",)
    [table] = found.tables
    assert (table.table, table.read, table.kept) == ("events", 100, 90)
    assert [(one.kind, one.rule, one.rows, one.share) for one in table.rules] == [
        ("dropped", "unknown_items", 8, 0.08),
        ("merged", "same", 2, 0.02),
    ]
    assert not read_quality(tmp_path, "c" * 64).of_this_model


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"tables": 3}', b'{"tables": [{}]}'])
def test_a_missing_or_strange_report_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "quality.json").write_bytes(content)
    assert read_quality(tmp_path, "b" * 64) is None


def test_no_example_of_a_doubt_is_on_disk():
    assert "guest" not in json.dumps(json.loads(report().to_json("b" * 64)))


def test_the_catalogue_says_what_it_lacks():
    found = count_catalogue(snapshot_of(made_model(), []))
    assert (found.items, found.title_only, found.no_category) == (60, 60, 0)
    assert 0 <= found.unsold < 60
