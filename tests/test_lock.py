"""The lock names each package that a deployment installs, as pinned, with a hash and no address."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"


def made():
    spec = importlib.util.spec_from_file_location("lock", ROOT / "deploy/lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name, url="https://index/a.whl", digest="0" * 64):
    hashes = {} if digest is None else {"hashes": {"sha256": digest}}
    return {
        "metadata": {"name": name, "version": "1.0"},
        "download_info": {"url": url, "archive_info": hashes},
    }


def report(*packages):
    return {"install": list(packages)}


def test_names_are_of_all_but_ours_and_torch():
    found = made().names(report(package("Tuf"), package("torch"), package("fedtail")))
    assert found == ["tuf==1.0"]


def test_a_line_has_a_hash_and_no_address():
    assert made().hashes(report(package("tuf"))) == [f"tuf==1.0 --hash=sha256:{'0' * 64}"]


@pytest.mark.parametrize(
    "local", [package("tuf", "file:///a/tuf.whl"), package("tuf", digest=None)]
)
def test_what_is_of_no_index_is_named_and_nothing_is_written(local):
    with pytest.raises(SystemExit, match="tuf"):
        made().hashes(report(package("h11"), local))


def test_the_lock_has_the_pinned_versions_of_what_is_needed():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    lines = [one for one in LOCK.read_text().splitlines() if not one.startswith("#")]
    matches = [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", one) for one in lines]
    assert None not in matches
    locked = {canonicalize_name(one[1]): one[2] for one in matches}
    assert locked.items() <= pinned.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    assert needed - locked.keys() == {"torch"}
