"""One command to the page: fit the shop if that is due, serve it, and open a browser on it."""

import contextlib
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import replace

from client.serving.run import Serving, run_service, worker_of
from common.errors import InputError

_PORTS = 20  # looked at, from the one that is asked for
_PATIENCE = 30.0  # seconds until the service listens


def open_page(serving: Serving, tell: Callable[[str], None], *, browser: bool) -> None:
    """Serve a shop with the page until the process is told to stop.

    Args:
        serving: As for `run_service`; of its port and the next ones the first free one is taken.
        tell: Is given each line to print.
        browser: Whether to open one, where there is a screen.

    Raises:
        InputError: if no port is free, or as `run_service`.
        FedtailError: as `fit_and_keep`, if the shop has to be fitted first.
    """
    tell("Looking whether the shop's model is of this release; fitting one takes a minute or two.")
    if worker_of(serving).fit_if_stale():
        tell("Fitted.")

    def ready(address: str) -> None:
        tell(f"Open it, once within ten minutes: {address}")
        if browser and _has_screen():
            threading.Thread(target=_browse, args=(address, listening), daemon=True).start()

    listening = (serving.host, _free_port(serving.host, serving.port))
    run_service(replace(serving, port=listening[1], ready=ready), tell)


def _free_port(host: str, first: int) -> int:
    for port in range(first, min(first + _PORTS, 65_536)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind((host, port))
            return port
    raise InputError(
        f"None of the ports {first} to {first + _PORTS - 1} is free; name another with --port.",
        field="port",
    )


def _has_screen() -> bool:
    """Whether a browser would open a window: one in this terminal would be in the way."""
    known = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(name) for name in known)


def _browse(address: str, listening: tuple[str, int]) -> None:
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(listening, 1.0):
            webbrowser.open(address)
            return
        time.sleep(0.2)
