"""The operator's side of a release: keep the key, sign the manifest, put the folder in place whole.

Ed25519 (RFC 8032) over the exact bytes of manifest.json. The signature file is the 64 raw bytes:
nothing to parse, and `openssl pkeyutl -verify -rawin` checks it without fedtail.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from common.errors import ReleaseError
from common.files import sha256_hex, sync_folder, write_atomic
from common.identity.signing_key import PublicKey, SigningKey
from common.record import first_problem
from common.release.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    Claims,
    Manifest,
)


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
