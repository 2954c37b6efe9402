"""The repository of releases as a merchant may trust it, by The Update Framework's client workflow.

The root of trust came with the invite. What was seen is kept in the node's folder, so that what is
older, expired, mixed or longer than was signed is refused. The framework's own library does that;
here are files of any size, taken up where they were cut short, and errors in a merchant's words.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
)
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import Updater

from client.deployment.provisioning import NodeFolder
from client.deployment.release_transport import Transport
from common.errors import EnrolmentError, FederationError, ReleaseError, StorageError
from common.files import sha256_hex, sync_folder, write_atomic
from common.release.manifest import MAX_FILE_BYTES
from common.release.published import (
    MAX_RECORD_BYTES,
    METADATA,
    RELEASE_KEY,
    TARGETS,
    FederationTrust,
    Latest,
    latest_path,
    trust_path,
)

_KEPT: Final = "What this node has is kept."


class TrustedRepository:
    """A repository, brought up to date and verified; make it with `opened_repository`."""

    def __init__(self, updater: Updater, transport: Transport, place: str, federation: str) -> None:
        self._updater, self._transport = updater, transport
        self._place, self._federation = place, federation

    def latest(self) -> Latest:
        """Return which release the federation's members are told to use.

        Raises:
            ReleaseError: if it is not as it was signed.
            FederationError: if it does not come.
        """
        latest = Latest.from_bytes(self._small(latest_path(self._federation)))
        if latest.federation != self._federation:
            raise ReleaseError("The list of releases is another federation's.", field="federation")
        return latest

    def trust(self) -> FederationTrust:
        """Return whom the federation's members are told to trust; raises as `latest`."""
        trust = FederationTrust.from_bytes(self._small(trust_path(self._federation)))
        if trust.federation != self._federation:
            raise ReleaseError("The keys are another federation's.", field="federation")
        return trust

    def release_key(self, manifest_path: str) -> str:
        """Return the key, PEM, that a release's manifest is signed with, by its own list."""
        custom = self._target(manifest_path).custom
        key = custom.get(RELEASE_KEY) if isinstance(custom, dict) else None
        if not isinstance(key, str):
            raise ReleaseError("The list of releases names no release key.", field="release_key")
        return key

    def lists(self, path: str, file: Path) -> bool:
        """Return whether a file is, to the byte, what the signed list has at `path`."""
        return _fits(self._target(path), file)

    def download(self, path: str, to: Path, parts: Path, most: int = MAX_FILE_BYTES) -> None:
        """Fetch a target to `to`; what came before a cut is in `parts` and is not fetched again.

        Raises:
            ReleaseError: if the list does not have it, or its bytes are not the signed ones.
            FederationError: if it does not come to its end; what came is kept.
        """
        target = self._target(path)
        if target.length > most:
            raise ReleaseError(f"{path} would have more than {most} bytes.", field="release")
        if to.exists() and _fits(target, to):
            return
        part = parts / target.hashes["sha256"]
        parts.mkdir(parents=True, exist_ok=True)
        to.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists() and part.stat().st_size > 0
        with _explained():
            self._fill(target, part)
            if resumed and not _fits(target, part):  # what was there was not of this file
                part.unlink()
                self._fill(target, part)
            if not _fits(target, part):
                part.unlink()
                raise ReleaseError(
                    f"{path} is not the file that was signed: it was altered or damaged. {_KEPT}",
                    field="release",
                )
        part.replace(to)
        sync_folder(to.parent)

    def _fill(self, target: TargetFile, part: Path) -> None:
        """Add to `part` what is missing of a target, and never a byte more than is signed."""
        (name,) = target.get_prefixed_paths()
        with part.open("r+b" if part.exists() else "x+b") as file:
            held = file.seek(0, os.SEEK_END)
            if held < target.length:
                url = f"{self._place}/{TARGETS}/{name}"
                for at, piece in self._transport.read(url, held):
                    if at + len(piece) > target.length:
                        file.truncate(0)
                        raise DownloadLengthMismatchError(f"{name} does not end")
                    if at != file.tell():
                        file.seek(at)
                        file.truncate()
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() < target.length:
                raise DownloadError(f"{name} ends early")

    def _small(self, path: str) -> bytes:
        """Return a target that is read into memory."""
        target = self._target(path)
        if target.length > MAX_RECORD_BYTES:
            raise ReleaseError(f"{path} would have more than {MAX_RECORD_BYTES} bytes.")
        (name,) = target.get_prefixed_paths()
        with _explained():
            url = f"{self._place}/{TARGETS}/{name}"
            content = self._transport.download_bytes(url, target.length)
            target.verify_length_and_hashes(content)
        return content

    def _target(self, path: str) -> TargetFile:
        with _explained():
            target = self._updater.get_targetinfo(path)
        if target is None or "sha256" not in target.hashes:
            raise ReleaseError(f"The signed lists do not have {path}.", field="release")
        return target


def opened_repository(
    folder: NodeFolder, transport: Transport, place: str, federation: str
) -> TrustedRepository:
    """Bring what the node knows of the repository up to date, verified, and return it.

    Args:
        folder: The node's.
        transport: How to read it.
        place: Where it is, as the transport takes it.
        federation: The node's.

    Raises:
        ReleaseError: if it is older than what was seen, expired, mixed, or not signed as it must
            be; or this node has no root of trust.
        FederationError: if it does not answer.
        StorageError: if what was seen cannot be written.
    """
    try:
        root = folder.trusted_root.read_bytes()
    except OSError:
        raise ReleaseError(
            "This node has no root of trust for releases. Ask the operator for the root.json and "
            "its fingerprint, and give them to `fedtail client trust`.",
            field="root",
        ) from None
    folder.metadata.mkdir(exist_ok=True)
    with _explained():
        updater = Updater(
            str(folder.metadata),
            f"{place}/{METADATA}",
            target_base_url=f"{place}/{TARGETS}",
            fetcher=transport,
            bootstrap=root,
        )
        try:
            updater.refresh()
        finally:
            _sync(folder.metadata)
    return TrustedRepository(updater, transport, place, federation)


def pin_root(folder: NodeFolder, content: bytes, fingerprint: str) -> None:
    """Take another root of trust, once its fingerprint is what the operator read out.

    Args:
        folder: The node's.
        content: The root metadata.
        fingerprint: Its SHA-256, 64 hex digits, got on another way than the file.

    Raises:
        EnrolmentError: if it has another fingerprint.
        ReleaseError: if it is no root metadata that is signed with its own keys.
    """
    found = sha256_hex(content)
    if found != fingerprint.replace(" ", "").lower():
        raise EnrolmentError(
            f"The file's fingerprint is {found}, not the one you were told. Do not use it; ask the "
            "operator, by voice.",
            field="fingerprint",
        )
    with _explained():
        root = Metadata[Root].from_bytes(content)
        if root.signed.type != Root.type:
            raise _refused("The file is no root of trust", "root")
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    write_atomic(folder.trusted_root, content)


def _fits(target: TargetFile, path: Path) -> bool:
    with path.open("rb") as file:
        content: IO[bytes] = file
        try:
            target.verify_length_and_hashes(content)
        except LengthOrHashMismatchError:
            return False
    return True


def _sync(folder: Path) -> None:
    """Force what was seen to disk: a power cut must not make this node forget it."""
    for path in [*folder.rglob("*.json"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _explained() -> Iterator[None]:
    """Say in a merchant's words what the library found; only what is its own is caught."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise _refused(
            "What the server shows has expired: it is not kept fresh, or somebody holds newer "
            "releases back. Check this machine's clock, and ask the operator",
            "expired",
        ) from error
    except BadVersionNumberError as error:
        raise _refused(
            "What the server shows is older than what this node has seen: somebody may be "
            "replaying it. Ask the operator",
            "version",
        ) from error
    except LengthOrHashMismatchError as error:
        raise _refused(
            "Files of the repository do not belong together: they were altered or mixed", "mixed"
        ) from error
    except RepositoryError as error:
        raise _refused(
            "The repository's lists are not signed with the keys that this node trusts, or are "
            "damaged. Do not use it; ask the operator, by voice",
            "signature",
        ) from error
    except DownloadLengthMismatchError as error:
        raise _refused("The server sends more bytes than were signed", "endless") from error
    except SlowRetrievalError as error:
        raise FederationError(
            f"The server sends too slowly. {_KEPT} The same command goes on.", field="slow"
        ) from error
    except DownloadHTTPError as error:
        raise FederationError(
            f"The server answers, but has no releases there: {error}. {_KEPT}", field="release"
        ) from error
    except DownloadError as error:
        raise FederationError(
            f"The release cannot be fetched ({error}). {_KEPT} The same command goes on; `fedtail "
            "client start` says what is wrong with the connection.",
            field="server",
        ) from error
    except OSError as error:
        raise StorageError(
            f"What was fetched cannot be written or read ({error.strerror}). {_KEPT}",
            field="disk",
        ) from error


def _refused(what: str, field: str) -> ReleaseError:
    return ReleaseError(f"{what}. {_KEPT}", field=field)
