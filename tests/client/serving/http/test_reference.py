from pathlib import Path

from client.serving.http.reference import reference_page

ROOT = Path(__file__).parents[4]


def test_the_page_is_what_the_service_says():
    assert (ROOT / "docs" / "ref-http.md").read_text("utf-8") == reference_page()
