"""A service in a process of its own, as a merchant starts it."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

SECONDS = 120.0


def free_port():
    """A port of the loopback that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(command, folder, port, cache):
    """Start `fedtail client serve` and wait until it is ready; kill it at the end if it runs."""
    environment = os.environ | {"FEDTAIL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    program = "import sys, fedtail; fedtail.app(sys.argv[1:])"
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *command, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health/ready", process)
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(address, process):
    """Return when the address answers with 200."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the service ended"
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError(address)
