"""A whole deployment on this machine: python -m simulations.harness.deployment, or make e2e.

One server and four merchants' nodes, each a process of its own with a folder of its own, TLS and
node keys on, every step a `fedtail` command as a person would type it: set the server up, invite,
enrol, start, run ten rounds, sign a release; each merchant fetches it, verifies it and recommends.
The shops are Online Retail's, dealt by shoppers.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from client.node.settings import merchant_folders
from client.shop.dataset import load_merchant_data
from common.identity.signing_key import PublicKey
from common.processes import Child, interruptible, start_child, stopping
from common.release.verify import verify_release
from common.settings.run import RunSettings
from server.run.checkpoint import read_checkpoint
from server.run.files import CATALOGUE_FILE
from simulations.data.datasets import load_dataset
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.memory import Memory, tree_memory
from simulations.harness.hosts import Host, Hosts, separate_hosts
from simulations.options import declared_settings

MERCHANTS = 4
START_SECONDS = 900.0  # a busy machine takes its time to encode a catalogue
DATA = Path("../shared/data/online_retail")
KEYS = ("--keys", "keys")  # the operator's, beside the server's folder
NAMES = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "gorse", "hazel")


class Deployment:
    """The steps, each a command; what a step prints is kept, and shown where it fails."""

    def __init__(self, out: Path, hosts: Hosts, *, port: int, superlink_port: int) -> None:
        self.out, self.hosts = out.resolve(), hosts
        self._port, self._superlink_port = port, superlink_port
        self.server = self.out / "server"
        self.children: list[Child] = []
        self.peaks: dict[str, Memory] = {}

    def command(self, *arguments: str, host: Host | None = None) -> str:
        """Run a `fedtail` command to its end and return what it printed.

        Raises:
            RuntimeError: if it fails, with all that it printed.
        """
        done = subprocess.run(  # noqa: S603 - our own commands, no shell
            self._line(arguments, host), capture_output=True, text=True, check=False, cwd=self.out
        )
        if done.returncode:
            told = f"{done.stdout}\n{done.stderr}".strip()
            raise RuntimeError(f"fedtail {' '.join(arguments)}: {done.returncode}\n{told}")
        return done.stdout

    def follow(self, *arguments: str, say: Callable[[str], None]) -> None:
        """Run a `fedtail` command to its end and pass on what it prints, line by line.

        Raises:
            RuntimeError: if it fails, with all that it printed.
        """
        told: list[str] = []
        with subprocess.Popen(  # noqa: S603 - our own commands, no shell
            self._line(arguments, None),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            for line in process.stdout or ():
                told.append(line)
                say(line.rstrip())
        if process.returncode:
            raise RuntimeError(
                f"fedtail {' '.join(arguments)}: {process.returncode}\n{''.join(told)}"
            )

    def start(self, name: str, *arguments: str, ready: str, host: Host | None = None) -> Child:
        """Start a `fedtail` command and wait until it prints `ready`.

        Raises:
            RuntimeError: as `wait_until`.
        """
        child = self.launch(name, *arguments, host=host)
        self.wait_until(child, ready)
        return child

    def launch(self, name: str, *arguments: str, host: Host | None = None) -> Child:
        """Start a `fedtail` command."""
        child = start_child(name, self._line(arguments, host), self.out / f"{name}.out")
        self.children.append(child)
        return child

    def wait_until(self, child: Child, ready: str) -> None:
        """Wait until a command prints `ready`.

        Raises:
            RuntimeError: if it ends, or does not say so in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and child.ended is None:
            if ready in child.last_output():
                return
            time.sleep(0.2)
        raise RuntimeError(f"{child.name} did not start:\n{child.last_output()}")

    def set_up(self) -> None:
        """Make the server's folder and the operator's keys."""
        self.command(
            *("server", "init", "--folder", "server", *KEYS, "--host", self.hosts.server),
            *("--listen", self.hosts.server, "--port", str(self._port)),
            *("--superlink-port", str(self._superlink_port)),
        )

    def enrol(self, name: str, shop: Path, host: Host) -> None:
        """Invite a merchant, make its node and let it in."""
        health = f"{host.health}:{free_port(host.health)}"
        self.command("server", "invite", "--folder", "server", *KEYS, "--name", name)
        self.command(
            *("client", "init", "--folder", name, "--invite", f"{name}.invite"),
            *("--shop", str(shop), "--address", health),
        )
        self.command(
            *("server", "enrol", "--folder", "server", *KEYS),
            *("--request", f"{name}/enrol.json"),
        )

    def watch(self, nodes: Sequence[Child], stop: threading.Event) -> None:
        """Keep each node's highest memory until `stop` is set."""
        while not stop.wait(1.0):
            for node in nodes:
                now, peak = tree_memory(node.process.pid), self.peaks.get(node.name, Memory(0, 0))
                self.peaks[node.name] = Memory(
                    max(now.resident, peak.resident), max(now.proportional, peak.proportional)
                )

    def _line(self, arguments: Sequence[str], host: Host | None) -> list[str]:
        prefix = () if host is None else host.prefix
        # -P: the folder it is started in has one named server.
        return [*prefix, sys.executable, "-P", "-m", "fedtail", *arguments]


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as one:
        one.bind((address, 0))
        port: int = one.getsockname()[1]
        return port


def make_shops(data: Path, folder: Path, asked: dict[str, Any], cache: Path | None) -> RunSettings:
    """Deal the data set's shoppers to merchants and write their folders; return the settings."""
    whole, merchants = load_dataset(data, seed=0, cache=cache), int(asked["min_merchants"])
    parts = partition_merchants(whole, how="random", merchants=merchants, seed=0)
    shops = [Shop.of(part) for part in parts]
    shoppers = sum(len(shop.data.interactions.shopper_ids) for shop in shops)
    settings = declared_settings(asked, shoppers, merchants)
    write_federation(shops, folder, settings.plan())
    return settings


def experiment_text(settings: RunSettings, catalogue: Path) -> str:
    """Return an experiment file: only what is not a default."""
    defaults = RunSettings().model_dump()
    lines = [f"catalogues = [{json.dumps(str(catalogue))}]", "", "[settings]"]
    lines += [
        f"{name} = {json.dumps(value)}"
        for name, value in settings.to_flat().items()
        if value != defaults[name]
    ]
    return "\n".join(lines) + "\n"


def main(
    data: Annotated[Path, typer.Option(help="The data set's folder.")] = DATA,
    out: Annotated[Path, typer.Option(help="A new folder for all of it.")] = Path("out/e2e"),
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 10,
    merchants: Annotated[int, typer.Option(help="How many nodes.", max=len(NAMES))] = MERCHANTS,
    noise: Annotated[str, typer.Option(help="local, or distributed from 5 nodes on.")] = "local",
) -> None:
    """Deploy, train and recommend; end with 1 where anything is not as it must be."""
    console, began = Console(soft_wrap=True), time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}", highlight=False)

    if not data.is_dir():
        say(f"Skipped: there is no data set at {data}. Name one with --data.")
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more nodes than cores
    out.mkdir(parents=True, exist_ok=False)
    cache = os.environ.get("FEDTAIL_CACHE")
    asked = {"rounds": rounds, "min_merchants": merchants, "noise": noise}
    settings = make_shops(data, out / "shops", asked, Path(cache) if cache else None)
    say(f"{merchants} shops dealt from {data.name}")
    with separate_hosts(merchants) as hosts:
        one = Deployment(out, hosts, port=free_port(hosts.server), superlink_port=free_port())
        with interruptible(), stopping(one.children):
            run_all(one, settings, say)
    say("All of it holds.")


def run_all(one: Deployment, settings: RunSettings, say: Callable[[str], None]) -> None:
    """Take every step and check what comes of it."""
    shops = merchant_folders(one.out / "shops")
    places = dict(zip(NAMES, zip(shops, one.hosts.nodes, strict=True), strict=False))
    one.set_up()
    with ThreadPoolExecutor(os.cpu_count()) as people:  # each merchant has a person of its own
        list(people.map(lambda name: one.enrol(name, *places[name]), places))
    where = "network namespaces" if one.hosts.separate else "one loopback"
    say(f"Server set up; {', '.join(places)} enrolled, in {where}")
    one.start("server", "server", "start", "--folder", "server", ready="Merchants connect to")
    nodes = [
        one.launch(name, "client", "start", "--folder", name, host=host)
        for name, (_, host) in places.items()
    ]
    text = experiment_text(settings, one.out / "shops" / CATALOGUE_FILE)
    (one.out / "first.toml").write_text(text)
    stop = threading.Event()
    watcher = threading.Thread(target=one.watch, args=(nodes, stop))
    watcher.start()  # now: each node encodes its catalogue first
    try:
        for node in nodes:
            one.wait_until(node, "is connected")
        say("Server and nodes are up")
        one.follow("server", "federate", "--folder", "server", "first.toml", say=say)
        one.follow("server", "publish", "--folder", "server", *KEYS, "first.toml", say=say)
    finally:
        stop.set()
        watcher.join()
    check_run(one, settings)
    for name, peak in one.peaks.items():
        say(f"{name}: at most {peak.proportional:.0f} MB, {peak.resident:.0f} MB with shared twice")
    with ThreadPoolExecutor(os.cpu_count()) as people:
        for told in people.map(lambda name: rank(one, name, *places[name]), places):
            say(told)
    say(one.command("server", "status", "--folder", "server").strip())


def rank(one: Deployment, name: str, shop: Path, host: Host) -> str:
    """Fetch the release as a merchant, verify it and rank with it; return what to say.

    Raises:
        RuntimeError: if a step fails.
    """
    one.command("client", "fetch", "--folder", name, host=host)
    place = one.out / name / "current"
    release = verify_release(place / "release", PublicKey.load(place / "operator.pub"))
    shopper = load_merchant_data(shop).interactions.shopper_ids[0]
    table = one.command(
        *("client", "recommend", "--release", f"{name}/current/release"),
        *("--key", f"{name}/current/operator.pub", "--shop", str(shop), "--shopper", shopper),
        *("--top", "3"),
        host=host,
    )
    if "verified" not in table:
        raise RuntimeError(f"{name} did not rank with the release:\n{table}")
    return f"{name} fetched {release.manifest.version}, verified it and ranked with it"


def check_run(one: Deployment, settings: RunSettings) -> None:
    """Hold the checkpoint to what was asked: all rounds, all merchants in each.

    Raises:
        RuntimeError: if it is not so.
    """
    checkpoint = read_checkpoint(one.server / "runs" / "first")
    if checkpoint is None or checkpoint.round_number != settings.rounds:
        raise RuntimeError("The run did not do all its rounds.")
    missed = [record.round_number for record in checkpoint.history if record.failures]
    if missed:
        raise RuntimeError(f"A node gave no update in the rounds {missed}.")


if __name__ == "__main__":
    typer.run(main)
