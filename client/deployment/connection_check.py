"""Knock at the server before the node starts: TLS, the authority and the key, each its own answer.

A SuperNode tries again for ever when a certificate does not fit, and says no more than "failed"
when its key is refused. So the node asks first, with Flower's own client, and says which it is.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.deployment.certificate import renew_certificate, showing
from client.deployment.provisioning import NodeFolder
from common.errors import EnrolmentError, FederationError
from common.files import write_atomic
from common.identity.node_key import NodeKey

_AWAY = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64  # OpenSSL's verify codes
_CLOCKS_APART = 240  # seconds; SuperLink refuses what was signed more than 305 seconds ago


def check_connection(folder: NodeFolder, now: datetime) -> None:
    """Return if the server lets this node in; the node is left disconnected, ready to start.

    A node that was killed still counts as connected for a minute, and the server would refuse it
    so long. It signs itself off first, by the number it was given when it connected last.

    Raises:
        FederationError: if the server does not answer. It may later.
        EnrolmentError: if it never will: a certificate that does not fit, a key that is not
            enrolled or was revoked, clocks that are apart, a port that speaks something else.
    """
    config = folder.config()
    private, public = NodeKey.load(folder.key).pair
    with _explained(config.server, now):
        renew_certificate(folder, now)
    client = FleetHttpClient(
        f"https://{config.server}",
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(private, public),
        ],
        verify=showing(folder),
    )
    request = ActivateNodeRequest(
        public_key=NodeKey.load(folder.key).public.pem,
        heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL,
    )
    with client, _explained(config.server, now):
        try:
            answer = client.ActivateNode(request)
        except httpx.HTTPStatusError as error:
            if not _refused(error) or not _sign_off(client, folder):
                raise
            answer = client.ActivateNode(request)
        write_atomic(folder.node_id, f"{answer.node_id}\n".encode())
        client.DeactivateNode(DeactivateNodeRequest(node_id=answer.node_id))


def _sign_off(client: FleetHttpClient, folder: NodeFolder) -> bool:
    """Disconnect what the server may still count as connected; return whether it knows the key."""
    try:
        node_id = int(folder.node_id.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False  # it has never been connected
    try:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
    except httpx.HTTPStatusError as error:
        return error.response.status_code != HTTPStatus.UNAUTHORIZED
    return True


def _refused(error: httpx.HTTPStatusError) -> bool:
    told = FlowerError.from_json(error.response.text)
    return told is not None and told.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED


@contextmanager
def _explained(server: str, now: datetime) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _status_error(error, server, now) from error
    except httpx.TransportError as error:
        raise _transport_error(error, server) from error


def _status_error(
    error: httpx.HTTPStatusError, server: str, now: datetime
) -> EnrolmentError | FederationError:
    code = error.response.status_code
    if code in _AWAY:
        return FederationError(f"The server at {server} is starting or down.", field="server")
    apart = _clocks_apart(error.response, now)
    if code == HTTPStatus.UNAUTHORIZED and apart is not None and abs(apart) > _CLOCKS_APART:
        return EnrolmentError(
            f"This machine's clock is {abs(apart):.0f} seconds "
            f"{'ahead of' if apart > 0 else 'behind'} the server's, which refuses what was signed "
            "more than five minutes ago. Set the clock.",
            field="clock",
        )
    if code == HTTPStatus.UNAUTHORIZED or _refused(error):
        return EnrolmentError(
            "The server does not know this node's key: it is not enrolled yet, or was revoked. "
            "Send the operator your enrol.json, or ask for a new invite.",
            field="node_key",
        )
    return EnrolmentError(
        f"{server} is not the proxy of a fedtail server (HTTP {code}). Check `server` in "
        "node.toml.",
        field="server",
    )


def _transport_error(error: httpx.TransportError, server: str) -> EnrolmentError | FederationError:
    cause = _tls_error(error)
    if cause is None:
        return FederationError(
            f"The server at {server} does not answer ({type(error).__name__}).", field="server"
        )
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return EnrolmentError(
            f"{server} does not speak TLS. A node never connects without: check `server` in "
            "node.toml.",
            field="server",
        )
    return EnrolmentError(_CERTIFICATE.get(cause.verify_code, _UNTRUSTED), field="certificate")


_UNTRUSTED = (
    "The server's certificate is not signed by the authority in authority.crt: this is another "
    "server, or somebody is between. Do not go on; ask the operator, by voice."
)
_ANOTHER = (
    "The server's certificate is for other names than `server` in node.toml. Ask the operator, who "
    "adds the name to server.toml and runs `fedtail server rotate`."
)
_CERTIFICATE = {
    _NOT_YET: "The server's certificate is not valid yet. Check this machine's clock.",
    _EXPIRED: (
        "The server's certificate has expired. The operator renews it with `fedtail server "
        "rotate`; check this machine's clock, too."
    ),
    _OTHER_NAME: _ANOTHER,
    _OTHER_ADDRESS: _ANOTHER,
}


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error that `error` came from, if it came from one."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _clocks_apart(response: httpx.Response, now: datetime) -> float | None:
    """Return how many seconds this clock is ahead of the server's, as its answer tells."""
    try:
        return (now - parsedate_to_datetime(response.headers["Date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
