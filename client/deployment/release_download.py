"""Fetch the federation's latest release, verify all of it, and only then switch to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.deployment.provisioning import NodeConfig, NodeFolder
from client.deployment.release_check import OwnPart, check_own_part
from client.deployment.release_repository import TrustedRepository, opened_repository
from client.deployment.release_store import KEY, RELEASE, ReleaseStore, StoreState, verify_kept
from client.deployment.release_transport import (
    FolderTransport,
    Transport,
    WebTransport,
    check_certificates,
    web_client,
)
from client.privacy.budget import LEDGER_FILE
from common.errors import FederationError, ReleaseError, StorageError
from common.files import write_atomic
from common.identity.signing_key import PublicKey
from common.release.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    parse_manifest,
)
from common.release.parent import check_same_adapter
from common.release.published import METADATA, FederationTrust, Latest, release_path
from common.release.verify import VerifiedRelease, verify_release, version_order

ADDRESSES = ("https://", "http://")
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Fetched:
    """The release in use after a fetch.

    Attributes:
        place: Where it lies.
        release: Verified.
        own: What of this node is in it.
    """

    place: Path
    release: VerifiedRelease
    own: OwnPart


def fetch_release(
    folder: NodeFolder, source: str = "", *, say: Say = lambda _: None, again: bool = False
) -> Fetched:
    """Fetch the latest release, verify it, hold it to this node's own ledger, and switch to it.

    Whatever fails, the release in use stays. A version that is kept is verified anew and not
    fetched; one that the merchant rolled back from is taken only with `again`.

    Args:
        folder: The node's.
        source: Address or folder of the repository, or the folder of one signed release; without
            it, what the node's settings say, which without a word is the server.
        say: Told what the merchant should know beside, one line each, also where it then fails.
        again: Take the latest release also where the merchant has rolled back from it.

    Raises:
        FederationError: if nothing answers, or nothing was released yet.
        ReleaseError: if what is shown is older than what was seen, expired, mixed, altered, too
            long, not signed by whom it must be, or does not fit this node's ledger.
        LedgerError: if the node's own files cannot be read.
        StorageError: if the disk cannot be written to.
    """
    config, store = folder.config(), ReleaseStore(folder)
    place = (source or config.releases or f"https://{config.server}/releases").rstrip("/")
    with _disk_errors(), store.locked():
        if not place.startswith(ADDRESSES) and not (Path(place) / METADATA).is_dir():
            return _take_folder(store, config, Path(place), say)
        with _transport(folder, config, place) as transport:
            repository = opened_repository(folder, transport, place, config.federation)
            _follow_trust(folder, repository.trust(), say)
            return _take_latest(store, config, repository, say, again=again)


def roll_back(folder: NodeFolder, to: str | None = None) -> str:
    """Go back to an older kept release; return its version.

    Raises:
        ReleaseError: as `ReleaseStore.roll_back`.
        StorageError: if the disk cannot be written to.
    """
    store = ReleaseStore(folder)
    with _disk_errors(), store.locked():
        return store.roll_back(to)


def _take_latest(
    store: ReleaseStore,
    config: NodeConfig,
    repository: TrustedRepository,
    say: Say,
    *,
    again: bool,
) -> Fetched:
    latest, current = repository.latest(), store.current
    state = store.state().model_copy(update={"withdrawn": latest.withdrawn})
    store.remember(state)
    if current is not None and (reason := latest.reason(current)) is not None:
        say(f"The operator has withdrawn release {current}: {reason}")
    version = _wanted(latest, current, state, again=again)
    if version is None:
        raise FederationError("The server answers, but has no release to use.", field="release")
    if version != latest.version:
        say(
            f"You rolled back from {state.rolled_back}, which is still the latest: {version} stays "
            "in use. With --again you take it, and a newer one you get without."
        )
    release = _kept(store, version)
    listed = release_path(config.federation, version, MANIFEST_FILE)
    if version == latest.version and release is not None:
        # one of that version that was taken from a folder may be another
        same = repository.lists(listed, store.place(version) / MANIFEST_FILE)
        release = release if same else None
    if release is None:
        release = _fetch(store, config, repository, version)
    own = check_own_part(release, config.state_folder / LEDGER_FILE, config.merchant)
    if version != current:
        store.use(version)
    held = state.rolled_back if version != latest.version else None
    store.remember(state.model_copy(update={"rolled_back": held}))
    return Fetched(store.place(version), release, own)


def _wanted(latest: Latest, current: str | None, state: StoreState, *, again: bool) -> str | None:
    """Return the version to use: the latest, or the one that the merchant went back to."""
    version = latest.version
    if version is None or current is None or version == current:
        return version
    if state.rolled_back == version and not again:
        return current
    if version_order(version) < version_order(current) and latest.reason(current) is None:
        raise ReleaseError(
            f"The server calls {version} the latest release, which is older than {current} that "
            "is in use, and has not withdrawn that. Ask the operator.",
            field="version",
        )
    return version


def _kept(store: ReleaseStore, version: str) -> VerifiedRelease | None:
    """Return a kept release; None where there is none that is whole."""
    if version not in store.versions():
        return None
    try:
        return store.verify(version)
    except ReleaseError:
        return None


def _fetch(
    store: ReleaseStore, config: NodeConfig, repository: TrustedRepository, version: str
) -> VerifiedRelease:
    """Fetch a release beside the kept ones and put it among them once all of it is verified."""
    fresh, parts = store.fetching / version, store.fetching / "parts"
    manifest_path = release_path(config.federation, version, MANIFEST_FILE)
    key = PublicKey.from_pem(repository.release_key(manifest_path).encode())
    write_atomic(fresh / KEY, key.to_pem())
    manifest = fresh / RELEASE / MANIFEST_FILE
    repository.download(manifest_path, manifest, parts, MAX_MANIFEST_BYTES)
    listed = parse_manifest(manifest.read_bytes())
    _drop_others(fresh / RELEASE, {MANIFEST_FILE, SIGNATURE_FILE, *listed.files})
    for name in (SIGNATURE_FILE, *listed.files):
        path = release_path(config.federation, version, name)
        repository.download(path, fresh / RELEASE / name, parts)
    release = verify_kept(fresh, version)
    _checked(store, config, release)
    store.keep(version)
    return release


def _checked(store: ReleaseStore, config: NodeConfig, release: VerifiedRelease) -> OwnPart:
    """Hold a release to this node's ledger, and a refresh to its parent where that is kept.

    Raises:
        ReleaseError, LedgerError: as `check_own_part` and `check_same_adapter`.
    """
    parent = store.kept_parent(release)
    if parent is not None and not release.manifest.privacy.privacy_plan.trains:
        check_same_adapter(release, parent)
    return check_own_part(release, config.state_folder / LEDGER_FILE, config.merchant)


def _drop_others(folder: Path, wanted: set[str]) -> None:
    """Remove what an earlier, cut short fetch left of another release of the same version."""
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in wanted:
            path.unlink()


def _follow_trust(folder: NodeFolder, trust: FederationTrust, say: Say) -> None:
    """Take the operator's new keys into use, as the signed list has them."""
    key = PublicKey.from_pem(trust.release_key.encode())
    if not folder.release_key.exists() or PublicKey.load(folder.release_key) != key:
        key.save(folder.release_key)
        say(f"The operator's release key is now {key.key_id}")
    authority = trust.authority.encode()
    if folder.authority.read_bytes() != authority:
        check_certificates(trust.authority)
        write_atomic(folder.authority, authority)
        say("The operator's certificate authority has changed: this node trusts the new one.")


def _take_folder(store: ReleaseStore, config: NodeConfig, place: Path, say: Say) -> Fetched:
    """Take one signed release from a folder: whose it is, is known, and not whether it is new."""
    folder = place / RELEASE if (place / RELEASE).is_dir() else place
    key, current = PublicKey.load(store.folder.release_key), store.current
    release = verify_release(folder, key, not_older_than=current)
    own = _checked(store, config, release)
    version, state = release.manifest.version, store.state()
    if (reason := state.reason(version)) is not None:
        raise ReleaseError(f"The operator has withdrawn {version}: {reason}", field="version")
    kept = _kept(store, version)
    if kept is None or kept.manifest != release.manifest:
        fresh = store.fetching / version
        _drop_others(fresh, set())
        key.save(fresh / KEY)
        for name, content in release.files.items():
            write_atomic(fresh / RELEASE / name, content)
        for name in (MANIFEST_FILE, SIGNATURE_FILE):
            write_atomic(fresh / RELEASE / name, (folder / name).read_bytes())
        verify_kept(fresh, version)
        store.keep(version)
    store.use(version)
    store.remember(state.model_copy(update={"rolled_back": None}))
    say("It is signed by the operator, but nothing says whether it is the newest, or withdrawn.")
    return Fetched(store.place(version), release, own)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The node's folder cannot be read or written ({error.strerror}). The release in use "
            "stays.",
            field="disk",
        ) from error


@contextmanager
def _transport(folder: NodeFolder, config: NodeConfig, place: str) -> Iterator[Transport]:
    if not place.startswith(ADDRESSES):
        yield FolderTransport()
        return
    own = place.startswith(f"https://{config.server}/")
    with web_client(folder.authority if own else None) as client:
        yield WebTransport(client)
