"""Flower's own engine for a test: a SuperLink on the loopback, started and stopped by its id."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

import httpx

from client.privacy.app_guard_command import guarded_command

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def copy_app(folder):
    """The app as it stands, in a folder whose name Flower accepts."""
    app = folder / "fedtail"
    for room in ("client", "common", "server"):
        shutil.copytree(ROOT / room, app / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, app / file)
    return app


def as_option(config):
    """A run config as the text that `--run-config` takes."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())


class Engine:
    """A SuperLink in `home`, and the `flwr` command that talks to it. Stops what it started."""

    def __init__(self, home, *, simulation):
        self.home = home
        self.port = free_port()
        self.processes = []
        home.mkdir(parents=True)
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "test"\n\n[superlink.test]\n'
            f'address = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        options = ["--insecure", "--host", "127.0.0.1", "--port", str(self.port)]
        if not simulation:
            options += ["--database", str(home / "link.db")]
        self.spawn("flower-superlink", *options, *(["--simulation"] if simulation else []))
        self._wait_until_up()

    def environment(self, home):
        scripts = sysconfig.get_path("scripts")
        return os.environ | {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }

    def spawn(self, *command, name="superlink"):
        home = self.home if name == "superlink" else self.home / name
        home.mkdir(exist_ok=True)
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment(home), cwd=home
            )
        self.processes.append(process)

    def flwr(self, *arguments):
        done = subprocess.run(
            ["flwr", *arguments, "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(self.home),
            timeout=1200,
        )
        start = done.stdout.find("{")
        assert start >= 0, done.stdout + done.stderr
        return json.JSONDecoder().raw_decode(done.stdout[start:])[0]

    def run(self, app, *arguments, timeout=2400.0):
        """Run `app` to its end and return Flower's row about it."""
        started = self.flwr("run", str(app), "test", *arguments)
        assert started["success"], started
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            (row,) = self.flwr("list", "test", "--run-id", started["run-id"])["runs"]
            if row["status"].startswith("finished"):
                return row
            time.sleep(2)
        raise AssertionError(f"The run did not end in {timeout} seconds:\n{self.log()}")

    def log(self):
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.home.glob("*.log"))
        )

    def _wait_until_up(self):
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1).is_success:
                    return
            time.sleep(0.3)
        raise AssertionError(f"The SuperLink did not start:\n{self.log()}")

    def add_node(self, folder):
        """Start a guarded SuperNode for the merchant whose shop is `folder`, with its own home."""
        self.spawn(
            *(*guarded_command(folder), "--insecure", "--superlink", f"127.0.0.1:{self.port}"),
            *("--port", str(free_port()), "--node-config", f'data="{folder}"'),
            name=f"node-{folder.name}",
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
