import multiprocessing
import os
import subprocess
import sys

import pytest

from simulations.federation import pool_worker
from simulations.federation.pool_worker import THREADS, Caller, Stopped


@pytest.fixture
def line(monkeypatch):
    """A caller's line of this process, which stays as it was."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(pool_worker, "signal", lambda *_: None)
    context = multiprocessing.get_context("spawn")
    told, stop = context.SimpleQueue(), context.Event()
    caller = Caller()
    caller.begin(3, os.getppid(), told, stop)
    yield caller, told, stop
    told.close()


def test_libraries_start_no_more_threads_than_the_process_may_have(line):
    assert {name: os.environ[name] for name in THREADS} == dict.fromkeys(THREADS, "3")


def test_news_arrive_and_a_caller_that_wants_no_more_ends_the_run(line):
    caller, told, stop = line
    caller.tell((1, "round"))
    assert told.get() == (1, "round")
    stop.set()
    with pytest.raises(Stopped):
        caller.tell((2, "round"))


def test_a_process_whose_caller_has_gone_ends():
    code = "from simulations.federation.pool_worker import _end_with; _end_with(-1)"
    done = subprocess.run([sys.executable, "-c", code], timeout=1200, check=False)
    assert done.returncode == 1


def test_nothing_heavy_is_loaded_before_the_threads_are_set():
    code = (
        "import sys, simulations.federation.pool_worker; "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1200, check=True
    )
    assert done.stdout.strip() == "[]"
