"""A message's way to four nodes and back, and a node's memory: what a deployment costs by itself.

The app does nothing: what is measured is polling, processes, TLS and the proxy. What bounds a round
trip, in Flower 1.41: a node asks for messages every 3 s, fixed in Flower's code, and a round waits
for the last of its nodes; then a process for each message. See docs/adr/0016.
"""

import json
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from client.shop.dataset import save_merchant_data
from common.processes import Child, interruptible, stopping
from common.settings.run import Scalar
from server.operations.folder import ServerFolder
from server.operations.superlink import control
from simulations.benchmarks.rows import Row, of_repeats
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.federation.memory import Memory, tree_memory
from simulations.harness.deployment import NAMES, Deployment, free_port
from simulations.harness.hosts import separate_hosts

LONG = True
NODES = 4
ROUNDS = 7
RUN_SECONDS = 300.0

_PROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "nothing"
    version = "0.1.0"
    license = "Apache-2.0"
    dependencies = []

    [tool.flwr.app]
    publisher = "fedtail"

    [tool.flwr.app.components]
    serverapp = "nothing.server:app"
    clientapp = "nothing.client:app"

    [tool.flwr.app.config]
    out = ""
    nodes = 0
    rounds = 0
"""
_SERVER = """
    import json, time
    from pathlib import Path
    from flwr.app import Message, RecordDict
    from flwr.serverapp import ServerApp
    from server.run.polling_grid import PromptGrid

    app = ServerApp()

    @app.main()
    def main(grid, context):
        config, taken, grid = context.run_config, [], PromptGrid(grid)
        while len(list(grid.get_node_ids())) < config["nodes"]:
            time.sleep(0.2)
        for number in range(config["rounds"]):
            began = time.monotonic()
            asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
            replies = [one for one in grid.send_and_receive(asked) if not one.has_error()]
            assert len(replies) == config["nodes"]
            taken.append(time.monotonic() - began)
            time.sleep(1.0)  # so that no two rounds meet the nodes' polls at the same moment
        Path(config["out"]).write_text(json.dumps(taken))
"""
_CLIENT = """
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.query()
    def query(message, context):
        return Message(RecordDict(), reply_to=message)
"""


@dataclass(frozen=True)
class MeasuredDeployment:
    """What was measured.

    Attributes:
        trips: Seconds of each round trip to all nodes.
        nodes: Each node's memory after them, by name.
    """

    trips: tuple[float, ...]
    nodes: Mapping[str, Memory]


def measure_deployment() -> MeasuredDeployment:
    """Deploy four nodes, send them nothing a few times, and look at their memory."""
    with TemporaryDirectory() as temporary, separate_hosts(NODES) as hosts:
        out = Path(temporary)
        one = Deployment(out, hosts, port=free_port(hosts.server), superlink_port=free_port())
        with interruptible(), stopping(one.children):
            nodes = _deploy(one)
            trips = _run(one, _write_app(out / "app"))
            memory = {node.name: tree_memory(node.process.pid) for node in nodes}
    return MeasuredDeployment(trips, memory)


def _deploy(one: Deployment) -> list[Child]:
    size = MarketplaceSettings(merchants=NODES, min_shoppers=40, max_shoppers=60, items=200)
    data = make_marketplace(size, seed=0).data
    one.set_up()
    parts = partition_merchants(data, how="column", merchants=NODES, seed=0)
    for name, part, host in zip(NAMES, parts, one.hosts.nodes, strict=False):
        save_merchant_data(part, one.out / f"shop-{name}")
        one.enrol(name, one.out / f"shop-{name}", host)
    one.start("server", "server", "start", "--folder", "server", ready="Merchants connect to")
    return [
        one.start(name, "client", "start", "--folder", name, ready="is connected", host=host)
        for name, host in zip(NAMES, one.hosts.nodes, strict=False)
    ]


def _write_app(folder: Path) -> Path:
    files = {"pyproject.toml": _PROJECT, "nothing/server.py": _SERVER, "nothing/client.py": _CLIENT}
    for name, text in {**files, "nothing/__init__.py": ""}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def _run(one: Deployment, app: Path) -> tuple[float, ...]:
    """Run the app that does nothing.

    Raises:
        RuntimeError: if it fails or takes too long.
    """
    result = one.out / "trips.json"
    config: dict[str, Scalar] = {"out": str(result), "nodes": NODES, "rounds": ROUNDS}
    deadline = time.monotonic() + RUN_SECONDS
    with control(ServerFolder(one.server)) as link:
        run_id = link.start_run(app, config)
        while time.monotonic() < deadline:
            state = link.run(run_id)
            if state.finished:
                break
            time.sleep(1.0)
    if not result.exists():
        raise RuntimeError(f"The run ended as {state.outcome}: {state.details}")
    return tuple(json.loads(result.read_text()))


def rows() -> Iterator[Row]:
    """Measure: about two minutes on two cores."""
    measured = measure_deployment()
    trips = measured.trips[1:]  # the first also fetches the app
    yield of_repeats(f"a message that does nothing, to {NODES} nodes and back", trips, "s")
    yield Row(what="the first, which fetches the app", figure=measured.trips[0], unit="s")
    memory = [one.proportional for one in measured.nodes.values()]
    yield of_repeats("one node's processes, after them", memory, "MB")
