"""Start a merchant's node: check its connection, then run a SuperNode and look after it."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from client.deployment.certificate_expiry import warnings
from client.deployment.connection_wait import RETRY_SECONDS, connection_wait_command, read_answers
from client.deployment.encode_ahead import encode_ahead_command
from client.deployment.provisioning import NodeFolder
from client.privacy.app_guard_command import GuardLines, guarded_environment
from common.encoder.device import device_environment
from common.errors import EnrolmentError, FederationError, SettingsError
from common.processes import (
    POLL_SECONDS,
    Child,
    flower_environment,
    serving,
    start_child,
    stopping,
    wait_for_end,
)

SOON_SECONDS = 30.0  # a SuperNode that ends sooner would end again
# Blocks of 64 kB and more go back to the system as soon as they are free (glibc). A training step
# makes many; kept for the next step they are 70 MB of a node, and save it half a second a round.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_OURS = frozenset("\"'\\\n")  # what Flower would read as its own in a node's configuration


def run_node(folder: NodeFolder, say: Callable[[str], None]) -> None:
    """Run the node until it is stopped with Ctrl-C or SIGTERM.

    Args:
        folder: The node's.
        say: Told what happens, one line each.

    Raises:
        SettingsError: if the folder or the shop is not ready, or the node runs already.
        EnrolmentError: if the server will not let this node in, now or any more; says why.
        FederationError: if the SuperNode ends by itself as soon as it is started, and the server
            is up and lets the node in. One that ends later is started again.
    """
    supernode_command(folder)  # what is wrong with the folder is found before anybody is asked
    with serving(), _only_one(folder):
        _encode_ahead(folder, say)
        _wait_for_server(folder, say)
        while True:
            began = time.monotonic()
            ended = _run_until_one_ends(folder, say)
            soon = time.monotonic() - began < SOON_SECONDS
            say(f"The {ended.name} ended by itself (status {ended.ended}); asking the server.")
            was_there = _wait_for_server(folder, say)  # one that has put the node out says so here
            if soon and was_there:
                raise FederationError(
                    f"The server lets this node in, and the {ended.name} ends; the end of "
                    f"{ended.log}:\n{ended.last_output()}",
                    field="node",
                )


def _run_until_one_ends(folder: NodeFolder, say: Callable[[str], None]) -> Child:
    config = folder.config()
    flower = _ALLOCATOR | flower_environment(folder.flower_home)  # whose environment has the word
    environment = flower | guarded_environment(config.data) | device_environment(config.device)
    children: list[Child] = []
    _apart(folder, "client.node.introduction", say)
    with stopping(children):
        for name, line in _commands(folder).items():
            log = folder.logs.resolve() / f"{name}.log"
            children.append(start_child(name, line, log, environment))
        say(f"{config.merchant} is connected to {config.server}. Logs: {folder.logs}")
        say(f"Health: http://{config.address}/health")
        guard = GuardLines(children[0].log)

        def tell() -> None:
            for line in guard.fresh():
                say(line)

        return wait_for_end(children, lambda: _daily(folder, say), tell)


def _encode_ahead(folder: NodeFolder, say: Callable[[str], None]) -> None:
    """Have the catalogue encoded while nothing else of the node holds memory.

    What fails here is said, and does not keep the node from its server: a run that needs it is
    refused by the message that meets it.
    """
    say("Encoding what is new in the catalogue, which takes a while the first time.")
    config = folder.config()
    line = encode_ahead_command(config.data.resolve(), (config.state_folder / "cache").resolve())
    environment = os.environ | device_environment(config.device)
    child = start_child("encoder", line, folder.logs.resolve() / "encoder.log", environment)
    with stopping([child]):
        wait_for_end([child])
    if child.ended:
        say(f"The catalogue is not encoded yet: {child.last_output().strip()}")


def _daily(folder: NodeFolder, say: Callable[[str], None]) -> None:
    _apart(
        folder, "client.deployment.certificate"
    )  # what fails is asked for again tomorrow, for two months
    _apart(folder, "client.node.introduction", say)
    for warning in warnings(folder, datetime.now(UTC)):
        say(warning)


def _apart(folder: NodeFolder, module: str, say: Callable[[str], None] | None = None) -> None:
    """Run a module to its end in a process of its own, and say what it failed with."""
    line = [sys.executable, "-P", "-m", module, str(folder.root.resolve())]
    name = module.rpartition(".")[2]
    child = start_child(name, line, folder.logs.resolve() / f"{name}.log")
    with stopping([child]):
        wait_for_end([child])
    if child.ended and say is not None:
        say(f"The node's {name} failed: {child.last_output().strip()}")


def _commands(folder: NodeFolder) -> dict[str, list[str]]:
    """Return the node's two parts: one speaks with the server, one forks a process a message."""
    workers = [
        sys.executable,
        "-P",
        "-m",
        "client.deployment.workers",
        folder.config().address,
        str(os.getpid()),
    ]
    return {"supernode": supernode_command(folder), "workers": workers}


def supernode_command(folder: NodeFolder) -> list[str]:
    """Return the command for the guarded SuperNode. It names files; no secret stands in it.

    Raises:
        SettingsError: if there is no shop, or a path has a character that Flower reads as its own.
    """
    config = folder.config()
    if not config.data.is_dir():
        raise SettingsError(
            f"`data` names {config.data}, which is no folder; import the shop first.", field="data"
        )
    places = {"data": config.data, "merchant": config.merchant, "state": config.state_folder}
    for name, value in places.items():
        if _OURS & set(str(value)):
            raise SettingsError(
                f"`{name}` must have no quote, backslash or line break in it.", field=name
            )
    host, _, port = config.address.rpartition(":")
    return [
        *_process_command(folder.root.resolve(), config.data.resolve()),
        *("--superlink", config.server),
        *("--root-certificates", str(folder.authority.resolve())),
        *("--auth-supernode-private-key", str(folder.key.resolve())),
        *("--host", host, "--port", port),
        *("--isolation", "process"),  # client.deployment.workers starts the processes
        *("--node-config", " ".join(f'{name}="{value}"' for name, value in places.items())),
    ]


def _process_command(folder: Path, shop: Path) -> list[str]:
    # Flower is not loaded here to learn a module's name. -P: a folder named client in this one
    # would hide the package.
    module = "client.deployment.supernode_process"
    return [sys.executable, "-P", "-m", module, str(folder), str(shop)]


def _wait_for_server(folder: NodeFolder, say: Callable[[str], None]) -> bool:
    """Return once the server lets the node in: whether it did so at the first connection check.

    Raises:
        EnrolmentError: if it never will; says why.
        FederationError: if the process that knocks ends in another way.
    """
    command = connection_wait_command(folder.root.resolve())
    waiting = start_child("waiting", command, folder.logs.resolve() / "waiting.log")
    told = False
    with stopping([waiting]):
        while True:
            ended = waiting.ended  # before its answers are read: it prints none after
            answers = read_answers(waiting.last_output())
            if not told and any(not one.final for one in answers):
                say(f"{answers[0].message} Trying again every {RETRY_SECONDS:.0f} seconds.")
                told = True
            if ended is not None:
                break
            time.sleep(POLL_SECONDS)
    if ended == 0:
        return not told
    if answers and answers[-1].final:
        raise EnrolmentError(answers[-1].message, field=answers[-1].field)
    raise FederationError(f"The connection check failed:\n{waiting.last_output()}", field="server")


@contextmanager
def _only_one(folder: NodeFolder) -> Iterator[None]:
    """Hold the folder's lock: two SuperNodes with one key would throw each other out."""
    path: Path = folder.root / "node.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SettingsError(f"The node in {folder.root} runs already.", field="folder") from None
    try:
        yield
    finally:
        os.close(descriptor)
