"""A worker has other people's libraries loaded and none of ours, so the run's own code is used."""

import os
import signal
import subprocess
import sys

import pytest

from client.deployment.workers import LIBRARIES

CHECK = """
import importlib, logging, os, sys
from client.deployment import workers
for name in workers.LIBRARIES:
    importlib.import_module(name)
ours = {"client", "common", "server", "simulations"}
assert ours & set(sys.modules)
workers._forget_our_code()
print(sorted(name for name in sys.modules if name.partition(".")[0] in ours))
print("torch" in sys.modules, "transformers" in sys.modules, "peft" in sys.modules)
"""


def test_a_child_starts_with_the_libraries_and_without_our_code():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True False False"]


ORPHAN = """
import os, sys, threading
from client.deployment import workers
workers.run_clientapp = lambda **_: (print(os.getpid(), flush=True), threading.Event().wait())
workers._fork("", "")
sys.stdin.readline()
os._exit(0)
"""


def test_a_child_ends_with_its_parent_although_it_waits_for_ever():
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    try:
        # The parent ends on this line; the pipe's end comes once the child has gone as well.
        parent.communicate("\n", timeout=1200)
    except subprocess.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        parent.communicate()
        pytest.fail("The child outlived its parent.")


def test_what_is_loaded_before_a_fork_is_not_ours():
    assert not {name.partition(".")[0] for name in LIBRARIES} & {"client", "common", "server"}
