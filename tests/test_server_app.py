"""The coordinator's app, the bundle it travels in, and the three ways to run it."""

import io
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
from fake_node import federation, shops, short_setup
from flower_engine import Engine, app_with_fake_nodes
from flwr.app import Context, RecordDict
from flwr.cli.build import build_fab_from_disk

from client.app import app as client_app
from common.settings import RunSettings
from server.app import ADAPTER_FILE, app
from server.checkpoint import read_checkpoint
from simulations.grid import InProcessGrid

__all__ = ["federation", "shops"]  # fixtures
ROOT = Path(__file__).parents[1]
SCALARS = (bool, int, float)


@pytest.fixture
def reference(shops, federation, tmp_path, monkeypatch):
    """The adapter file of the same run in this process, through the same ServerApp."""
    coordination = types.ModuleType("server.coordination")
    coordination.open_run = lambda run_config: short_setup(Path(run_config["folder"]))
    monkeypatch.setitem(sys.modules, "server.coordination", coordination)
    run_config = {"federation": str(federation), "folder": str(tmp_path / "here")}
    app(
        InProcessGrid(client_app, 3, run_config),
        Context(1, 1, {}, RecordDict(), run_config),
    )
    return (tmp_path / "here" / ADAPTER_FILE).read_bytes()


def test_the_app_runs_all_rounds_and_writes_the_adapter(reference, tmp_path):
    checkpoint = read_checkpoint(tmp_path / "here")
    assert checkpoint.round_number == 2
    assert checkpoint.adapter.to_bytes() == reference


# Flower's builder calls an old name of pathspec's.
builds_a_bundle = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def bundled():
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(ROOT))) as bundle:
        return set(bundle.namelist()), sum(one.compress_size for one in bundle.infolist())


@builds_a_bundle
def test_the_bundle_holds_exactly_what_a_node_or_the_coordinator_runs():
    expected = {"pyproject.toml", ".info/CONTENT"}
    for pattern in (
        "client/**/*.py",
        "client/mappings/*.toml",
        "common/**/*.py",
        "server/**/*.py",
    ):
        expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    expected |= {name for name in ("LICENSE",) if (ROOT / name).exists()}
    names, size = bundled()
    assert names == expected
    assert {"client/app.py", "server/app.py", "common/wire.py"} <= names
    assert size < 5_000_000  # Flower's limit is twice that


@builds_a_bundle
def test_every_module_of_the_bundle_may_be_named_by_flower():
    names, _ = bundled()
    python = [name for name in names if name.endswith(".py")]
    rooms = {name.split("/")[0] for name in python}
    assert rooms == {"client", "common", "server"}
    for path in ROOT.glob("*/**/*.py"):  # Flower drops these names without a word
        if path.relative_to(ROOT).parts[0] in rooms:
            assert not path.name.startswith("test_")
            assert not path.name.endswith("_test.py")


def test_flower_may_override_every_setting_of_a_run_and_has_its_defaults():
    app_config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    settings = {name: app_config["config"][name] for name in RunSettings().to_flat()}
    places = app_config["config"].keys() - settings
    assert places == {"federation", "catalogue", "folder", "cache", "merchants"}
    assert RunSettings.from_flat(settings) == RunSettings()
    for name, field in RunSettings.model_fields.items():
        assert type(settings[name]) is (field.annotation if field.annotation in SCALARS else str)


@pytest.mark.slow
def test_flowers_simulation_gives_the_same_adapter(reference, federation, tmp_path):
    app_folder = app_with_fake_nodes(tmp_path)
    with Engine(tmp_path / "home", simulation=True) as engine:
        row = engine.run(
            app_folder,
            *("--federation-config", "num-supernodes=3 client-resources-num-cpus=1"),
            *("--run-config", f'federation="{federation}" folder="{tmp_path / "there"}"'),
        )
        assert row["status"] == "finished:completed", engine.log()
    assert (tmp_path / "there" / ADAPTER_FILE).read_bytes() == reference


@pytest.mark.slow
def test_deployed_nodes_give_the_same_adapter(reference, federation, tmp_path):
    app_folder = app_with_fake_nodes(tmp_path)
    with Engine(tmp_path / "home", simulation=False) as engine:
        for folder in sorted(federation.iterdir()):
            engine.add_node(folder)
        row = engine.run(app_folder, "--run-config", f'folder="{tmp_path / "there"}"')
        assert row["status"] == "finished:completed", engine.log()
    assert (tmp_path / "there" / ADAPTER_FILE).read_bytes() == reference
