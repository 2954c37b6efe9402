"""Put a new key in the place of an old one, each by itself, and say which keys there are.

The new key is made first, then all that it signs is published, then it takes the old one's place in
its folder. The same command takes up what was cut short.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from common.errors import SettingsError
from common.files import write_atomic
from common.identity.expiry import load_certificate, load_certificates
from common.identity.signing_key import PublicKey
from common.release.published import role_of
from server.operations.certificates import fingerprint, pem_of
from server.operations.door.node_certificates import issue_certificates, own_authority
from server.operations.folder import ServerFolder
from server.operations.key_folder import AUTHORITY, KeyFolder, SharedKey
from server.operations.publication.publishing import (
    changing_repository,
    online_pair,
    open_repository,
    trust_of,
)
from server.operations.registry import changing
from server.releases.lifetimes import ONLINE_ROLES, TOP_ROLES, TopRole
from server.releases.repository import OnlineKeys

KeyName = Literal["root", "targets", "snapshot", "timestamp", "release", "enrolment", "authority"]
KEY_NAMES: Final[tuple[KeyName, ...]] = (*TOP_ROLES, "release", "enrolment", AUTHORITY)


@dataclass(frozen=True)
class Rotation:
    """What came of a rotation: the fingerprints, whole, and what has to be done now."""

    old: str
    new: str
    then: str


@dataclass(frozen=True)
class ListedKey:
    """A key, as people compare it.

    Attributes:
        name: Which.
        fingerprint: SHA-256, 64 hex digits: of the raw public key, or of a certificate.
        kept: Where the private half lies.
        expires: Until when what it last signed holds; None where that has no end.
    """

    name: str
    fingerprint: str
    kept: str
    expires: datetime | None


def rotate_key(folder: ServerFolder, keys: KeyFolder, name: KeyName, now: datetime) -> Rotation:
    """Put a new key in the place of the one called `name`.

    Raises:
        ReleaseError: if a key cannot be read, or is not the one that the repository lists.
        SettingsError: if `keys` is not this server's folder of keys.
        EnrolmentError: if the authority or the list of nodes cannot be read.
    """
    if name == "authority":
        return _rotate_authority(folder, keys, now)
    if name == "enrolment":
        return _rotate_enrolment(folder, keys)
    if name == "release":
        return _rotate_release(folder, keys, now)
    if name in ONLINE_ROLES:
        return _rotate_online(folder, keys, name, now)
    return _rotate_offline(folder, keys, "root" if name == "root" else "targets", now)


def retire_authority(folder: ServerFolder, keys: KeyFolder, now: datetime) -> None:
    """Trust the newest authority alone, once every merchant has fetched it.

    Raises:
        EnrolmentError: if the authority cannot be read.
        ReleaseError: if a key cannot be read.
        SettingsError: if `keys` has not the newest authority of this server.
    """
    write_atomic(folder.authority, own_authority(folder, keys).pem)
    _tell_trust(folder, keys, now)


def list_keys(folder: ServerFolder, now: datetime) -> Iterator[ListedKey]:
    """Yield the keys of a server's federation and of the repository it publishes in."""
    repository = open_repository(folder, now)
    federation = folder.settings().federation
    own = role_of(federation)
    signed = {
        "root": repository.root(),
        "targets": repository.targets(),
        "snapshot": repository.snapshot(),
        "timestamp": repository.timestamp(),
        "release": repository.targets(own),
    }
    expires = {name: None if one is None else one.expires for name, one in signed.items()}
    for role in TOP_ROLES:
        kept = str(folder.online) if role in ONLINE_ROLES else "the operator's keys"
        yield ListedKey(role, repository.key_of(role).key_id, kept, expires[role])
    release = repository.release_key(federation).key_id
    yield ListedKey("release", release, "the operator's keys", expires["release"])
    invites = PublicKey.load(folder.enrolment_public_key).key_id
    yield ListedKey("enrolment", invites, "the operator's keys", None)
    for name, path, kept in (
        (AUTHORITY, folder.authority, "the operator's keys"),
        ("server certificate", folder.tls_certificate, str(folder.tls_key.parent)),
    ):
        certificate = load_certificate(path)
        yield ListedKey(name, fingerprint(certificate), kept, certificate.not_valid_after_utc)


def _rotate_offline(
    folder: ServerFolder, keys: KeyFolder, name: SharedKey, now: datetime
) -> Rotation:
    old, new = keys.load(name), keys.pair(name).successor(keys.passphrase)
    with changing_repository(folder, now) as federation:
        repository, root = federation.repository, keys.load("root")
        if repository.key_of(name) != new.public:
            signers = [old, new] if name == "root" else [root]
            repository.replace_key(name, new.public, signers)
        keys.keep_root(repository.root_bytes(), repository.root().version)
        if name == "targets":
            federation.set_trust(trust_of(folder), new, keys.load("release"))
        keys.pair(name).promote(old)
    return Rotation(old.public.key_id, new.public.key_id, "Merchants take it at their next fetch.")


def _rotate_online(folder: ServerFolder, keys: KeyFolder, role: TopRole, now: datetime) -> Rotation:
    root = keys.load("root")
    with changing_repository(folder, now) as federation:
        repository, pair = federation.repository, online_pair(folder, role)
        old, new = pair.load(None), pair.successor(None)
        if repository.key_of(role) != new.public:
            repository.replace_key(role, new.public, [root])
        keys.keep_root(repository.root_bytes(), repository.root().version)
        online = federation.online
        repository.publish(
            {},
            OnlineKeys(new, online.timestamp)
            if role == "snapshot"
            else OnlineKeys(online.snapshot, new),
        )
        pair.promote(old)
    return Rotation(old.public.key_id, new.public.key_id, "Merchants take it at their next fetch.")


def _rotate_release(folder: ServerFolder, keys: KeyFolder, now: datetime) -> Rotation:
    old, new = keys.load("release"), keys.pair("release").successor(keys.passphrase)
    trust = trust_of(folder).model_copy(update={"release_key": new.public.to_pem().decode()})
    with changing_repository(folder, now) as federation:
        federation.set_trust(trust, keys.load("targets"), new)
        new.public.save(folder.release_public_key)
        keys.pair("release").promote(old)
    return Rotation(
        old.public.key_id,
        new.public.key_id,
        "Releases from now on are signed with it; those before keep their signature. Give "
        "auditors the new operator.pub.",
    )


def _rotate_enrolment(folder: ServerFolder, keys: KeyFolder) -> Rotation:
    old, new = keys.load("enrolment"), keys.pair("enrolment").successor(keys.passphrase)
    if PublicKey.load(folder.enrolment_public_key) not in {old.public, new.public}:
        raise _others("enrolment", folder.enrolment_public_key)
    with changing(folder.registry) as registry:
        ended = len(registry.invites)
        registry.invites.clear()  # whoever has the old key can make invites that look like these
    new.public.save(folder.enrolment_public_key)
    keys.pair("enrolment").promote(old)
    return Rotation(
        old.public.key_id,
        new.public.key_id,
        f"{ended} open invites have ended: make them anew. Enrolled nodes need nothing.",
    )


def _rotate_authority(folder: ServerFolder, keys: KeyFolder, now: datetime) -> Rotation:
    new, old = keys.next_authority(now), load_certificate(keys.authority_certificate)
    trusted = load_certificates(folder.authority)
    if old not in trusted:
        raise _others(AUTHORITY, folder.authority)
    # The first one issues. All others stay until --done: a node that has missed a rotation trusts
    # the oldest alone, and would be locked out.
    elder = [pem_of(one) for one in trusted if one != new.certificate]
    write_atomic(folder.authority, b"".join([new.pem, *elder]))
    _tell_trust(folder, keys, now)
    issue_certificates(folder, new, now)
    keys.promote_authority(fingerprint(old))
    return Rotation(
        fingerprint(old),
        fingerprint(new.certificate),
        "Nodes trust it too once they have fetched, and fetch their new certificates within a day. "
        "Then run `fedtail server rotate`, start the server again, and give this command with "
        "--done.",
    )


def _tell_trust(folder: ServerFolder, keys: KeyFolder, now: datetime) -> None:
    with changing_repository(folder, now) as federation:
        federation.set_trust(trust_of(folder), keys.load("targets"), keys.load("release"))


def _others(name: str, public: Path) -> SettingsError:
    return SettingsError(
        f"The {name} key in the folder of keys is not this server's: {public} lists another.",
        field="keys",
    )
