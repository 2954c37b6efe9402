"""A server with a run that has ended, for tests of what comes after it."""

import shutil
from dataclasses import replace

import pytest

from common.catalogue import write_catalogue
from common.settings.run import RunSettings
from server.run.checkpoint import read_checkpoint, write_checkpoint
from server.run.outcome import write_outcome
from server.run.setup import CATALOGUE_FILE
from simulations.results.schema import load_results
from tests.support.doors import operator
from tests.support.flower_engine import free_port
from tests.support.shops import make_shop


@pytest.fixture
def ended(simulated, settings, tmp_path):
    """A server's folder with a run as its app leaves it: a simulation's, moved there.

    A deployed run's plan does not count the merchants, who share no noise.
    """
    server = operator(tmp_path / "server", free_port())
    run = server.runs / "first"
    shutil.copytree(simulated / "checkpoints" / "federated", run)
    server.journal.parent.mkdir()
    shutil.move(run / "journal.jsonl", server.journal)
    release = simulated / "release"
    checkpoint = replace(read_checkpoint(run), plan_digest=settings.plan().digest)
    write_checkpoint(run, checkpoint)
    write_outcome(run, checkpoint.adapter, (release / "basis.safetensors").read_bytes(), {})
    shutil.copy(release / "canaries.safetensors", run)
    write_catalogue(make_shop("a").catalogue, run / CATALOGUE_FILE)
    return server, run


@pytest.fixture
def settings(simulated):
    asked = dict(load_results(simulated / "results.json").settings)
    return RunSettings.from_flat(
        {name: asked[name] for name in RunSettings.model_fields if name in asked}
    )
