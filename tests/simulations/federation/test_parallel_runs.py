"""Trainings in processes of their own: the same adapters, clear errors, a stop that can go on."""

import errno
import itertools
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from common.errors import FederationError, QuorumError
from common.processes import usable_cores
from server.run.checkpoint import read_checkpoint
from simulations.data.shop import Shop
from simulations.federation.comparisons import Trainer
from simulations.federation.parallel_runs import SideBySide, train_side_by_side
from simulations.federation.pool_worker import THREADS
from tests.support.pool_work import make_number, tell_for_ever, tell_much, what_is_loaded
from tests.support.shops import make_settings, make_shop

ROUNDS = 3


@pytest.fixture
def trainer(tiny_bert, tmp_path):
    settings = make_settings(base_model=str(tiny_bert), rounds=ROUNDS, seeded_noise=True)
    return Trainer(tmp_path / "out", tmp_path / "cache", settings)


@pytest.fixture(scope="module")
def shops():
    return [Shop.of(make_shop(name, seed=seed)) for seed, name in enumerate(("Ash", "Birch"))]


def folders(trainer):
    return sorted((trainer.folder / "checkpoints").iterdir())


def test_processes_tell_of_rounds_and_give_what_they_made_in_the_jobs_order(monkeypatch):
    """Two processes and five jobs that make an adapter of their number, the first the slowest."""
    monkeypatch.setattr("simulations.federation.parallel_runs._work", make_number)
    told = []
    made = train_side_by_side([5, 3, 2, 1, 0], lambda place, news: told.append((place, news)), 2)
    assert [adapter.flatten().tolist() for adapter in made] == [[5], [3], [2], [1], [0]]
    assert sorted(told) == [(0, 5), (1, 3), (2, 2), (3, 1), (4, 0)]


def test_a_process_that_cannot_be_made_later_is_told_of(monkeypatch):
    """One that a task's end should begin: nobody else does, and nobody would wait for it."""
    monkeypatch.setattr("simulations.federation.parallel_runs._work", make_number)
    submit, begun = ProcessPoolExecutor.submit, []

    def scarce(self, *task):
        begun.append(task)
        if len(begun) > 2:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return submit(self, *task)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", scarce)
    with SideBySide(2) as beside, pytest.raises(OSError, match="allocate"):  # noqa: PT012 - any of these
        beside.begin([5, 5, 0])
        list(beside.finish(lambda *news: None))


def test_what_has_begun_waits_for_no_caller_and_leaves_it_a_core(monkeypatch, tmp_path):
    """Three jobs that tell of more than a pipe holds, two processes, and a caller that is busy."""
    monkeypatch.setattr("simulations.federation.parallel_runs._work", tell_much)
    places = [tmp_path / str(number) for number in range(3)]
    told = []
    with SideBySide(2) as beside:
        beside.begin(places)
        while not places[-1].exists():
            time.sleep(0.02)
        spans = [tuple(map(float, place.read_text().split())) for place in places]
        found = dict(beside.finish(lambda place, number: told.append((place, number))))
    assert {place: one.flatten().tolist() for place, one in found.items()} == {
        0: [0.0], 1: [1.0], 2: [2.0]
    }  # fmt: skip
    assert sorted(told) == [(place, number) for place in range(3) for number in range(4000)]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def threads_of_products():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_beside_trainings_a_caller_keeps_to_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr("simulations.federation.parallel_runs._work", make_number)
    with threadpool_limits(4), SideBySide(usable_cores()) as beside:
        with beside.leaving_cores():
            assert threads_of_products() == {4}, "nothing goes on beside it"
        beside.begin([0])
        with beside.leaving_cores():
            assert threads_of_products() == {1}
            list(beside.finish(lambda *news: None))
        assert threads_of_products() == {4}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process loads its own")
def test_what_a_training_needs_is_loaded_once_with_as_many_threads_as_it_may_have(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("simulations.federation.parallel_runs._work", what_is_loaded)
    with SideBySide(2) as beside:
        beside.warm_up()
        beside.begin(["torch", "common.encoder.base_model", "transformers", "peft"])
        found = dict(beside.finish(lambda *_: None))
    each = max(usable_cores() // 2, 1)
    assert [found[place].flatten().tolist() for place in range(4)] == [[each], [each], [0], [0]]
    assert not set(THREADS) & set(os.environ)


@pytest.mark.slow
def test_two_at_once_train_what_one_after_the_other_does(trainer, shops, tmp_path):
    rounds = {1: [], 2: []}
    trained = {}
    for processes, seen in rounds.items():
        one = Trainer(tmp_path / str(processes), trainer.cache, trainer.settings)
        comparisons = [one.without_noise(shops), *(one.solo(*each) for each in enumerate(shops))]
        trained[processes] = one.compared(
            comparisons, lambda run, record, seen=seen: seen.append((run, record.round_number)),
            processes,
        )  # fmt: skip
        assert [adapter.digest for adapter in trained[processes]] == [
            read_checkpoint(folder).adapter.digest for folder in folders(one)
        ]
    for alone, beside in zip(trained[1], trained[2], strict=True):  # sums of fewer threads round
        assert beside.flatten() == pytest.approx(alone.flatten(), abs=1e-4)
        assert np.abs(alone.flatten()).max() > 0.01
    assert len({adapter.digest for adapter in trained[1]}) == 3
    assert (
        sorted(rounds[2])
        == rounds[1]
        == [(run, number) for run in range(3) for number in (1, 2, 3)]
    )


@pytest.mark.slow
def test_what_stops_one_is_raised_as_it_was_raised_there(trainer, shops):
    job = trainer._prepared(shops[:1], trainer.folder / "one", trainer.settings, "one")
    other = trainer._prepared(shops[1:], trainer.folder / "two", trainer.settings, "two")
    [policy] = job.federation.glob("*/policy.toml")
    policy.write_text(policy.read_text().replace("allow_seeded_noise = true", ""))
    with pytest.raises(QuorumError, match=r"0 nodes are ready .* 1 refused"):
        train_side_by_side([job, other], lambda *_: None, 2)


def test_ctrl_c_ends_every_process_at_its_next_round(monkeypatch, tmp_path):
    """Processes that would tell of rounds for ever, and train nothing."""
    monkeypatch.setattr("simulations.federation.parallel_runs._work", tell_for_ever)

    def press(run, record):
        raise KeyboardInterrupt

    places = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(places, press, 2)
    assert {path.read_text() for path in places if path.exists()} == {"Stopped"}
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_ctrl_c_stops_all_after_their_round_and_the_same_call_goes_on(trainer, shops):
    rounds = 60  # more than are done before anybody looks
    settings = trainer.settings.model_copy(update={"rounds": rounds})
    trainer = replace(trainer, settings=settings)
    comparisons = [trainer.solo(*each) for each in enumerate(shops)]

    def press(run, record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.compared(comparisons, press, 2)
    assert all(0 < len(read_checkpoint(one).history) < rounds for one in folders(trainer))
    adapters = trainer.compared(comparisons, lambda *_: None, 2)
    assert [len(read_checkpoint(one).history) for one in folders(trainer)] == [rounds] * 2
    assert [one.digest for one in adapters] == [
        read_checkpoint(one).adapter.digest for one in folders(trainer)
    ]


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_of_and_the_same_call_goes_on(trainer, shops):
    comparisons = [trainer.solo(*each) for each in enumerate(shops)]

    def kill(run, record):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with pytest.raises(FederationError, match="--processes 1"):
        trainer.compared(comparisons, kill, 2)
    trainer.compared(comparisons, lambda *_: None, 1)
    assert [len(read_checkpoint(one).history) for one in folders(trainer)] == [ROUNDS] * 2


def test_no_job_is_no_work():
    assert train_side_by_side([], lambda *_: None) == []
