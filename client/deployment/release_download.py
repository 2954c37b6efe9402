"""Fetch the operator's latest release over TLS, and keep it only once it is verified."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from client.deployment.certificate import trusting
from client.deployment.provisioning import NodeFolder
from client.deployment.release_check import OwnPart, check_own_part
from client.privacy.budget import LEDGER_FILE
from common.errors import FederationError, ReleaseError
from common.files import write_atomic
from common.identity.signing_key import SIGNATURE_BYTES, PublicKey
from common.release.manifest import (
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    parse_manifest,
)
from common.release.verify import VerifiedRelease, verify_release

LATEST = "latest.json"
_MAX_LATEST_BYTES = 4096


@dataclass(frozen=True, eq=False)
class Fetched:
    """A release that was verified, where it lies, and what of this node is in it."""

    place: Path
    release: VerifiedRelease
    own: OwnPart


def fetch_release(folder: NodeFolder) -> Fetched:
    """Fetch the latest release, verify it and hold it to this node's own ledger.

    A version that is there already is checked again and not fetched.

    Raises:
        FederationError: if the server does not answer, or has released nothing yet.
        ReleaseError: if what it serves is not signed with the key in operator.pub, is not whole, or
            does not fit this node's ledger and what it sent. Nothing of it is kept then.
        LedgerError: if the node's own files cannot be read.
    """
    config, key = folder.config(), PublicKey.load(folder.release_key)
    ledger = config.state_folder / LEDGER_FILE
    with _server(folder) as server:
        version = _version(_get(server, LATEST, _MAX_LATEST_BYTES))
        place = folder.releases / version
        if not place.exists():
            folder.releases.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new.", dir=folder.releases) as temporary:
                fresh = Path(temporary) / version
                _download(server, version, fresh, key)
                check_own_part(verify_release(fresh, key), ledger, config.merchant)
                shutil.move(fresh, place)
    release = verify_release(place, key)
    return Fetched(place, release, check_own_part(release, ledger, config.merchant))


def _download(server: httpx.Client, version: str, fresh: Path, key: PublicKey) -> None:
    """Fetch a release into `fresh`; no name or size in it is trusted before the signature is."""
    manifest = _get(server, f"{version}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES)
    signature = _get(server, f"{version}/{SIGNATURE_FILE}", SIGNATURE_BYTES)
    if not key.accepts(signature, manifest):
        raise ReleaseError(
            "The server's release is not signed with the key in operator.pub. Do not use it; ask "
            "the operator, by voice.",
            field=SIGNATURE_FILE,
        )
    write_atomic(fresh / MANIFEST_FILE, manifest)
    write_atomic(fresh / SIGNATURE_FILE, signature)
    for name, record in parse_manifest(manifest).files.items():
        most = min(record.size, MAX_FILE_BYTES)
        write_atomic(fresh / name, _get(server, f"{version}/{name}", most))


@contextmanager
def _server(folder: NodeFolder) -> Iterator[httpx.Client]:
    config = folder.config()
    address = f"https://{config.server}/releases/"
    with httpx.Client(base_url=address, verify=trusting(folder)) as client:
        yield client


def _get(server: httpx.Client, path: str, most: int) -> bytes:
    """Return a file of at most `most` bytes.

    Raises:
        FederationError: if the server does not answer or has no such file.
        ReleaseError: if the file is longer.
    """
    content = bytearray()
    try:
        with server.stream("GET", path) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > most:
                    raise ReleaseError(f"{path} has more than {most} bytes.", field="release")
    except httpx.HTTPStatusError as error:
        nothing = path == LATEST and error.response.is_client_error
        what = "nothing was released yet" if nothing else f"it has no {path}"
        raise FederationError(f"The server answers, but {what}.", field="release") from error
    except httpx.HTTPError as error:
        raise FederationError(
            f"The release cannot be fetched ({type(error).__name__}). `fedtail client start` says "
            "what is wrong with the connection.",
            field="server",
        ) from error
    return bytes(content)


def _version(content: bytes) -> str:
    try:
        told: Any = json.loads(content)
        version = told["version"]
        if isinstance(version, str) and all(part.isdecimal() for part in version.split(".")):
            return version
    except (ValueError, KeyError, TypeError):
        pass
    raise ReleaseError("The server does not say which release is the latest.", field="version")
