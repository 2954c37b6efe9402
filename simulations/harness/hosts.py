"""Places to run merchants' nodes on one machine, as far from the server as the kernel allows.

As root on Linux each node gets a network namespace of its own, with its own address and loopback:
then it can reach the proxy and nothing else of the server's, as on another machine. Elsewhere all
are on one loopback, and only their health addresses differ.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_BRIDGE = "fedtail0"
_NETWORK = "10.231.77"


@dataclass(frozen=True)
class Host:
    """Where a node runs.

    Attributes:
        prefix: Goes before its commands.
        health: The host of its health address.
    """

    prefix: tuple[str, ...]
    health: str


@dataclass(frozen=True)
class Hosts:
    """Where the server is reached, and the nodes' places."""

    server: str
    nodes: tuple[Host, ...]
    separate: bool


@contextmanager
def separate_hosts(count: int) -> Iterator[Hosts]:
    """Give places for `count` nodes, and take them down again."""
    made: list[list[str]] = []
    try:
        try:
            hosts = _namespaces(count, made)
        except (OSError, subprocess.CalledProcessError):
            hosts = _one_loopback(count)
        yield hosts
    finally:
        for undo in reversed(made):
            subprocess.run(undo, check=False, capture_output=True)  # noqa: S603 - our own commands


def _one_loopback(count: int) -> Hosts:
    nodes = tuple(Host((), f"127.0.0.{place}") for place in range(11, 11 + count))
    return Hosts("127.0.0.1", nodes, separate=False)


def _namespaces(count: int, made: list[list[str]]) -> Hosts:
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if os.geteuid() != 0 or ip is None:
        raise OSError

    def run(*arguments: str, undo: tuple[str, ...] = ()) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)  # noqa: S603 - our own commands
        if undo:
            made.append([ip, *undo])

    run("link", "add", _BRIDGE, "type", "bridge", undo=("link", "del", _BRIDGE))
    run("addr", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
    run("link", "set", _BRIDGE, "up")
    nodes = []
    for place in range(11, 11 + count):
        name, outer = f"fedtail-{place}", f"fedtail{place}"
        run("netns", "add", name, undo=("netns", "del", name))
        run("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("link", "set", outer, "master", _BRIDGE, "up")
        run("-n", name, "addr", "add", f"{_NETWORK}.{place}/24", "dev", "eth0")
        run("-n", name, "link", "set", "eth0", "up")
        run("-n", name, "link", "set", "lo", "up")
        nodes.append(Host((ip, "netns", "exec", name), "127.0.0.1"))
    return Hosts(f"{_NETWORK}.1", tuple(nodes), separate=True)
