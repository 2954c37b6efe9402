"""Memory is that of the whole tree, and so is processor time."""

import sys

import pytest

from simulations.benchmarks.children import spent

HOLD = "import time; held = b'x' * 60_000_000; time.sleep(0.4)"
BOTH = (
    "import subprocess, sys, time; held = b'x' * 60_000_000; "
    f"subprocess.run([sys.executable, '-c', {HOLD!r}], check=True)"
)
WORK = "import time\nwhile time.process_time() < 0.3: pass"


def test_memory_is_that_of_the_process_and_of_its_child():
    assert 60 < spent([sys.executable, "-c", HOLD]).megabytes < 110
    assert spent([sys.executable, "-c", BOTH]).megabytes > 120


def test_processor_time_is_that_of_the_process_and_of_its_child():
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORK!r}], check=True)"
    assert spent([sys.executable, "-c", child]).seconds >= 0.3


def test_child_has_one_thread():
    words = "import os; assert os.environ['POLARS_MAX_THREADS'] == os.environ['OMP_NUM_THREADS']"
    spent([sys.executable, "-c", f"{words} == '1'"])


def test_child_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="ended with 3"):
        spent([sys.executable, "-c", "raise SystemExit(3)"])
