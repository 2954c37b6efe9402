"""A node's certificate: what of it both sides check, and under which name it is fetched."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import EnrolmentError
from common.identity.node_key import NodePublicKey

FOLDER = "certificates"  # below the proxy's address, and in the server's public folder
RENEW_BEFORE = timedelta(days=60)  # of 90: two months in which a node or the operator may be away
MAX_BYTES = 8192


def certificate_file(key: NodePublicKey) -> str:
    """Return the file's name. Everybody may fetch it, and it names no merchant."""
    return f"{key.fingerprint}.crt"


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether a certificate is to be renewed."""
    return certificate.not_valid_after_utc - now < RENEW_BEFORE


def check_node_certificate(
    content: bytes, key: NodePublicKey, authority: x509.Certificate
) -> x509.Certificate:
    """Return the certificate in `content` if `authority` signed it for `key`.

    Raises:
        EnrolmentError: if it is none, or is for another key, or another authority signed it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(content)
        certificate.verify_directly_issued_by(authority)
        held = certificate.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, InvalidSignature):
        held = b""
    if held != key.pem:
        raise EnrolmentError(
            "The certificate that the server keeps for this node is not for its key, or the "
            "authority in authority.crt did not sign it. Ask the operator.",
            field="node_certificate",
        )
    return certificate
