"""The tutorial's own commands, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving_process import free_port, started

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "tutorial-add-to-your-shop.md"


def commands():
    return re.findall(r"^```sh\n(.*?)\n```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_six_commands_lead_to_a_list():
    found = commands()
    assert len(found) <= 6
    assert [one.split()[0] for one in found] == ["fedtail"] * (len(found) - 1) + ["curl"]
    assert all("\n" not in one for one in found)


@pytest.mark.slow
def test_from_an_empty_folder_to_a_list(tmp_path, monkeypatch):
    (tmp_path / "fedtail").symlink_to(ROOT)
    folder, cache = tmp_path / "try", tmp_path / "cache"
    folder.mkdir()
    program = f"{sys.executable} -c 'import sys, fedtail; fedtail.app(sys.argv[1:])'"
    environment = os.environ | {"FEDTAIL_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    *prepared, serve, ask = commands()

    def run(line):
        line = re.sub(r"^fedtail", program, line)
        return subprocess.run(
            ["bash", "-ec", line], cwd=folder, env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip

    for line in prepared:
        run(line)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    port, words = free_port(), shlex.split(serve)
    with started(words[1 : words.index("--port")], folder, port, cache):
        answer = run(ask.replace("8080", str(port)))
    assert '"fallback":null' in answer.stdout
    assert answer.stdout.count('"item_id"') >= 3
    key = (folder / "key.txt").read_text().strip()
    assert key not in answer.stdout
