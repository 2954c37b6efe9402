"""Start an operator's server, SuperLink and the proxy before it, and look after both."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from common.errors import FederationError, SettingsError
from common.identity.expiry import days_left, load_certificate
from common.processes import (
    Child,
    flower_environment,
    serving,
    start_child,
    stopping,
    wait_for_end,
)
from server.operations.admission import admit
from server.operations.door.access_log import rotate_access_log
from server.operations.door.node_certificates import certificate_warnings
from server.operations.door.ownership import check_ownership, one_user
from server.operations.door.proxy import (
    check_proxy,
    proxy_command,
    proxy_listens,
    write_proxy_config,
)
from server.operations.folder import ServerFolder
from server.operations.provisioning import warnings
from server.operations.publication.publishing import hourly_refresh, metadata_warnings
from server.operations.superlink import control, superlink_answers
from server.operations.task_launcher import launcher_command
from server.run.files import SERVER_FOLDER

PROXY = "the proxy"
# What SuperLink's forty threads have read goes back to the system, and not to an arena of each
# thread (glibc).
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "65536"}
START_SECONDS = 300.0  # a busy machine takes its time; one that ends is told at once


def serve(
    folder: ServerFolder, now: datetime, say: Callable[[str], None], *, proxy: bool = True
) -> None:
    """Run the server until it is stopped with Ctrl-C or SIGTERM.

    Args:
        folder: The server's.
        now: To judge the certificate by.
        say: Told what happens, one line each.
        proxy: Whether to start the reverse proxy; else somebody else does.

    Raises:
        SystemExit: with 0, as SIGTERM asked.
        SettingsError: if the folder, its certificate or nginx is not ready.
        FederationError: if SuperLink does not come up, or one of the two ends by itself.
    """
    settings = folder.settings()
    _check_certificate(folder, now)
    for warning in certificate_warnings(folder, now):
        say(warning)
    write_proxy_config(folder)  # also for a proxy that somebody else starts
    check_ownership(folder)
    if proxy:
        check_proxy(folder)
        if warning := one_user(folder):
            say(warning)
    if superlink_answers(folder):
        raise SettingsError(
            f"A server of this folder runs already on {settings.superlink}.", field="folder"
        )
    folder.runs.mkdir(exist_ok=True)
    children: list[Child] = []
    with serving(), stopping(children):
        children.append(_start_superlink(folder))
        _wait_until_up(children[0], lambda: superlink_answers(folder))
        children.append(_start_launcher(folder))
        with control(folder) as link:
            changed = admit(folder, link)
        for name in changed.admitted:
            say(f"{name} may connect.")
        for name in changed.refused:
            say(f"{name} may not connect any more.")
        if proxy:
            command = proxy_command(folder)
            children.append(start_child(PROXY, command, folder.logs / "proxy.log"))
            _wait_until_up(children[-1], lambda: proxy_listens(folder))
            say(f"Merchants connect to {settings.address}. Logs: {folder.logs}")
        else:
            say(f"SuperLink is up on {settings.superlink}, without a proxy.")
        refresh = hourly_refresh(folder, say, time.monotonic)

        def often() -> None:
            refresh()
            _rotate_log(folder, children)

        ended = wait_for_end(children, lambda: _warn(folder, say), often)
        raise FederationError(
            f"{ended.name} ended by itself (status {ended.ended}); the end of {ended.log}:\n"
            f"{ended.last_output()}",
            field="server",
        )


def _warn(folder: ServerFolder, say: Callable[[str], None]) -> None:
    now = datetime.now(UTC)
    for warning in (*warnings(folder, now), *metadata_warnings(folder, now)):
        say(warning)


def _rotate_log(folder: ServerFolder, children: Sequence[Child]) -> None:
    for child in children:
        if child.name == PROXY:
            rotate_access_log(folder, child.process.pid)


def superlink_command(folder: ServerFolder) -> list[str]:
    """Return the command for SuperLink: TLS, node keys, a database, and nothing installed."""
    root = ServerFolder(folder.root.resolve())
    host, _, port = folder.settings().superlink.rpartition(":")
    return [
        *(sys.executable, "-P", "-m", "server.operations.door.superlink_process"),
        *("--host", host, "--port", port),
        *("--ssl-ca-certfile", str(root.authority)),
        *("--ssl-certfile", str(root.tls_certificate), "--ssl-keyfile", str(root.tls_key)),
        "--enable-supernode-auth",
        *("--database", str(root.database)),
        "--disable-runtime-dependency-installation",
        *("--isolation", "process"),  # server.operations.task_launcher starts the processes
    ]


def _start_superlink(folder: ServerFolder) -> Child:
    return start_child(
        "SuperLink",
        superlink_command(folder),
        folder.logs.resolve() / "superlink.log",
        _ALLOCATOR | flower_environment(folder.flower_home),
    )


def _start_launcher(folder: ServerFolder) -> Child:
    return start_child(
        "the task launcher",
        launcher_command(folder, os.getpid()),
        folder.logs.resolve() / "launcher.log",
        flower_environment(folder.flower_home) | {SERVER_FOLDER: str(folder.root.resolve())},
    )


def _wait_until_up(child: Child, is_up: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.ended is None:
        if is_up():
            return
        time.sleep(0.2)
    raise FederationError(
        f"{child.name} did not come up; the end of {child.log}:\n{child.last_output()}",
        field="server",
    )


def _check_certificate(folder: ServerFolder, now: datetime) -> None:
    if days_left(load_certificate(folder.tls_certificate), now) < 0:
        raise SettingsError(
            "The server's certificate has expired; nodes would refuse this server. Run `fedtail "
            "server rotate`, and check this machine's clock.",
            field="certificate",
        )
