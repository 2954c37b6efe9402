"""Put releases into the repository that merchants fetch from, take them back, and keep it fresh."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from common.errors import FedtailError, ReleaseError, SettingsError
from common.files import PRIVATE_MODE
from common.identity.enrolment import FOLDER_MODE
from common.identity.signing_key import SigningKey
from common.release.manifest import SIGNATURE_FILE, Manifest
from common.release.parent import check_same_adapter
from common.release.published import FederationTrust, role_of
from common.release.verify import verify_by_digest, verify_release
from server.operations.experiment import Experiment, RunFolder
from server.operations.folder import ServerFolder
from server.operations.key_folder import KeyFolder, KeyPair
from server.releases.decision import await_decision, check_decision
from server.releases.federations import Federation, refresh
from server.releases.lifetimes import ONLINE_ROLES, TopRole
from server.releases.repository import OnlineKeys, Repository

REFRESH_SECONDS = 3600.0
WARN_DAYS = 30
_LOCK = ".lock"


def open_repository(folder: ServerFolder, now: datetime) -> Repository:
    """Return the repository that a server publishes in."""
    return Repository(folder.repository, folder.settings().lifetimes, now)


def online_pair(folder: ServerFolder, role: TopRole) -> KeyPair:
    """Return where one of the two keys lies that the server needs at hand."""
    return KeyPair(folder.online / f"{role}.key")


def online_keys(folder: ServerFolder) -> OnlineKeys:
    """Read the keys that say what is the newest.

    Raises:
        ReleaseError: if one cannot be read, or others may read it.
    """
    return OnlineKeys(*(online_pair(folder, role).load(None) for role in ONLINE_ROLES))


@contextmanager
def changing_repository(folder: ServerFolder, now: datetime) -> Iterator[Federation]:
    """Give the federation's part of the repository, while no other command changes any of it."""
    folder.online.mkdir(parents=True, exist_ok=True)
    folder.online.chmod(FOLDER_MODE)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder.online / _LOCK, flags, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for role in ONLINE_ROLES:
            if not online_pair(folder, role).path.exists():
                SigningKey.create(online_pair(folder, role).path)
        yield Federation(
            folder.settings().federation, open_repository(folder, now), online_keys(folder)
        )
    finally:
        os.close(descriptor)


def join_repository(folder: ServerFolder, keys: KeyFolder, now: datetime) -> None:
    """Make the repository unless it is there, and this server's federation a part of it.

    Raises:
        ReleaseError: if the repository has other keys than these, or other online keys.
    """
    with changing_repository(folder, now) as federation:
        repository, root = federation.repository, keys.load("root")
        if not repository.exists:
            repository.create(root, keys.load("targets").public, federation.online)
        elif repository.key_of("root") != root.public:
            raise ReleaseError(
                f"{repository.place} is the repository of another root key than {keys.root} has.",
                field="repository",
            )
        keys.keep_root(repository.root_bytes(), repository.root().version)
        federation.set_trust(trust_of(folder), keys.load("targets"), keys.load("release"))


def trust_of(folder: ServerFolder) -> FederationTrust:
    """Return whom this server's members trust: what its public files say."""
    return FederationTrust(
        federation=folder.settings().federation,
        release_key=folder.release_public_key.read_text(encoding="ascii"),
        authority=folder.authority.read_text(encoding="ascii"),
    )


def publish(
    folder: ServerFolder, keys: KeyFolder, experiment: Experiment, now: datetime
) -> Manifest:
    """Sign the release of a run that has ended, and have merchants use it.

    Raises:
        FederationError: if the run has rounds left, or no merchant's ledger is in the journal.
        ReleaseError: if it was published before, has not passed its gate, the audit of a merchant
            disproves its claim, or a key cannot be read.
        SettingsError: if `keys` is not this server's folder of keys.
    """
    from server.releases.publish import publish_run  # noqa: PLC0415 - torch loads here, not before

    run, key = RunFolder(folder.runs.resolve() / experiment.name), keys.load("release")
    if run.released:
        raise ReleaseError(f"This run is published: release {run.released}.", field="run")
    experiment = run.settled(experiment)
    _require_own_key(folder, key)
    if experiment.public_holdout is not None:
        await_decision(run.root)
    check_decision(run.root)
    manifest = publish_run(
        run.root,
        experiment.settings,
        run.run_ids,
        now,
        journal=folder.journal,
        releases=folder.releases,
        key=key,
    )
    if run.refresh is not None:
        try:
            _check_parent(folder, manifest, run.refresh[0], key, now)
        except ReleaseError:
            shutil.rmtree(folder.releases / manifest.version)  # it is signed: nobody is to find it
            raise
    list_release(folder, key, manifest.version, now)
    run.note_release(manifest.version)
    return manifest


def _check_parent(
    folder: ServerFolder, made: Manifest, version: str, key: SigningKey, now: datetime
) -> None:
    """Hold a refresh that was signed to the release it keeps, before anybody is told of it.

    Raises:
        ReleaseError: if that was withdrawn, or something else than the season is another.
    """
    with changing_repository(folder, now) as federation:
        if version not in federation.versions():
            raise ReleaseError(
                f"Release {version}, whose adapter it keeps, was withdrawn.", field="release"
            )
    parent = verify_by_digest(folder.releases / version, made.parent or "")
    check_same_adapter(verify_release(folder.releases / made.version, key.public), parent)


def list_release(folder: ServerFolder, key: SigningKey, version: str, now: datetime) -> None:
    """Verify a release of the server's folder and put it into the repository, as the latest.

    Raises:
        ReleaseError: if it does not verify, is older than the latest, or another was published
            under its version.
    """
    place = folder.releases / version
    release = verify_release(place, key.public)
    with changing_repository(folder, now) as federation:
        federation.release(release, (place / SIGNATURE_FILE).read_bytes(), key)


def withdraw(
    folder: ServerFolder, keys: KeyFolder, version: str, reason: str, now: datetime
) -> str | None:
    """Take a release back; return the version that merchants use now, if there is one left.

    Raises:
        ReleaseError: if there is no such release, or the reason is not a short line.
    """
    key = keys.load("release")
    _require_own_key(folder, key)
    with changing_repository(folder, now) as federation:
        return federation.withdraw(version, reason, key)


def refresh_metadata(folder: ServerFolder, now: datetime, *, force: bool = False) -> bool:
    """Sign anew, where half of its life is over, what the server signs; return whether it did.

    Raises:
        ReleaseError: if the keys or the repository cannot be read.
    """
    with changing_repository(folder, now) as federation:
        return refresh(federation.repository, federation.online, force=force)


def renew_metadata(folder: ServerFolder, keys: KeyFolder, now: datetime) -> None:
    """Sign everything anew: the root and the lists too, which only the operator's keys can.

    Raises:
        ReleaseError: if a key cannot be read, or is not the one that the repository lists.
    """
    with changing_repository(folder, now) as federation:
        repository = federation.repository
        repository.renew_root([keys.load("root")])
        keys.keep_root(repository.root_bytes(), repository.root().version)
        federation.set_trust(trust_of(folder), keys.load("targets"), keys.load("release"))


def metadata_warnings(folder: ServerFolder, now: datetime) -> list[str]:
    """Return what of the operator's own metadata expires within a month, and what to do."""
    repository = open_repository(folder, now)
    if not repository.exists:
        return ["This server has no repository of releases: run `fedtail server keys new` once."]
    own = role_of(folder.settings().federation)
    listed = (
        ("root", repository.root()),
        ("targets", repository.targets()),
        (own, repository.targets(own)),
    )
    remedy = "run `fedtail server refresh-metadata` with --keys"
    told = []
    for role, signed in listed:
        left = timedelta(0) if signed is None else signed.expires - now
        if left < timedelta(0):
            told.append(f"The {role} metadata has expired; no merchant can fetch: {remedy}.")
        elif left < timedelta(days=WARN_DAYS):
            told.append(f"The {role} metadata expires in {left.days} days: {remedy}.")
    return told


def hourly_refresh(
    folder: ServerFolder, say: Callable[[str], None], clock: Callable[[], float]
) -> Callable[[], None]:
    """Return what a running server calls often: once an hour it looks whether to sign anew.

    A failure is said and tried again an hour later: nodes can go on training without it.

    Args:
        folder: The server's.
        say: Told of a failure, one line.
        clock: Seconds that only go up.
    """
    due = clock()

    def look() -> None:
        nonlocal due
        if clock() < due:
            return
        due = clock() + REFRESH_SECONDS
        try:
            refresh_metadata(folder, datetime.now(UTC))
        except (FedtailError, OSError) as error:
            say(f"The repository of releases could not be signed anew: {error}")

    return look


def _require_own_key(folder: ServerFolder, key: SigningKey) -> None:
    if folder.release_public_key.read_bytes() != key.public.to_pem():
        raise SettingsError(
            "The release key in the folder of keys is not this server's: operator.pub has another.",
            field="keys",
        )
