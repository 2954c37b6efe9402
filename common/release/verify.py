"""Every rule by which a merchant trusts a release, in one place and without a network.

The order matters: the signature over the manifest's bytes first, with a key that the caller already
trusts; only then is the manifest read; then each file is read once and compared with it. The bytes
compared are the bytes returned, so changing a file after the check changes nothing.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from common.errors import InputError, ReleaseError
from common.files import sha256_hex
from common.identity.signing_key import SIGNATURE_BYTES, PublicKey
from common.release.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SEASON_FILE,
    SIGNATURE_FILE,
    FileRecord,
    Manifest,
    parse_manifest,
)
from common.season import Season

_SEAL: Final = object()
# O_NOFOLLOW refuses a link in a name's place; O_NONBLOCK keeps a pipe from holding us for ever.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_AGAIN: Final = "download the release again"


@dataclass(frozen=True, eq=False)
class VerifiedRelease:
    """A release whose every byte was covered by a trusted signature, or a trusted digest.

    Only `verify_release` and `verify_by_digest` make one, so a function that takes it cannot be
    handed anything less.

    Attributes:
        manifest: What the operator signed.
        files: Content by name, the very bytes that were compared with the manifest.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("A VerifiedRelease comes from verify_release or verify_by_digest only.")

    @property
    def season(self) -> Season | None:
        """The season of the merchants it was made with; None where the run took none."""
        content = self.files.get(SEASON_FILE)
        return None if content is None else Season.from_bytes(content)


def verify_release(
    folder: Path, trusted: PublicKey, *, not_older_than: str | None = None
) -> VerifiedRelease:
    """Check a release folder against a key and return its content.

    Args:
        folder: The release; the path itself may be a link, nothing inside it may.
        trusted: The operator's key, got on another way than the release.
        not_older_than: The version in use now, so that a replayed older release is refused.

    Raises:
        ReleaseError: if the signature is not `trusted`'s; the manifest is not exactly what this
            version reads; a file is missing, extra, a link, or differs in size or digest; the
            season is not one, or not what the plan says; a refresh names no parent, or another
            release does; or the version is older than `not_older_than`. The message names the file
            and what to do.
    """
    with _opened_folder(folder) as root:
        content = _read(root, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        signature = _read(root, SIGNATURE_FILE, SIGNATURE_BYTES)
        _check_signature(signature, content, trusted)
        manifest = parse_manifest(content)
        _check_key(manifest, trusted)
        _check_age(manifest, not_older_than)
        return _whole(root, manifest)


def verify_by_digest(folder: Path, digest: str) -> VerifiedRelease:
    """Check a release folder against its digest, where that is what the caller trusts.

    A refresh names its parent so, under its own signature: the parent's key may have changed since.

    Args:
        folder: The release; its signature is not looked at.
        digest: `Manifest.digest`, from a release that is trusted.

    Raises:
        ReleaseError: if it is another release, and as `verify_release`.
    """
    with _opened_folder(folder) as root:
        content = _read(root, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        if sha256_hex(content) != digest:
            raise _refused(MANIFEST_FILE, f"is not that of the release {digest[:16]}…")
        return _whole(root, parse_manifest(content))


def _whole(root: int, manifest: Manifest) -> VerifiedRelease:
    """Read what a trusted manifest names, and hold it together."""
    _check_listing(root, manifest)
    files = {name: _read_exactly(root, name, want) for name, want in manifest.files.items()}
    release = VerifiedRelease(manifest, MappingProxyType(files), _SEAL)
    _check_season(release)
    _check_parent(manifest)
    return release


def version_order(version: str) -> tuple[int, ...]:
    """Return the key by which versions are compared: `1.2` < `1.10`, and `1` equals `1.0`.

    Raises:
        ReleaseError: if `version` is not numbers with dots.
    """
    try:
        numbers = [int(number) for number in version.split(".")]
    except ValueError:
        raise ReleaseError(
            f"{version!r} is not a version; it must be numbers with dots, such as 2026.11.24.",
            field="version",
        ) from None
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _check_signature(signature: bytes, content: bytes, trusted: PublicKey) -> None:
    if len(signature) != SIGNATURE_BYTES:
        raise _refused(
            SIGNATURE_FILE, f"has {len(signature)} bytes, not {SIGNATURE_BYTES}; {_AGAIN}"
        )
    if not trusted.accepts(signature, content):
        raise _refused(
            SIGNATURE_FILE,
            f"is not a signature over {MANIFEST_FILE} by the trusted key "
            f"{trusted.key_id[:16]}…; either file was altered or another key signed it. "
            "Download the release again, or ask the operator which key is theirs",
        )


def _check_key(manifest: Manifest, trusted: PublicKey) -> None:
    if manifest.signing_key != trusted.key_id:
        raise _refused(
            MANIFEST_FILE,
            f"names the signing key {manifest.signing_key[:16]}…, but {trusted.key_id[:16]}… "
            "signed it; ask the operator to sign it anew",
        )


def _check_age(manifest: Manifest, not_older_than: str | None) -> None:
    if not_older_than is None:
        return
    if version_order(manifest.version) < version_order(not_older_than):
        raise _refused(
            MANIFEST_FILE,
            f"has version {manifest.version}, older than {not_older_than}; somebody may be "
            "replaying an old release. Fetch the newest one from the operator",
        )


def _check_season(release: VerifiedRelease) -> None:
    """Refuse a season that cannot be read, one that no plan paid for, and one that is left out."""
    plan, there = release.manifest.privacy.privacy_plan, SEASON_FILE in release.files
    if there != plan.takes_season and not (there and plan.dp_model == "none"):
        what = "is there, and the plan takes none" if there else "is missing, and the plan takes it"
        raise _refused(SEASON_FILE, f"{what}; ask the operator to sign the release anew")
    try:
        _ = release.season
    except InputError as error:
        raise _refused(SEASON_FILE, f"is not a season: {error}") from None


def _check_parent(manifest: Manifest) -> None:
    """Refuse a refresh that does not say of which release, in its settings too, and a false one.

    Each merchant signed for the settings, so it is the parent that they gave a season for.
    """
    named = manifest.adapter.settings.get("refresh_of", "")
    if not manifest.privacy.privacy_plan.trains:
        if not manifest.parent or named != manifest.parent:
            raise _refused(
                MANIFEST_FILE, "takes a season alone, and does not say for which release's adapter"
            )
    elif named:
        raise _refused(MANIFEST_FILE, "has rounds of its own, and settings of a refresh")


def _check_listing(root: int, manifest: Manifest) -> None:
    """Refuse whatever lies in the folder and is not named by the manifest."""
    expected_files = {MANIFEST_FILE, SIGNATURE_FILE, *manifest.files}
    expected_folders = {"."}
    for name in manifest.files:
        expected_folders |= {str(parent) for parent in PurePosixPath(name).parents}
    for folder in sorted(expected_folders):
        with _opened_inside(root, folder) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name if folder == "." else f"{folder}/{entry.name}"
                if name not in (expected_folders if _is_folder(entry) else expected_files):
                    raise _refused(name, f"is not named in {MANIFEST_FILE}; remove it, or {_AGAIN}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _read_exactly(root: int, name: str, want: FileRecord) -> bytes:
    """Return a file's bytes once their size and digest are what the manifest says."""
    content = _read(root, name, want.size)
    if len(content) != want.size:
        raise _refused(name, f"has {len(content)} bytes, the manifest says {want.size}; {_AGAIN}")
    digest = sha256_hex(content)
    if digest != want.sha256:
        raise _refused(
            name,
            f"has SHA-256 {digest[:16]}…, the manifest says {want.sha256[:16]}…; "
            f"it was altered or damaged: {_AGAIN}",
        )
    return content


def _read(root: int, name: str, most: int) -> bytes:
    """Read a regular file of at most `most` bytes, through no link at any step of its path."""
    path = PurePosixPath(name)
    with _opened_inside(root, str(path.parent)) as parent:
        try:
            descriptor = os.open(path.name, _FILE_FLAGS, dir_fd=parent)
        except OSError as error:
            raise _unreadable(name, error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(name, f"is not a regular file; {_AGAIN}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise _refused(name, f"has more than {most} bytes; {_AGAIN}")
    return content


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder, _FOLDER_FLAGS)
    except OSError as error:
        raise ReleaseError(
            f"The release folder {folder} cannot be opened ({error.strerror}); "
            "give the path of a downloaded release.",
            field="folder",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_inside(root: int, folder: str) -> Iterator[int]:
    """Open a folder below `root` part by part, so that no part can be a link."""
    descriptor = os.dup(root)
    try:
        for part in PurePosixPath(folder).parts:
            try:
                deeper = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                raise _unreadable(folder, error) from None
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def _unreadable(name: str, error: OSError) -> ReleaseError:
    if isinstance(error, FileNotFoundError):
        return _refused(name, f"is missing; {_AGAIN}")
    return _refused(
        name, f"is a link or cannot be read ({error.strerror}); a release holds plain files only"
    )


def _refused(name: str, what: str) -> ReleaseError:
    # repr, since the name of an extra file is the sender's choice and may hold terminal codes
    return ReleaseError(f"Release file {name!r} {what}.", field="release")
