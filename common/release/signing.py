"""The operator's side of a release: keep the key, sign the manifest, put the folder in place whole.

Ed25519 (RFC 8032) over the exact bytes of manifest.json. The signature file is the 64 raw bytes:
nothing to parse, and `openssl pkeyutl -verify -rawin` checks it without fedtail.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import ValidationError

from common.errors import ReleaseError
from common.files import PRIVATE_MODE, sha256_hex, sync_folder, write_atomic
from common.record import first_problem
from common.release.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    Claims,
    Manifest,
)

SIGNATURE_BYTES: Final = 64
_MAX_KEY_BYTES: Final = 4096


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
    def create(cls, path: Path) -> Self:
        """Make a key and write it to `path` (PKCS8 PEM, mode 600), never over another file.

        Raises:
            ReleaseError: if `path` exists: a key that signed releases must not be lost.
        """
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
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
    def load(cls, path: Path) -> Self:
        """Read a key that `create` wrote.

        Raises:
            ReleaseError: if it cannot be read, others may read it, or it is no Ed25519 key.
        """
        content = _read_secret(path)
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ReleaseError(
                f"The signing key {path} is not an unencrypted Ed25519 private key in PEM form; "
                "create one with SigningKey.create.",
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


def make_manifest(files: Mapping[str, bytes], claims: Claims, key: PublicKey) -> Manifest:
    """Count `files` (content by name inside the folder) and join them to the claims.

    Raises:
        ReleaseError: if a name is unsafe, a required file is missing, or a file is too large.
    """
    counted = {
        name: {"size": len(content), "sha256": sha256_hex(content)}
        for name, content in files.items()
    }
    fields = {name: getattr(claims, name) for name in Claims.model_fields}
    try:
        return Manifest.model_validate({**fields, "signing_key": key.key_id, "files": counted})
    except ValidationError as error:
        raise ReleaseError(
            f"The release cannot be built: {first_problem(error)}.", field="files"
        ) from error


def sign_release(folder: Path, manifest: Manifest, key: SigningKey) -> None:
    """Write manifest.json and manifest.sig into `folder`, beside the files they speak of.

    Raises:
        ReleaseError: if the manifest names another key, or is too large to be accepted.
    """
    if manifest.signing_key != key.public.key_id:
        raise ReleaseError(
            f"The manifest names the signing key {manifest.signing_key[:16]}…, but this key is "
            f"{key.public.key_id[:16]}…; make the manifest for the key that signs it.",
            field="signing_key",
        )
    content = manifest.to_bytes()
    if len(content) > MAX_MANIFEST_BYTES:
        raise ReleaseError(
            f"{MANIFEST_FILE} has {len(content)} bytes; at most {MAX_MANIFEST_BYTES} are read.",
            field=MANIFEST_FILE,
        )
    write_atomic(folder / MANIFEST_FILE, content)
    write_atomic(folder / SIGNATURE_FILE, key.sign(content))


def build_release(
    folder: Path,
    files: Mapping[str, bytes],
    claims: Claims,
    key: SigningKey,
    *,
    replace: bool = False,
) -> Manifest:
    """Write a signed release folder, so that no half release is ever seen at `folder`.

    Everything goes to a temporary folder beside it, reaches the disk, and is renamed into place.

    Args:
        folder: Where the release shall be.
        files: Content by name; the names in `REQUIRED_FILES` must be among them.
        claims: What the manifest says about them.
        key: The operator's key.
        replace: Put the new release in the place of an older one. For a moment there is none;
            there is never a mixture of both.

    Raises:
        ReleaseError: if `folder` exists and `replace` is false, or the parts do not fit.
    """
    if folder.exists() and not replace:
        raise ReleaseError(
            f"The release folder {folder} exists already; a release is never changed. "
            "Choose another folder.",
            field="folder",
        )
    manifest = make_manifest(files, claims, key.public)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh = temporary / "new"
        for name, content in files.items():
            write_atomic(fresh / name, content)
        sign_release(fresh, manifest, key)
        if replace:
            _exchange(fresh, folder, temporary / "old")
        else:
            fresh.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _exchange(fresh: Path, folder: Path, old: Path) -> None:
    """Put `fresh` where `folder` is and that one at `old`; on failure put it back."""
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            old.rename(folder)
        raise
