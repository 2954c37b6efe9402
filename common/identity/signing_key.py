"""Ed25519 keys that sign, and their public halves."""

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from common.errors import ReleaseError
from common.files import PRIVATE_MODE, sha256_hex, sync_folder, write_atomic

SIGNATURE_BYTES: Final = 64
_MAX_KEY_BYTES: Final = 4096

Passphrase = Callable[[], bytes]  # asked for once a file turns out to need it


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: 32 raw bytes."""

    raw: bytes

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw key, 64 hex digits: how people compare keys over the phone."""
        return sha256_hex(self.raw)

    def accepts(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` [64 bytes] over `message` was made with this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """Return the key as a PEM SubjectPublicKeyInfo."""
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def save(self, path: Path) -> None:
        """Write the PEM file that merchants are given."""
        write_atomic(path, self.to_pem())

    @classmethod
    def from_pem(cls, content: bytes) -> Self:
        """Read a PEM public key.

        Raises:
            ReleaseError: if it is not an Ed25519 public key.
        """
        try:
            key = load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise ReleaseError(
                "The trusted key is not an Ed25519 public key in PEM form "
                "(-----BEGIN PUBLIC KEY-----); ask the operator for the public key file.",
                field="public_key",
            )
        return cls(key.public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM public key file.

        Raises:
            ReleaseError: if it cannot be read or is not an Ed25519 public key.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_KEY_BYTES)
        except OSError as error:
            raise ReleaseError(
                f"The trusted key {path} cannot be read ({error.strerror}); "
                "give the path of the operator's public key file.",
                field="public_key",
            ) from error
        return cls.from_pem(content)


@dataclass(frozen=True, eq=False, slots=True)
class SigningKey:
    """The operator's Ed25519 private key, kept in one PEM file that only its owner can read."""

    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def create(cls, path: Path, passphrase: bytes = b"") -> Self:
        """Make a key and write it to `path` (PKCS8 PEM, mode 600), never over another file.

        Args:
            path: The file.
            passphrase: Encrypts it; empty leaves it plain.

        Raises:
            ReleaseError: if `path` exists: a key that signed releases must not be lost.
        """
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption(passphrase))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            whole = Path(folder) / path.name
            write_atomic(whole, pem, mode=PRIVATE_MODE)
            try:
                path.hardlink_to(whole)  # unlike a rename, a link fails when the name is taken
            except FileExistsError:
                raise ReleaseError(
                    f"The signing key {path} exists already; a new key must have another path.",
                    field="signing_key",
                ) from None
        sync_folder(path.parent)
        return cls(key)

    @classmethod
    def in_memory(cls) -> Self:
        """Make a key that lies in no file, and is gone with the process."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: Passphrase | None = None) -> Self:
        """Read a key that `create` wrote.

        Args:
            path: The file.
            passphrase: Asked only where the file is encrypted.

        Raises:
            ReleaseError: if it cannot be read, others may read it, the passphrase is wrong, or it
                is no Ed25519 key.
        """
        content = _read_secret(path)
        secret = passphrase() if passphrase is not None and is_encrypted(content) else None
        try:
            key = load_pem_private_key(content, password=secret)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ReleaseError(
                f"The passphrase does not open the signing key {path}."
                if secret is not None
                else f"The signing key {path} is not an unencrypted Ed25519 private key in PEM "
                "form; create one with SigningKey.create.",
                field="signing_key",
            )
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The public half, which merchants are given."""
        return PublicKey(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, message: bytes) -> bytes:
        """Return the signature [64 bytes] over `message`."""
        return self._key.sign(message)


def encryption(passphrase: bytes) -> KeySerializationEncryption:
    """Return how a private key is written: encrypted, or plain where the passphrase is empty."""
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def is_encrypted(pem: bytes) -> bool:
    """Return whether a private key's file (PKCS8 PEM) needs a passphrase."""
    return b"BEGIN ENCRYPTED PRIVATE KEY" in pem


def _read_secret(path: Path) -> bytes:
    """Read a file after checking, on the open descriptor, that only its owner can."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ReleaseError(
            f"The signing key {path} cannot be read ({error.strerror}).", field="signing_key"
        ) from error
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ReleaseError(
            f"The signing key {path} has mode {stat.S_IMODE(status.st_mode):o}, so others may use "
            "it; it must be 600. If nobody else had access, run chmod 600 on it.",
            field="signing_key",
        )
    return content
