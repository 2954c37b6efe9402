"""A PostgreSQL of Debian's own binaries on the loopback, for as long as a test needs it."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.serving_process import free_port

BINARIES = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"


@contextmanager
def cluster():
    """Give the address of an empty database; skip where there is no PostgreSQL to start."""
    if not (BINARIES / "initdb").exists():
        pytest.skip(f"no PostgreSQL in {BINARIES}")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    as_owner = []
    if os.geteuid() == 0:  # initdb refuses root
        if shutil.which("runuser") is None:
            pytest.skip("initdb refuses root, and there is no runuser to be another")
        as_owner = ["runuser", "-u", USER, "--"]
    folder = Path(tempfile.mkdtemp(prefix="fedtail-pg-"))
    if as_owner:
        shutil.chown(folder, USER)

    def run(*words):
        done = subprocess.run(
            [*as_owner, *words], cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    port, data = free_port(), folder / "data"
    control = str(BINARIES / "pg_ctl")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    try:
        run(str(BINARIES / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8")
        run(control, "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            run(control, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
