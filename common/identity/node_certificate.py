"""A node's certificate: what of it both sides check, and under which name it is fetched."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import EnrolmentError
from common.identity.node_key import NodePublicKey

FOLDER = "certificates"  # below the proxy's address, and in the server's public folder
RENEW_BEFORE = timedelta(days=60)  # in which the operator or a node may be away
MAX_BYTES = 8192


def certificate_file(key: NodePublicKey) -> str:
    """Return the file's name. Everybody may fetch it, and it names no merchant."""
    return f"{key.fingerprint}.crt"


def is_due(certificate: x509.Certificate, authority: x509.Certificate, now: datetime) -> bool:
    """Return whether a certificate is to be renewed: it ends soon, or `authority` signed it not."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return True
    return certificate.not_valid_after_utc - now < RENEW_BEFORE


def check_node_certificate(content: bytes, key: NodePublicKey) -> x509.Certificate:
    """Return the certificate in `content` if it is for `key`; who signed it, the proxy checks.

    Raises:
        EnrolmentError: if it is none, or is for another key.
    """
    try:
        certificate = x509.load_pem_x509_certificate(content)
        held = certificate.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError):
        held = b""
    if held != key.pem:
        raise EnrolmentError(
            "The certificate that the server keeps for this node is not for its key. Ask the "
            "operator.",
            field="node_certificate",
        )
    return certificate


def certificate_pem(content: bytes, key: NodePublicKey) -> bytes:
    """Return the certificate in `content`, PEM, if it is for `key`, and no private key with it.

    Raises:
        EnrolmentError: as `check_node_certificate`.
    """
    return check_node_certificate(content, key).public_bytes(Encoding.PEM)
