"""The operator's certificate authority, and the certificates that it signs: the server's, nodes'.

X.509 v3, ECDSA on P-256 but for a node's certificate, which is over the node's own key on P-384.
The authority lives ten years, a certificate that it signs a year. Nodes are given the
authority's certificate and trust no other; the proxy lets nobody in whose certificate it did not
sign. A server's certificate is good for a server only, a node's for a client only.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from common.errors import EnrolmentError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.expiry import load_certificate
from common.identity.node_key import NodePublicKey, read_secret
from common.identity.signing_key import Passphrase, encryption, is_encrypted

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
NODE_DAYS = 365
ALWAYS = ("127.0.0.1", "localhost")  # the proxy and the operator's own commands come this way
_EARLIER = timedelta(minutes=10)  # a node's clock may be a little behind


@dataclass(frozen=True, eq=False)
class Authority:
    """The key that certificates are signed with, and its own certificate."""

    certificate: x509.Certificate
    _key: EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, now: datetime) -> "Authority":
        """Make an authority that may sign certificates and no further authority."""
        return cls._over(generate_private_key(SECP256R1()), now)

    @classmethod
    def over(cls, key_path: Path, now: datetime, passphrase: Passphrase | None) -> "Authority":
        """Make the certificate that a key lacks, as where `save` was cut short.

        Raises:
            EnrolmentError: as `load`, of the key.
        """
        return cls._over(_load_key(key_path, passphrase), now)

    @classmethod
    def _over(cls, key: EllipticCurvePrivateKey, now: datetime) -> "Authority":
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedtail authority")])
        subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(subject, critical=False)
            .sign(key, SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(
        cls, key_path: Path, certificate_path: Path, passphrase: Passphrase | None = None
    ) -> "Authority":
        """Read what `save` wrote.

        Raises:
            EnrolmentError: if a file cannot be read, others may read the key, the passphrase is
                wrong, or the two do not belong together.
        """
        certificate, key = load_certificate(certificate_path), _load_key(key_path, passphrase)
        if certificate.public_key() != key.public_key():
            raise EnrolmentError(
                f"{key_path} is not the key of {certificate_path}: nobody would trust what it "
                "signs. If a rotation was cut short, give `fedtail server keys rotate authority` "
                "again.",
                field="authority_key",
            )
        return cls(certificate, key)

    def save(self, key_path: Path, certificate_path: Path, passphrase: bytes = b"") -> None:
        """Write the key (mode 600; encrypted, unless the passphrase is empty) and certificate."""
        write_atomic(key_path, _key_pem(self._key, passphrase), mode=PRIVATE_MODE)
        write_atomic(certificate_path, self.pem)

    @property
    def pem(self) -> bytes:
        """The certificate, which nodes are given."""
        return pem_of(self.certificate)

    def issue(
        self, hosts: Sequence[str], now: datetime, *, days: float = SERVER_DAYS
    ) -> tuple[bytes, bytes]:
        """Return (key, certificate), PEM, for a server that is reached by `hosts`.

        Args:
            hosts: Names and addresses; those of the loopback are added.
            now: When the certificate begins.
            days: How long it lives.

        Raises:
            EnrolmentError: if a host is neither an address nor a name.
        """
        names = [host_name(host) for host in dict.fromkeys([*hosts, *ALWAYS])]
        key = generate_private_key(SECP256R1())
        builder = self._leaf("fedtail server", key.public_key(), now, days).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        return _key_pem(key), self._signed(builder, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_node(self, key: NodePublicKey, now: datetime, *, days: float = NODE_DAYS) -> bytes:
        """Return the certificate, PEM, with which a node shows its own key to the proxy.

        Its name is the key's fingerprint, which says nothing of the merchant.

        Args:
            key: The node's public key.
            now: When the certificate begins.
            days: How long it lives.

        Raises:
            EnrolmentError: if the key is none.
        """
        public = load_pem_public_key(key.pem)
        if not isinstance(public, EllipticCurvePublicKey):
            raise EnrolmentError("A node's key lies on the curve P-384.", field="public_key")
        builder = self._leaf(key.fingerprint, public, now, days)
        return self._signed(builder, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _leaf(
        self, name: str, key: EllipticCurvePublicKey, now: datetime, days: float
    ) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return _builder(subject, self.certificate.subject, key, now, days)

    def _signed(self, builder: x509.CertificateBuilder, use: ObjectIdentifier) -> bytes:
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self._key, SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def host_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it.

    Raises:
        EnrolmentError: if it is neither an address nor a plain name.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    parts = host.split(".")
    if len(host) > 253 or not all(_is_label(part) for part in parts):
        raise EnrolmentError(
            f"{host!r} is neither an IP address nor a host's name; give it without https:// and "
            "without a port.",
            field="host",
        )
    return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, now: datetime, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(max(now + timedelta(days=days), now - _EARLIER + timedelta(seconds=1)))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_label(part: str) -> bool:
    plain = part.replace("-", "")
    return 0 < len(part) <= 63 and plain.isascii() and plain.isalnum() and part[0] != "-"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER form, 64 hex digits."""
    return certificate.fingerprint(SHA256()).hex()


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption(passphrase))


def _load_key(path: Path, passphrase: Passphrase | None) -> EllipticCurvePrivateKey:
    content = read_secret(path, "authority_key")
    secret = passphrase() if passphrase is not None and is_encrypted(content) else None
    try:
        key = load_pem_private_key(content, password=secret)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise EnrolmentError(
            f"{path} is not the authority's key, or the passphrase does not open it.",
            field="authority_key",
        )
    return key
