from pathlib import Path

import typer

import fedtail
from docs.cli_reference import cli_page, commands

PAGE = Path(__file__).parents[2] / "docs" / "ref-cli.md"


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == cli_page(), "run `make reference`"


def test_every_command_and_option_stands_on_it():
    page = cli_page()
    found = list(commands(typer.main.get_command(fedtail.app), ("fedtail",)))
    assert len(found) > 20
    for path, command in found:
        section = page.split(f"## {' '.join(path)}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"`{parameter.opts[0]}`" in section
