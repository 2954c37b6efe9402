import tomllib
from pathlib import Path

import pytest

from common.settings.flower_table import FIRST, LAST, flower_table, with_table
from common.settings.run import RunSettings

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_table_in_the_project_is_the_one_that_is_made():
    text = PROJECT.read_text("utf-8")
    assert with_table(text) == text  # else: make settings


def test_the_table_reads_back_as_the_defaults():
    assert RunSettings.from_flat(tomllib.loads(flower_table())) == RunSettings()


def test_an_old_table_is_replaced_and_nothing_else():
    made = with_table(f"a\n{FIRST}\nrounds = 3\n{LAST}\nb\n")
    assert made == f"a\n{FIRST}\n{flower_table()}{LAST}\nb\n"
    with pytest.raises(ValueError, match="unpack"):
        with_table("a\nb\n")
