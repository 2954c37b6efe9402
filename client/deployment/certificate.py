"""The certificate that a node shows to the server's proxy: fetched, renewed and shown.

The operator's authority signs it over the key that the node enrolled with. It is no secret, so it
is fetched from where everybody may; the key that belongs to it has never left this folder.
"""

import ssl
from datetime import datetime
from http import HTTPStatus

import httpx
from cryptography import x509

from client.deployment.provisioning import NodeFolder
from common.errors import EnrolmentError, FederationError
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
_NOT_ENROLLED = (
    "The server does not know this node's key: it is not enrolled yet, or was revoked. "
    "Send the operator your enrol.json, or ask for a new invite."
)


def renew_certificate(folder: NodeFolder, now: datetime) -> None:
    """Fetch the node's certificate where there is none, or where it is about to end.

    Raises:
        httpx.TransportError: if the server does not answer.
        FederationError: if the proxy is there, and cannot answer now.
        EnrolmentError: if the server keeps none for this key, or one that does not fit, and the
            node has none that still holds.
    """
    held = _held(folder)
    if held is not None and not is_due(held, now):
        return
    key, authority = NodeKey.load(folder.key), load_certificate(folder.authority)
    address = f"https://{folder.config().server}/{FOLDER}/{certificate_file(key.public)}"
    with httpx.Client(verify=trusting(folder), timeout=TIMEOUT_SECONDS) as client:
        answer = client.get(address)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise FederationError("The server is starting or down.", field="server")
    if not answer.is_success or len(answer.content) > MAX_BYTES:
        raise EnrolmentError(_NOT_ENROLLED, field="node_key")
    check_node_certificate(answer.content, key.public, authority)
    # One file for both: a pair that does not fit is never seen.
    write_atomic(folder.tls, key.pem + answer.content, mode=PRIVATE_MODE)


def trusting(folder: NodeFolder) -> ssl.SSLContext:
    """Return TLS that trusts the operator's authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(folder.authority))
    return context


def showing(folder: NodeFolder) -> ssl.SSLContext:
    """Return such TLS, with this node's certificate to show.

    Raises:
        EnrolmentError: if the node has none.
    """
    context = trusting(folder)
    try:
        context.load_cert_chain(str(folder.tls))
    except OSError as error:
        raise EnrolmentError(
            f"{folder.tls} cannot be read ({type(error).__name__}); `fedtail client start` fetches "
            "it anew once it is removed.",
            field="node_certificate",
        ) from error
    return context


def _held(folder: NodeFolder) -> x509.Certificate | None:
    """Return the certificate in the folder if it is for the node's key as it is now."""
    try:
        content = folder.tls.read_bytes()
        authority = load_certificate(folder.authority)
        return check_node_certificate(content, NodeKey.load(folder.key).public, authority)
    except (OSError, EnrolmentError):
        return None
