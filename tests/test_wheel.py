"""The wheel as a user installs it: what is in it, what is not, and that its command starts."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.release.code_digest import code_digest

ROOT = Path(__file__).parents[1]
WINGS = ("client", "common", "server", "simulations")
NOT_SHIPPED = tuple(
    f"simulations/{room}" for room in ("benchmarks", "harness", "results_page", "traffic")
)


def is_shipped(path):
    return not path.startswith(NOT_SHIPPED) and "__pycache__" not in path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy, so that no `build` folder of the checkout finds its way in."""
    there = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE", "fedtail.py"):
        shutil.copy(ROOT / name, there)
    for name in (*WINGS, "tests"):
        shutil.copytree(ROOT / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", there / "dist", there]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = (there / "dist").glob("fedtail-*.whl")
    return built


@pytest.fixture(scope="module")
def packed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    there = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--target", there]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, wheel], check=True, capture_output=True
    )
    return there


def run(there, *command):
    """Run Python in an empty place with the installed wheel before all else; its output."""
    ran = subprocess.run(
        [sys.executable, "-P", *command],
        cwd=there.parent,
        env={**os.environ, "PYTHONPATH": str(there), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_all_that_a_user_runs_is_in_the_wheel_and_nothing_else(packed):
    files = (path for wing in WINGS for path in (ROOT / wing).rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    assert packed == {"fedtail.py", *filter(is_shipped, wanted)}
    assert not [name for name in packed if name.startswith(("tests", *NOT_SHIPPED))]
    assert {Path(name).suffix for name in packed} >= {".j2", ".toml", ".conf", ".typed"}


def test_nothing_in_the_wheel_imports_what_is_not(packed):
    unshipped = tuple(room.replace("/", ".") for room in NOT_SHIPPED)
    found = []
    for name in sorted(packed):
        nodes = ast.walk(ast.parse((ROOT / name).read_text())) if name.endswith(".py") else ()
        for node in nodes:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{one}" for one in names]
            found += [f"{name}: {one}" for one in names if one.startswith(unshipped)]
    assert found == []


@pytest.mark.parametrize(
    "command", [(), ("simulate",), ("client", "recommend"), ("server", "start"), ("audit", "run")]
)
def test_the_installed_command_starts(installed, command):
    printed = run(installed, installed / "bin" / "fedtail", *command, "--help")
    assert f"Usage: {' '.join(('fedtail', *command))}" in printed


def test_an_installed_copy_has_the_code_digest_of_its_checkout(installed):
    script = "import common.release.code_digest as it; print(it.__file__); print(it.code_digest())"
    file, digest = run(installed, "-c", script).split()
    assert Path(file).is_relative_to(installed)
    assert digest == code_digest()
