import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.report.board_pdf import MOST_MERCHANTS, _readable, _shown, board_pdf
from simulations.results.schema import Results, write_results
from tests.support.results_example import example_results
from tests.support.shops import command

ROOT = Path(__file__).parents[3]


def pages(content):
    return content.count(b"/Type /Page\n") + content.count(b"/Type /Page ")


def renamed(*names):
    fields = example_results().model_dump(mode="json")
    fields["merchants"] = [
        fields["merchants"][place % 8] | {"name": name} for place, name in enumerate(names)
    ]
    return Results.model_validate(fields)


def test_the_same_results_give_the_same_bytes_in_another_process_too():
    one = board_pdf(example_results())
    assert one.startswith(b"%PDF-")
    assert one == board_pdf(example_results())
    script = (
        "import hashlib; from simulations.report.board_pdf import board_pdf; "
        "from tests.support.results_example import example_results; "
        "print(hashlib.sha256(board_pdf(example_results())).hexdigest())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1"},
    )
    assert ran.stdout.strip() == hashlib.sha256(one).hexdigest()


def test_it_has_two_pages_also_with_many_merchants():
    assert pages(board_pdf(example_results())) == 2
    many = renamed(*(f"Shop {place}" for place in range(64)))
    assert pages(board_pdf(many)) <= 3
    assert len(_shown(tuple(range(64)))) == MOST_MERCHANTS + 1


def test_names_of_merchants_are_text_and_no_markup():
    hostile = renamed("<b>Bold & Co</b>", "<img src='x'/>", "&amp;", "a" * 300, "\u0000", "é")
    assert pages(board_pdf(hostile)) in {2, 3}


def test_letters_that_the_font_lacks_are_a_number():
    board_pdf(example_results())  # the font is registered
    assert _readable("茶叶店", "Merchant 3") == "Merchant 3"
    assert _readable("ε ≤ 4, Café −1") == "ε ≤ 4, Café −1"
    assert pages(board_pdf(renamed("茶叶店", "Shop"))) == 2


def test_the_command_writes_the_pdf_and_the_page(tmp_path):
    write_results(example_results(), tmp_path / "results.json")
    done = command(["report", str(tmp_path), "--pdf", str(tmp_path / "board.pdf")], tmp_path)
    assert done.exception is None, done.output
    assert (tmp_path / "board.pdf").read_bytes() == board_pdf(example_results())
    done = command(["report", str(tmp_path)], tmp_path)
    assert done.exception is None, done.output
    assert b"<html" in (tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_folder_that_is_no_run_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    done = command(["report", str(tmp_path), "--pdf", str(tmp_path / "board.pdf")], tmp_path)
    assert done.exit_code
    assert not (tmp_path / "board.pdf").exists()
