"""What one federation has in a repository: its place, its releases, and whom members trust."""

import shutil
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError
from tuf.api.metadata import Targets

from common.errors import ReleaseError
from common.files import sha256_hex
from common.identity.signing_key import SigningKey
from common.record import first_problem
from common.release.manifest import MANIFEST_FILE, SIGNATURE_FILE
from common.release.published import (
    MAX_WITHDRAWN,
    RELEASE_KEY,
    TARGETS,
    FederationTrust,
    Latest,
    Withdrawn,
    latest_path,
    release_path,
    role_of,
    trust_path,
)
from common.release.verify import VerifiedRelease, version_order
from server.releases.repository import OnlineKeys, Repository

RENEW_AT = 0.5  # of a lifetime: what the server signs by itself is signed anew when it is half over


@dataclass(frozen=True)
class Federation:
    """One federation in a repository.

    Attributes:
        name: Its name there.
        repository: The repository, which may hold others.
        online: Sign what is the newest.
    """

    name: str
    repository: Repository
    online: OnlineKeys

    def set_trust(
        self, trust: FederationTrust, targets_key: SigningKey, release_key: SigningKey
    ) -> None:
        """Say whom the members trust, and give the federation's list to `release_key`.

        The list is signed anew with that key. The first time the federation joins the repository.

        Args:
            trust: What members are told.
            targets_key: Signs the list of federations.
            release_key: Signs this one's list from now on.
        """
        targets = self.repository.targets() or Targets()
        self.repository.delegate(targets, self.name, release_key.public)
        self.repository.add_target(targets, trust_path(self.name), trust.to_bytes())
        listed = self.repository.targets(self._role)
        if listed is None:
            listed = Targets()
            self._say_latest(listed, Latest(federation=self.name))
        self.repository.publish(
            {"targets": (targets, targets_key), self._role: (listed, release_key)}, self.online
        )

    def release(self, release: VerifiedRelease, signature: bytes, key: SigningKey) -> None:
        """List a release, and have members use it.

        Args:
            release: Verified with the public half of `key`.
            signature: Over its manifest.
            key: The federation's.

        Raises:
            ReleaseError: if it is older than the latest, or the list has this version with other
                content.
        """
        listed, version, told = self._listed(), release.manifest.version, self.latest()
        if told.version is not None and version_order(version) < version_order(told.version):
            raise ReleaseError(
                f"Release {version} is older than {told.version}, which members use. Withdraw that "
                "one first.",
                field="version",
            )
        content = release.manifest.to_bytes()
        path = release_path(self.name, version, MANIFEST_FILE)
        if self.repository.content(listed, path) not in {None, content}:
            raise ReleaseError(
                f"The repository has another release {version}; a release is never changed.",
                field="version",
            )
        pem = key.public.to_pem().decode()
        self.repository.add_target(listed, path, content, {RELEASE_KEY: pem})
        for name, held in {**release.files, SIGNATURE_FILE: signature}.items():
            self.repository.add_target(listed, release_path(self.name, version, name), held)
        kept = tuple(one for one in told.withdrawn if one.version != version)
        self._say_latest(listed, told.model_copy(update={"version": version, "withdrawn": kept}))
        self.repository.publish({self._role: (listed, key)}, self.online)

    def withdraw(self, version: str, reason: str, key: SigningKey) -> str | None:
        """Take a release back; return the version that members use now, if there is one left.

        Its files are removed once no list has them.

        Raises:
            ReleaseError: if no such release is listed, or the reason is not a short line.
        """
        if version not in self.versions():
            raise ReleaseError(f"No release {version} is published.", field="version")
        try:
            taken = Withdrawn(version=version, reason=reason)
        except ValidationError as error:
            raise ReleaseError(
                f"The reason cannot be told: {first_problem(error)}.", field="reason"
            ) from None
        listed, told = self._listed(), self.latest()
        for path in [one for one in listed.targets if one.startswith(f"{self.name}/{version}/")]:
            del listed.targets[path]
        left = [one for one in self.versions() if one != version]
        use = told.version if told.version in left else next(reversed(left), None)
        withdrawn = (taken, *told.withdrawn[: MAX_WITHDRAWN - 1])
        now = told.model_copy(update={"version": use, "withdrawn": withdrawn})
        self._say_latest(listed, now)
        self.repository.publish({self._role: (listed, key)}, self.online)
        shutil.rmtree(self.repository.place / TARGETS / self.name / version, ignore_errors=True)
        return now.version

    def digest_of(self, version: str) -> str:
        """Return the digest of a release that is listed.

        Raises:
            ReleaseError: if it is not.
        """
        path = release_path(self.name, version, MANIFEST_FILE)
        content = self.repository.content(self._listed(), path)
        if content is None:
            raise ReleaseError(f"No release {version} is published.", field="version")
        return sha256_hex(content)

    def versions(self) -> list[str]:
        """Return the releases that are listed, the newest last."""
        parts = [path.split("/") for path in self._listed().targets]
        found = {part[1] for part in parts if part[2:] == [MANIFEST_FILE]}
        return sorted(found, key=version_order)

    def latest(self) -> Latest:
        """Return what members are told to use."""
        content = self.repository.content(self._listed(), latest_path(self.name))
        if content is None:
            raise ReleaseError("The list of releases names no latest.", field="latest")
        return Latest.from_bytes(content)

    @property
    def _role(self) -> str:
        return role_of(self.name)

    def _listed(self) -> Targets:
        listed = self.repository.targets(self._role)
        if listed is None:
            raise ReleaseError(
                f"The repository has no federation named {self.name}.", field="federation"
            )
        return listed

    def _say_latest(self, listed: Targets, latest: Latest) -> None:
        self.repository.add_target(listed, latest_path(self.name), latest.to_bytes())


def refresh(repository: Repository, online: OnlineKeys, *, force: bool = False) -> bool:
    """Sign snapshot and timestamp anew where half of their lives is over; return whether it did.

    Args:
        repository: Whose.
        online: The keys.
        force: Do it in any case.
    """
    due = force
    for signed in (repository.snapshot(), repository.timestamp()):
        if signed is not None:
            life: timedelta = repository.lifetimes.of(signed.type)
            due = due or signed.expires - repository.now < RENEW_AT * life
    if due:
        repository.publish({}, online)
    return due
