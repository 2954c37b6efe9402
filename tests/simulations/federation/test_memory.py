import subprocess
import sys
from pathlib import Path

import pytest

from simulations.federation.memory import PeakMemory

linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux counts it")
HOLD = "import sys; held = b'1' * int(sys.argv[1]); print(flush=True); sys.stdin.read()"


@linux
def test_what_a_child_held_for_a_while_is_counted():
    with PeakMemory(look_seconds=0.05) as memory:
        before = memory.look()
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(200_000_000)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        child.stdout.readline()
        most = memory.look()
        child.communicate(b"")
    assert 200 < most - before < 260
    assert memory.megabytes >= most


def test_where_linux_does_not_count_it_it_is_this_process_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("simulations.federation.memory._PROC", tmp_path / "none")
    with PeakMemory() as memory:
        assert memory.look() > 10
