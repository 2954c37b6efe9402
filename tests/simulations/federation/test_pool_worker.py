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
    caller.begin(3, told, stop)
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


CALLER = """
import multiprocessing, os, sys, time
from simulations.federation.pool_worker import begin

def work(told, stop, mine):
    begin(1, told, stop)
    mine.put(os.getpid())
    time.sleep(1200)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    told, mine, stop = context.SimpleQueue(), context.SimpleQueue(), context.Event()
    context.Process(target=work, args=(told, stop, mine)).start()
    print(mine.get(), flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["spawn", "forkserver"])
def test_a_process_whose_caller_was_killed_ends(tmp_path, how):
    if how not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system makes no processes by {how}")
    (tmp_path / "a_caller.py").write_text(CALLER)
    command = [sys.executable, str(tmp_path / "a_caller.py"), how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}
    ) as called:
        assert int(called.stdout.readline()) > 0
        assert called.stdout.read() == ""  # open as long as the worker lives, which has it too


def test_nothing_heavy_is_loaded_before_the_threads_are_set():
    code = (
        "import sys, simulations.federation.pool_worker; "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1200, check=True
    )
    assert done.stdout.strip() == "[]"
