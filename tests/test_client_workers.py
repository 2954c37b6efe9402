"""A worker has other people's libraries loaded and none of ours, so the run's own code is used."""

import subprocess
import sys

from client.workers import LIBRARIES

CHECK = """
import importlib, logging, os, sys
from client import workers
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


def test_what_is_loaded_before_a_fork_is_not_ours():
    assert not {name.partition(".")[0] for name in LIBRARIES} & {"client", "common", "server"}
