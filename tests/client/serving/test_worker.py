"""What the worker's processes do, done in this one."""

import shutil

import pytest

from client.recommending.model_history import kept_models
from client.serving.worker import Worker, _fit_if_stale, _next_run
from common.errors import StorageError


@pytest.fixture(scope="module")
def worker(simulated, tmp_path_factory):
    original = min((simulated / "merchants").glob("00-*"))
    shop = tmp_path_factory.mktemp("worker") / original.name
    shutil.copytree(original, shop)
    cache = simulated.parent / "cache"
    release, key = simulated / "release", simulated / "operator.pub"
    return Worker(release, key, shop, cache, shop / "model")


def test_a_shop_is_fitted_once_for_a_release_and_its_data(worker):
    assert _fit_if_stale(worker)
    assert not _fit_if_stale(worker)
    assert [one.serves for one in kept_models(worker.model)] == [True]


def test_the_next_run_is_the_one_behind_the_release_after_what_is_spent(worker):
    found = _next_run(worker)
    assert found.entries > 0
    assert 0.5 < found.spent_share <= 1  # a simulation's policy lets one run through
    assert not found.fits
    assert found.rounds >= 1
    assert found.run_epsilon == pytest.approx(found.spent, rel=0.02)


def test_a_job_whose_process_dies_is_told(worker, monkeypatch):
    with pytest.raises(StorageError, match="ended"):
        worker._run(_die)
    worker.close()


def _die():
    import os

    os._exit(1)
