"""A guarded SuperNode that shows its certificate, and does not lose a reply to a bad line.

    python -P -m client.deployment.supernode_process NODE SHOP [what flower-supernode takes]

It asks for the next message sooner while a run goes on: Flower's waits three seconds each time, of
which a run of many short rounds is mostly made.

Flower's SuperNode cannot show a client's certificate, and its command has no option for one. It
also gives a request up, and throws the reply away, where the connection breaks during the TLS
handshake, as it does at a server with too many connections. Both are decided in one place each,
which is put right here, in the process that the merchant's own installation starts. A request that
is sent again is the same request: nothing is trained, drawn or charged anew, and SuperLink takes a
reply that it has as the one it has.
"""

import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.deployment.certificate import showing
from client.deployment.provisioning import NodeFolder
from client.privacy import app_guard
from common.errors import FedtailError, PolicyError

TRY_AGAIN = frozenset({408, 425, 429})  # too slow, too early, too often: none of them is a no
IDLE_SECONDS = 3.0  # Flower's own wait where there was no message
BUSY_SECONDS = 1.0  # ours, for a minute after a message: the next one may be there any moment
BUSY_FOR = 60.0


def equip(connection: Any, folder: NodeFolder) -> None:
    """Have a SuperNode's connections show the node's certificate, and be patient.

    Args:
        connection: Flower's module `flwr.supernode.fleet_http_connection`.
        folder: The node's.

    Raises:
        PolicyError: if this version of Flower has no such places.
        EnrolmentError: if its certificate cannot be read.
    """
    patient = getattr(connection, "make_simple_http_retry_invoker", None)
    if patient is None or not hasattr(connection, "FleetHttpClient"):
        raise PolicyError("This version of Flower cannot show a certificate.", field="node")
    context = showing(folder)  # it is known before anything is started that it can be read

    class Showing(FleetHttpClient):
        """Flower's client, with a certificate of its own."""

        @classmethod
        def from_server_address(cls, server_address: str, *_: Any, **parts: Any) -> "Showing":
            known = [*parts["interceptors"], Renewed(context, folder.tls)]
            return cls(f"https://{server_address}", interceptors=known, verify=context)

    def make_patient() -> Any:
        invoker = patient()
        invoker.should_giveup = patiently(invoker.should_giveup)
        return invoker

    connection.FleetHttpClient = Showing
    connection.make_simple_http_retry_invoker = make_patient


class Sooner:
    """Stands for the module `time` in Flower's loop of a SuperNode, and shortens its long wait.

    The loop waits `IDLE_SECONDS` where the server has no message, and less only while it has one to
    answer. So a run's rounds are asked for each second, and a node without a run as by Flower.
    """

    def __init__(self, clock: Any = time) -> None:
        self._clock, self._answered = clock, -BUSY_FOR

    def sleep(self, seconds: float) -> None:
        """Wait so long, or shorter while a run goes on."""
        now = self._clock.monotonic()
        if seconds < IDLE_SECONDS:
            self._answered = now
        elif now - self._answered < BUSY_FOR:
            seconds = BUSY_SECONDS
        self._clock.sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


class Renewed:
    """Takes a renewed certificate into use: a SuperNode runs for longer than one holds."""

    def __init__(self, context: ssl.SSLContext, path: Path) -> None:
        self._context, self._path = context, path
        self._read = path.stat().st_mtime_ns if path.exists() else 0

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Read the certificate again where its file is another; then go on."""
        with suppress(OSError):  # the one that was read holds
            written = self._path.stat().st_mtime_ns
            if written != self._read:
                self._context.load_cert_chain(str(self._path))
                self._read = written
        return call_next(context)


def patiently(gives_up: Callable[[Exception], bool]) -> Callable[[Exception], bool]:
    """Return when to give a request up: as `gives_up`, but never for a connection that broke."""

    def decide(error: Exception) -> bool:
        if isinstance(error, httpx.TransportError):
            return is_untrusted(error)
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in TRY_AGAIN:
            return False
        return gives_up(error)

    return decide


def is_untrusted(error: BaseException | None) -> bool:
    """Return whether a request failed because the server's certificate does not fit."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def main() -> None:
    """Be a guarded SuperNode of the node in the folder that comes first.

    Raises:
        SystemExit: if there is no such folder, or its certificate cannot be read.
    """
    if len(sys.argv) < 3:
        raise SystemExit("usage: supernode_process NODE SHOP [what flower-supernode takes]")
    folder = NodeFolder(Path(sys.argv.pop(1)))
    vars(start_client_internal)["time"] = Sooner()
    try:
        equip(fleet_http_connection, folder)
    except FedtailError as error:
        raise SystemExit(f"{error}") from None
    app_guard.main()


if __name__ == "__main__":
    main()
