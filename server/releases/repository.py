"""The repository of releases, as The Update Framework lays it out: static files.

    metadata/N.root.json             whose keys count; each version stays
    metadata/N.targets.json          federations: their roles' keys, and whom their members trust
    metadata/N.releases-NAME.json    one federation's releases
    metadata/N.snapshot.json         the versions of all of these that belong together
    metadata/timestamp.json          which snapshot is the newest: the one file that is replaced
    targets/…/SHA256.NAME            what the lists speak of, each under its own digest

What is new is written first, and `timestamp.json` last, so a reader finds the old state or the new
one, behind any web server. The framework's own library parses and signs; where files lie and when
they are written is said here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from common.errors import ReleaseError
from common.files import write_atomic
from common.identity.signing_key import PublicKey, SigningKey
from common.release.published import METADATA, TARGETS, delegated_paths, role_of
from server.releases.lifetimes import TOP_ROLES, Lifetimes, TopRole
from server.releases.tuf_keys import public_key, sign_metadata, tuf_key

_ROOT: Final = "root"
_Signed = Root | Targets | Snapshot | Timestamp


@dataclass(frozen=True)
class OnlineKeys:
    """The two keys that the server needs at hand, to say what is the newest."""

    snapshot: SigningKey
    timestamp: SigningKey


@dataclass(frozen=True)
class Repository:
    """A repository at a moment.

    Attributes:
        place: Its folder, which everybody may read.
        lifetimes: How long what is signed now holds.
        now: When it is signed.
    """

    place: Path
    lifetimes: Lifetimes
    now: datetime

    def create(self, root: SigningKey, targets: PublicKey, online: OnlineKeys) -> None:
        """Write a first root, which lists a key for each role."""
        signed = Root(expires=self._expiry(_ROOT), consistent_snapshot=True)
        keys = (root.public, targets, online.snapshot.public, online.timestamp.public)
        for role, key in zip(TOP_ROLES, keys, strict=True):
            signed.add_key(tuf_key(key), role)
        self._write(_ROOT, signed, [root])

    @property
    def exists(self) -> bool:
        """Whether there is a root."""
        return bool(self._roots())

    def root_bytes(self) -> bytes:
        """Return the newest root's file.

        Raises:
            ReleaseError: if there is none.
        """
        versions = self._roots()
        if not versions:
            raise ReleaseError(
                f"{self.place} is no repository of releases: it has no root.", field="repository"
            )
        return self._metadata(_ROOT, versions[-1]).read_bytes()

    def root(self) -> Root:
        """Return the newest root.

        Raises:
            ReleaseError: if there is none that can be read.
        """
        return _parsed(self.root_bytes(), Root, _ROOT)

    def timestamp(self) -> Timestamp | None:
        """Return the newest timestamp; None before the first."""
        return self._read("timestamp", Timestamp, None)

    def snapshot(self) -> Snapshot | None:
        """Return the newest snapshot; None before the first."""
        timestamp = self.timestamp()
        version = None if timestamp is None else timestamp.snapshot_meta.version
        return None if version is None else self._read("snapshot", Snapshot, version)

    def targets(self, role: str = "targets") -> Targets | None:
        """Return a list as the newest snapshot has it; None before the first."""
        snapshot = self.snapshot()
        meta = None if snapshot is None else snapshot.meta.get(f"{role}.json")
        return None if meta is None else self._read(role, Targets, meta.version)

    def key_of(self, role: TopRole) -> PublicKey:
        """Return the key of a top role, as the newest root lists it."""
        root = self.root()
        (keyid,) = root.roles[role].keyids
        return public_key(root.get_key(keyid))

    def release_key(self, federation: str) -> PublicKey:
        """Return the key of a federation's list of releases.

        Raises:
            ReleaseError: if the repository has no such federation.
        """
        return _delegated(self.targets(), role_of(federation))

    def replace_key(self, role: TopRole, new: PublicKey, signers: Sequence[SigningKey]) -> None:
        """Write a next root in which `new` has the place of a role's key.

        Args:
            role: Whose.
            new: The key from now on.
            signers: The root's key; for the role root the old one and the new one.

        Raises:
            ReleaseError: if the first signer is not the root's key.
        """
        root = self.root()
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(tuf_key(new), role)
        self.renew_root(signers, root)

    def renew_root(self, signers: Sequence[SigningKey], root: Root | None = None) -> None:
        """Write the next root: the one before, or what was made of it, until a later day."""
        signed = root or self.root()
        self._require(_ROOT, self.key_of("root"), signers[0])
        signed.version += 1
        signed.expires = self._expiry(_ROOT)
        self._write(_ROOT, signed, signers)

    def delegate(self, targets: Targets, federation: str, key: PublicKey) -> None:
        """Have `targets` give a federation's list to `key`, and to no other."""
        role = role_of(federation)
        if targets.delegations is None:
            targets.delegations = Delegations(keys={}, roles={})
        roles = targets.delegations.roles
        if roles is None:
            raise ReleaseError("The list of federations is of another kind.", field="targets")
        if role not in roles:
            paths = delegated_paths(federation)
            roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=paths)
        for keyid in list(roles[role].keyids):
            targets.revoke_key(keyid, role)
        targets.add_key(tuf_key(key), role)

    def add_target(
        self, targets: Targets, path: str, content: bytes, custom: Mapping[str, str] | None = None
    ) -> None:
        """Write a file under its digest and have `targets` list it."""
        fields = {} if custom is None else {"custom": dict(custom)}
        bare = TargetFile.from_data(path, content)
        target = TargetFile(bare.length, bare.hashes, path, fields)
        (place,) = target.get_prefixed_paths()
        write_atomic(self.place / TARGETS / place, content)
        targets.targets[path] = target

    def content(self, targets: Targets, path: str) -> bytes | None:
        """Return a target's content; None where the list does not have it."""
        target = targets.targets.get(path)
        if target is None:
            return None
        (place,) = target.get_prefixed_paths()
        return (self.place / TARGETS / place).read_bytes()

    def publish(
        self, changed: Mapping[str, tuple[Targets, SigningKey]], online: OnlineKeys
    ) -> None:
        """Sign the lists that changed, then the snapshot that joins them, and the timestamp last.

        Args:
            changed: Lists and the key that signs each, by role; none signs the two others anew.
            online: Sign the snapshot and the timestamp.

        Raises:
            ReleaseError: if a key is not the one that is listed for its role: nobody would take
                what it signs. Nothing is written then.
        """
        self._require("snapshot", self.key_of("snapshot"), online.snapshot)
        self._require("timestamp", self.key_of("timestamp"), online.timestamp)
        lists = changed["targets"][0] if "targets" in changed else self.targets()
        for role, (_, key) in changed.items():
            listed = self.key_of("targets") if role == "targets" else _delegated(lists, role)
            self._require(role, listed, key)
        snapshot = self.snapshot() or Snapshot(meta={})
        for role, (targets, key) in changed.items():
            before = snapshot.meta.get(f"{role}.json")
            targets.version = self._next(None if before is None else before.version)
            targets.expires = self._expiry(role)
            content = self._write(role, targets, [key])
            snapshot.meta[f"{role}.json"] = _meta(targets.version, content)
        timestamp = self.timestamp() or Timestamp()
        snapshot.version = self._next(snapshot.version)
        snapshot.expires = self._expiry("snapshot")
        content = self._write("snapshot", snapshot, [online.snapshot])
        timestamp.version = self._next(timestamp.version)
        timestamp.expires = self._expiry("timestamp")
        timestamp.snapshot_meta = _meta(snapshot.version, content)
        self._write("timestamp", timestamp, [online.timestamp])

    def _require(self, role: str, listed: PublicKey, held: SigningKey) -> None:
        if listed != held.public:
            raise ReleaseError(
                f"The repository lists another {role} key ({listed.key_id}) than this one "
                f"({held.public.key_id}). Name the keys that belong to it.",
                field=role,
            )

    def _next(self, version: int | None) -> int:
        """Return a version that is higher than the last, also of a server put back from a copy."""
        return max((version or 0) + 1, int(self.now.timestamp()))

    def _expiry(self, role: str) -> datetime:
        return (self.now + self.lifetimes.of(role)).replace(microsecond=0)

    def _write(self, role: str, signed: _Signed, keys: Sequence[SigningKey]) -> bytes:
        metadata = Metadata[Any](signed)
        for key in keys:
            sign_metadata(metadata, key)
        content = metadata.to_bytes()
        version = None if role == "timestamp" else signed.version
        write_atomic(self._metadata(role, version), content)
        return content

    def _read(self, role: str, kind: type[T], version: int | None) -> T | None:
        path = self._metadata(role, version)
        return _parsed(path.read_bytes(), kind, role) if path.exists() else None

    def _metadata(self, role: str, version: int | None) -> Path:
        name = role if version is None else f"{version}.{role}"
        return self.place / METADATA / f"{name}.json"

    def _roots(self) -> list[int]:
        found = (self.place / METADATA).glob(f"*.{_ROOT}.json")
        return sorted(int(path.name.partition(".")[0]) for path in found)


def _meta(version: int, content: bytes) -> MetaFile:
    return MetaFile.from_data(version, content, ["sha256"])


def _delegated(targets: Targets | None, role: str) -> PublicKey:
    roles = None if targets is None or targets.delegations is None else targets.delegations.roles
    if targets is None or not roles or role not in roles:
        raise ReleaseError(f"The repository has no {role}.", field="federation")
    (keyid,) = roles[role].keyids
    return public_key(targets.get_key(keyid))


def _parsed(content: bytes, kind: type[T], role: str) -> T:
    try:
        signed = Metadata[T].from_bytes(content).signed
    except RepositoryError as error:
        raise ReleaseError(
            f"The repository's {role} metadata cannot be read; put back a copy.", field=role
        ) from error
    if not isinstance(signed, kind):
        raise ReleaseError(f"The repository's {role} metadata is of another role.", field=role)
    return signed
