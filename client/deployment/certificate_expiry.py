"""What a merchant has to know a month ahead: certificates without which the node is cut off."""

import socket
import ssl
from datetime import datetime

from cryptography import x509

from client.deployment.provisioning import NodeFolder
from common.identity.expiry import expiry_warning, load_certificate

CONNECT_SECONDS = 5.0


def warnings(folder: NodeFolder, now: datetime) -> list[str]:
    """Return what ends within a month: the authority's certificate and the server's.

    The server's is looked at where the server answers and its certificate fits; what else may be
    wrong with it is told when the node connects.

    Raises:
        EnrolmentError: if the authority's certificate in the folder cannot be read.
    """
    found = [
        expiry_warning(
            load_certificate(folder.authority),
            "The authority's certificate",
            "the operator has to rotate it, and you to run `fedtail client fetch`; ask for it",
            now,
        )
    ]
    served = _served_certificate(folder)
    if served is not None:
        remedy = "the operator has to run `fedtail server rotate`; ask for it"
        found.append(expiry_warning(served, "The server's certificate", remedy, now))
    return [one for one in found if one]


def _served_certificate(folder: NodeFolder) -> x509.Certificate | None:
    host, _, port = folder.config().server.rpartition(":")
    host = host.strip("[]")
    trusted = ssl.create_default_context(cafile=str(folder.authority))
    try:
        with (
            socket.create_connection((host, int(port)), CONNECT_SECONDS) as plain,
            trusted.wrap_socket(plain, server_hostname=host) as secured,
        ):
            content = secured.getpeercert(binary_form=True)
    except OSError:  # also of TLS
        return None
    return None if content is None else x509.load_der_x509_certificate(content)
