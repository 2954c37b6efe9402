"""How fast one service answers under load from another process. Needs wrk, a load generator.

20,000 items of a random shop, histories of twenty items, two categories left out by the filters.
"""

import contextlib
import json
import multiprocessing
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.recommending.shop_model import ModelSource, save_shop_model
from client.serving.feedback.store import Store
from client.serving.http.connections import Address, listen
from client.serving.http.context import Service
from client.serving.http.gate import Rate
from client.serving.http.service import create_app
from client.serving.keys import Keys
from client.serving.live_shop import LiveShop
from client.serving.worker import Worker
from common.errors import InputError
from simulations.benchmarks.cases.serving import HISTORY, random_model
from simulations.benchmarks.rows import Row
from simulations.harness.deployment import free_port

LONG = True
ITEMS = 20_000
PLAIN_LIMIT, EXPLAINED_LIMIT = 15.0, 40.0  # ms over one connection, of 95 in 100 answers
SECONDS = 10
BODIES = 200  # different requests, in turn
_NOTHING = "0" * 64
_LINE = re.compile(r"^\s+(50|95|99)%\s+([\d.]+)(us|ms|s)\s*$", re.MULTILINE)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class MeasuredLoad:
    """What wrk says of so many connections at once.

    Attributes:
        connections: That ask, each for the next list once it has one.
        rate: Answers a second.
        median: Seconds of an answer.
        p95: Seconds that 95 in 100 answers take at most.
        failed: Answers other than 200, and broken connections.
    """

    connections: int
    rate: float
    median: float
    p95: float
    failed: int


def rows() -> Iterator[Row]:
    """Measure one connection and four, without reasons and with them.

    Raises:
        InputError: without wrk in PATH.
        RuntimeError: if a request fails.
    """
    if shutil.which("wrk") is None:
        raise InputError("wrk is not in PATH; install it first.", field="wrk")
    with tempfile.TemporaryDirectory() as name, _served(Path(name)) as (port, key):
        for explain, limit in ((False, PLAIN_LIMIT), (True, EXPLAINED_LIMIT)):
            for connections in (1, 4):
                found = _measure(Path(name), port, key, connections, explain=explain)
                if found.failed:
                    raise RuntimeError(f"{found.failed} requests failed.")
                reasons = " with reasons" if explain else ""
                yield Row(
                    what=f"p95 of lists of {ITEMS:,} items{reasons}, {connections} connection(s), "
                    f"{found.rate:.0f} a second",
                    figure=1000 * found.p95,
                    unit="ms",
                    target=limit if connections == 1 else None,
                )


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[int, str]]:
    key = Keys(folder / "keys.json").new("load", ["serve"])
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, port))
    process.start()
    try:
        while process.is_alive():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield port, key
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, port: int) -> None:
    """Serve a random shop, as `fedtail client serve` would its own."""
    source = ModelSource(
        release="load", release_digest=_NOTHING, data_digest=_NOTHING, code_digest=_NOTHING
    )
    save_shop_model(replace(random_model(ITEMS), source=source), folder / "model")
    store = Store(f"sqlite:///{folder / 'events.db'}")
    worker = Worker(folder, folder, folder, folder, folder / "model")  # no text is read here
    app = create_app(
        Service(LiveShop(folder / "model", store), store, worker),
        Keys(folder / "keys.json"),
        Rate(1e6, 10**6),
    )
    listen(app, Address("127.0.0.1", port))


def _measure(folder: Path, port: int, key: str, connections: int, *, explain: bool) -> MeasuredLoad:
    script = folder / "load.lua"
    script.write_text(_lua(key, explain=explain), "utf-8")
    address = f"http://127.0.0.1:{port}/v1/recommendations"
    words = ["wrk", "--latency", "-t1", f"-c{connections}", "-s", str(script)]
    for seconds in (2, SECONDS):  # the first warms caches up
        said = subprocess.run(  # noqa: S603 -- our own words
            [*words, f"-d{seconds}s", address], capture_output=True, text=True, check=True
        ).stdout
    times = {int(one): float(value) * _UNITS[unit] for one, value, unit in _LINE.findall(said)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    failed = sum(int(one) for one in re.findall(r"(?:responses|connect|read|write): (\d+)", said))
    return MeasuredLoad(connections, float(rate[1]) if rate else 0.0, times[50], times[95], failed)


def _lua(key: str, *, explain: bool) -> str:
    random = np.random.default_rng(0)
    bodies = [
        {
            "history": [
                {"item_id": f"{item:06}"} for item in random.choice(ITEMS, HISTORY, replace=False)
            ],
            "count": 10,
            "filters": {"not_categories": ["Garden"], "deny": ["000001", "000002"]},
            "explain": explain,
        }
        for _ in range(BODIES)
    ]
    listed = ",\n".join(f"[[{json.dumps(one)} ]]" for one in bodies)
    return f"""local bodies = {{{listed}}}
local place = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = "{key}"
request = function()
  place = place % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[place])
end
done = function(summary, latency, requests)
  io.write(string.format("    95%%  %.3fms\\n", latency:percentile(95) / 1000))
end
"""
