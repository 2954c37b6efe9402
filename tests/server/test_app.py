"""The coordinator's app, the bundle it travels in, and the three ways to run it."""

import io
import re
import shutil
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict
from flwr.cli.build import build_fab_from_disk

from client.app import app as client_app
from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger
from common.federation.contribution_files import FOLDER as CONTRIBUTIONS
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from common.settings.run import RunSettings
from server.app import app
from server.run.checkpoint import read_checkpoint
from server.run.files import CATALOGUE_FILE
from server.run.outcome import ADAPTER_FILE
from server.run.polling_grid import PromptGrid
from server.run.setup import PLACES
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import federation, make_setup, shops
from tests.support.flower_engine import Engine, as_option, copy_app

__all__ = ["federation", "shops"]  # fixtures
ROOT = Path(__file__).parents[2]
SCALARS = (bool, int, float)


def test_the_app_runs_all_rounds_and_writes_the_adapter(shops, federation, tmp_path, monkeypatch):
    coordination = types.ModuleType("server.run.setup")
    coordination.open_run = lambda run_config: make_setup(folder=Path(run_config["folder"]))
    monkeypatch.setitem(sys.modules, "server.run.setup", coordination)
    run_config = {"federation": str(federation), "folder": str(tmp_path / "here")}
    app(
        InProcessGrid(client_app, 3, run_config),
        Context(1, 1, {}, RecordDict(), run_config),
    )
    checkpoint = read_checkpoint(tmp_path / "here")
    assert checkpoint.round_number == 6
    assert checkpoint.history[-1].epsilon > checkpoint.history[0].epsilon > 0
    written = (tmp_path / "here" / ADAPTER_FILE).read_bytes()
    assert checkpoint.adapter.to_bytes() == written


def test_replies_are_looked_for_by_the_grid_that_asks_often(tmp_path, monkeypatch):
    coordination = types.ModuleType("server.run.setup")
    coordination.open_run = lambda run_config: make_setup(folder=tmp_path)
    monkeypatch.setitem(sys.modules, "server.run.setup", coordination)
    asked = []
    monkeypatch.setattr(FedtailStrategy, "start", lambda strategy, grid: asked.append(grid))
    monkeypatch.setattr("server.app.write_outcome", lambda *_: None)
    grid = InProcessGrid(client_app, 1, {})
    app(grid, Context(1, 1, {}, RecordDict(), {}))
    [given] = asked
    assert isinstance(given, PromptGrid)
    assert given._grid is grid


# Flower's builder calls an old name of pathspec's.
builds_a_bundle = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """The names in the bundle, and its size, built from what is in the repository."""
    there = tmp_path_factory.mktemp("checkout") / "fedtail"
    built = shutil.ignore_patterns("__pycache__", ".*", "out", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, there, ignore=built)
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(there))) as bundle:
        return set(bundle.namelist()), sum(one.compress_size for one in bundle.infolist())


@builds_a_bundle
def test_the_bundle_holds_exactly_what_a_node_or_the_coordinator_runs(bundled):
    expected = {"pyproject.toml", ".info/CONTENT"}
    for pattern in (
        "client/**/*.py",
        "client/importing/*/*.toml",
        "client/serving/page/texts/*.toml",
        "common/**/*.py",
        "server/**/*.py",
    ):
        expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    expected |= {name for name in ("LICENSE",) if (ROOT / name).exists()}
    names, size = bundled
    assert names == expected
    assert {"client/app.py", "server/app.py", "common/wire/messages.py"} <= names
    assert size < 5_000_000  # Flower's limit is twice that


@builds_a_bundle
def test_every_module_of_the_bundle_may_be_named_by_flower(bundled):
    names, _ = bundled
    python = [name for name in names if name.endswith(".py")]
    rooms = {name.split("/")[0] for name in python}
    assert rooms == {"client", "common", "server"}
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):  # Flower drops these names without a word
            assert not path.name.startswith("test_")
            assert not path.name.endswith("_test.py")


def test_flower_may_override_every_setting_of_a_run_and_has_its_defaults():
    app_config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    settings = {name: app_config["config"][name] for name in RunSettings.model_fields}
    places = app_config["config"].keys() - settings
    assert places == set(PLACES)
    assert RunSettings.from_flat(settings) == RunSettings()
    for name, field in RunSettings.model_fields.items():
        assert type(settings[name]) is (field.annotation if field.annotation in SCALARS else str)


def test_the_page_names_only_settings_there_are():
    page = (ROOT / "docs" / "how-to-run-with-flower.md").read_text()
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    named = [
        name
        for text in re.findall(r"--run-config[ \\\n]+'([^']*)'", page)
        for name in re.findall(r"(\w+)=", text)
    ]
    assert len(named) >= 8
    assert set(named) <= config.keys()
    for name in ("min_merchants", "wait_seconds", "round_timeout", "quorum", "seeded_noise"):
        assert name in page
        assert name in config


SETTINGS = {
    "local": RunSettings(
        rounds=2,
        seeded_noise=True,  # or no two runs could be compared
        size_bracket=50,
        min_merchants=2,
        quorum=1.0,
        wait_seconds=240.0,
        negatives=64,
        season_ends="2024-11-01",
    ),
}
# Five are the fewest that share noise: a setup, and two more messages a sum.
SETTINGS["distributed"] = SETTINGS["local"].model_copy(
    update={"noise": "distributed", "min_merchants": 5, "audit_canaries": 16}
)


@pytest.fixture(params=list(SETTINGS))
def real_federations(tmp_path, request):
    """The same few small shops twice, the run's settings, and what a run in this process gives.

    Twice, because a merchant's ledger pays for one run.
    """
    from simulations.data.marketplace import MarketplaceSettings, make_marketplace
    from simulations.data.partition import partition_merchants
    from simulations.data.shop import Shop
    from simulations.federation.folders import write_federation
    from simulations.federation.runner import run_federation

    settings = SETTINGS[request.param]
    count = settings.min_merchants
    size = MarketplaceSettings(merchants=count, min_shoppers=40, max_shoppers=60, items=200)
    data = make_marketplace(size, seed=0).data
    parts = partition_merchants(data, how="column", merchants=count, seed=0)
    for name in ("first", "second"):
        write_federation([Shop.of(one) for one in parts], tmp_path / name, settings.plan(count))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as the engine has: float32 sums depend on it
    try:
        run = run_federation(tmp_path / "first", settings, tmp_path / "here", tmp_path / "cache")
    finally:
        torch.set_num_threads(threads)
    return tmp_path / "second", settings, run


def same_run(folder, expected, federation, settings):
    """Whichever way it was run, a run comes to the same adapter and the same season.

    Deployed nodes with distributed noise: `tests/faults/test_secure_deployment.py`.
    """
    assert (folder / ADAPTER_FILE).read_bytes() == expected.adapter.to_bytes()
    assert read_checkpoint(folder).season.to_bytes() == expected.season.to_bytes()
    if settings.noise == "distributed":
        same_sums(folder, expected, federation)


def keys_of(federation):
    """The keys that the nodes sign with, by name."""
    return {
        one.name: open_ledger(one / "node" / LEDGER_FILE, one.name).signing_key.public
        for one in merchant_folders(federation)
    }


def same_sums(folder, expected, federation):
    """Each sum is the same to the bit, though no mask is; an auditor can take it again."""
    keys, theirs = keys_of(federation), keys_of(federation.parent / "first")
    names = [one.name for one in expected.contributions.glob("*.sum")]
    assert len(names) == 4  # histogram, season, two rounds
    for name in names:
        there = Transcript.from_bytes((folder / CONTRIBUTIONS / name).read_bytes())
        here = Transcript.from_bytes((expected.contributions / name).read_bytes())
        assert np.array_equal(sum_again(there, keys).vector, sum_again(here, theirs).vector), name
        pairs = zip(there.masked, here.masked, strict=True)
        assert not any(np.array_equal(one.vector, other.vector) for one, other in pairs)


@pytest.mark.slow
def test_flowers_simulation_gives_the_same_adapter(real_federations, tmp_path):
    from simulations.federation.runner import run_config

    federation, settings, expected = real_federations
    config = run_config(federation, settings, tmp_path / "there", tmp_path / "other-cache")
    nodes = f"num-supernodes={settings.min_merchants} client-resources-num-cpus=1"
    with Engine(tmp_path / "home", simulation=True) as engine:
        row = engine.run(
            copy_app(tmp_path),
            *("--federation-config", nodes),
            *("--run-config", as_option(config)),
        )
        assert row["status"] == "finished:completed", engine.log()
    same_run(tmp_path / "there", expected, federation, settings)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("real_federations", ["local"], indirect=True)
def test_deployed_nodes_give_the_same_adapter(real_federations, tmp_path):
    federation, settings, expected = real_federations
    config = settings.to_flat() | {
        "catalogue": str(federation / CATALOGUE_FILE),
        "folder": str(tmp_path / "there"),
        "cache": str(tmp_path / "other-cache"),
    }
    with Engine(tmp_path / "home", simulation=False) as engine:
        for folder in merchant_folders(federation):
            engine.add_node(folder)
        row = engine.run(copy_app(tmp_path), "--run-config", as_option(config), timeout=6000)
        assert row["status"] == "finished:completed", engine.log()
    same_run(tmp_path / "there", expected, federation, settings)
