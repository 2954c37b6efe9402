"""The certificate that a node shows to the server's proxy: fetched, renewed and shown.

    python -P -m client.deployment.certificate NODE     renew it where it is due, in a process apart

The operator's authority signs it over the key that the node enrolled with. It is no secret, so it
is fetched from where everybody may; the key that belongs to it has never left this folder.
"""

import ssl
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import httpx
from cryptography import x509

from client.deployment.provisioning import NodeFolder
from common.errors import EnrolmentError, FederationError, FedtailError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.expiry import load_certificate
from common.identity.node_certificate import (
    FOLDER,
    MAX_BYTES,
    certificate_file,
    check_node_certificate,
    is_due,
)
from common.identity.node_key import NodeKey

TIMEOUT_SECONDS = 30.0


def renew_certificate(folder: NodeFolder, now: datetime) -> None:
    """Fetch the node's certificate where there is none, or where it is about to end.

    One that another authority signed than the newest which the node trusts is fetched anew, too.
    A server that keeps none for this key is told by the answer to the first request that needs it.

    Raises:
        httpx.TransportError: if the server does not answer.
        FederationError: if the proxy is there, and cannot answer now.
        EnrolmentError: if what the server keeps does not fit this node's key.
    """
    key, authority = NodeKey.load(folder.key), load_certificate(folder.authority)
    held = _held(folder, key)
    if held is not None and not is_due(held, authority, now):
        return
    address = f"https://{folder.config().server}/{FOLDER}/{certificate_file(key.public)}"
    with httpx.Client(verify=trusting(folder), timeout=TIMEOUT_SECONDS) as client:
        answer = client.get(address)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise FederationError("The server is starting or down.", field="server")
    if not answer.is_success or len(answer.content) > MAX_BYTES:
        return
    check_node_certificate(answer.content, key.public)
    # One file for both: a pair that does not fit is never seen.
    write_atomic(folder.tls, key.pem + answer.content, mode=PRIVATE_MODE)


def trusting(folder: NodeFolder) -> ssl.SSLContext:
    """Return TLS that trusts the operator's authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(folder.authority))
    return context


def showing(folder: NodeFolder) -> ssl.SSLContext:
    """Return such TLS, with this node's certificate to show where it has one.

    Raises:
        EnrolmentError: if it cannot be read.
    """
    context = trusting(folder)
    if not folder.tls.exists():
        return context
    try:
        context.load_cert_chain(str(folder.tls))
    except OSError as error:
        raise EnrolmentError(
            f"{folder.tls} cannot be read ({type(error).__name__}); `fedtail client start` fetches "
            "it anew once it is removed.",
            field="node_certificate",
        ) from error
    return context


def main() -> None:
    """Renew the certificate of the node in the folder that is named.

    Raises:
        SystemExit: if it is due and cannot be renewed now.
    """
    try:
        renew_certificate(NodeFolder(Path(sys.argv[1])), datetime.now(UTC))
    except (FedtailError, httpx.HTTPError) as error:
        raise SystemExit(f"{error}") from None


def _held(folder: NodeFolder, key: NodeKey) -> x509.Certificate | None:
    """Return the certificate in the folder if it is for the node's key as it is now."""
    try:
        return check_node_certificate(folder.tls.read_bytes(), key.public)
    except (OSError, EnrolmentError):
        return None


if __name__ == "__main__":
    main()
