from pathlib import Path

from common.settings.reference import settings_page
from common.settings.run import RunSettings

PAGE = Path(__file__).parents[3] / "docs" / "ref-settings.md"


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == settings_page(), "run `make reference`"


def test_every_setting_stands_on_it_with_bound_and_meaning():
    rows = [line for line in settings_page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(RunSettings.model_fields)
    assert all(len(row.strip("|").split(" | ")) == 4 for row in rows)
    assert any("> 0, < 0.1" in row for row in rows)  # delta
    assert any("`local`, `distributed`, `central`, `none`" in row for row in rows)
