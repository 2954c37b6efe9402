"""Certificates grow old: read one, and say so a month before it ends."""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from common.errors import EnrolmentError

WARN_DAYS = 30


def load_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises:
        EnrolmentError: if it cannot be read or is none.
    """
    return load_certificates(path)[0]


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Read a file's PEM certificates, at least one, in their order.

    Raises:
        EnrolmentError: if it cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnrolmentError(
            f"The certificate {path} cannot be read ({type(error).__name__}).", field="certificate"
        ) from error


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Return how many days the certificate still has; below 0 it has expired."""
    return (certificate.not_valid_after_utc - now) / timedelta(days=1)


def expiry_warning(certificate: x509.Certificate, what: str, remedy: str, now: datetime) -> str:
    """Return what to tell about a certificate within a month of its end; else nothing.

    Args:
        certificate: Which.
        what: Its name, at the beginning of a sentence.
        remedy: What to do, at the end of one.
        now: When.
    """
    left = days_left(certificate, now)
    if left < 0:
        return f"{what} has expired; nodes refuse this server: {remedy}."
    return f"{what} expires in {left:.0f} days: {remedy}." if left < WARN_DAYS else ""
