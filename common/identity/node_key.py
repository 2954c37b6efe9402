"""A node's key pair, by which the server knows one merchant's node from another.

Flower signs each request of a SuperNode with a key on the curve P-384 and reads the pair in
OpenSSH's form. The private half never leaves the node: what travels is the public half and a proof
that the node holds the other.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from common.errors import EnrolmentError
from common.files import PRIVATE_MODE, sha256_hex, write_atomic

_CURVE = "secp384r1"
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class NodePublicKey:
    """The public half, as one line `ecdsa-sha2-nistp384 …` without a comment."""

    line: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a public key and drop its comment.

        Raises:
            EnrolmentError: if it is not an OpenSSH public key on P-384.
        """
        if len(text) > _MAX_BYTES:
            raise _not_a_key()
        try:
            key = load_ssh_public_key(text.strip().encode())
        except (ValueError, UnsupportedAlgorithm):
            raise _not_a_key() from None
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != _CURVE:
            raise _not_a_key()
        return cls(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the line, 64 hex digits: how people compare keys."""
        return sha256_hex(self.line.encode())

    @property
    def pem(self) -> bytes:
        """The same key as PEM SubjectPublicKeyInfo, which is how Flower names it."""
        key = load_ssh_public_key(self.line.encode())
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def accepts(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` over `message` was made with the private half."""
        key = load_ssh_public_key(self.line.encode())
        if not isinstance(key, EllipticCurvePublicKey):
            return False
        try:
            key.verify(signature, message, ECDSA(SHA384()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, eq=False, slots=True)
class NodeKey:
    """The private half, kept in one file that only its owner can read."""

    _key: EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make a key in memory."""
        return cls(generate_private_key(SECP384R1()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key that `save` wrote.

        Raises:
            EnrolmentError: if it cannot be read, others may read it, or it is no P-384 key.
        """
        content = read_secret(path, "node_key")
        try:
            key = load_ssh_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != _CURVE:
            raise EnrolmentError(
                f"The node key {path} is not an unencrypted P-384 key in OpenSSH form.",
                field="node_key",
            )
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key to `path` (OpenSSH form, mode 600), whole or not at all."""
        content = self._key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_atomic(path, content, mode=PRIVATE_MODE)

    @property
    def public(self) -> NodePublicKey:
        """The public half."""
        line = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return NodePublicKey(line.decode())

    @property
    def pem(self) -> bytes:
        """The private half as PKCS 8, the form that TLS reads. A secret."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pair(self) -> tuple[EllipticCurvePrivateKey, EllipticCurvePublicKey]:
        """Both halves, as Flower's client takes them to sign a request."""
        return self._key, self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Return a signature over `message` (ECDSA with SHA-384, DER)."""
        return self._key.sign(message, ECDSA(SHA384()))


def read_secret(path: Path, field_name: str) -> bytes:
    """Read a file after checking, on the open descriptor, that only its owner can.

    Raises:
        EnrolmentError: if it cannot be read or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise EnrolmentError(
            f"{path} cannot be read ({error.strerror}).", field=field_name
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise EnrolmentError(
            f"{path} has mode {mode:o}, so others may use it; it must be 600. If nobody else had "
            "access, run chmod 600 on it; if somebody had, make a new one.",
            field=field_name,
        )
    return content


def _not_a_key() -> EnrolmentError:
    return EnrolmentError(
        "The node's public key is not an OpenSSH key on the curve P-384 (ecdsa-sha2-nistp384 …).",
        field="public_key",
    )
