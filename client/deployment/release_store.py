"""Releases that a node has fetched, the one in use, and what the merchant has decided about them.

    releases/VERSION/release/       as the operator signed it
    releases/VERSION/operator.pub   the key that it verifies with
    releases/state.json             rolled back from which, and what the operator has withdrawn
    releases/.fetching/             what is on its way
    current                         a link to releases/VERSION: the release in use

The link is replaced in one step, so that a reader finds the old release or the new one.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from client.deployment.provisioning import NodeFolder
from common.errors import FederationError, ReleaseError
from common.files import PRIVATE_MODE, sync_folder, write_atomic
from common.identity.signing_key import PublicKey
from common.record import Record
from common.release.manifest import Version
from common.release.published import Withdrawn
from common.release.verify import VerifiedRelease, verify_release, version_order

RELEASE = "release"
KEY = "operator.pub"
_FETCHING = ".fetching"


class StoreState(Record):
    """What is remembered between commands.

    Attributes:
        rolled_back: The release that the merchant went back from; None where none is held off.
        withdrawn: What the operator has taken back, as far as this node has heard.
    """

    rolled_back: Version | None = None
    withdrawn: tuple[Withdrawn, ...] = ()

    def reason(self, version: str) -> str | None:
        """Return why a version was withdrawn; None if it was not."""
        return next((one.reason for one in self.withdrawn if one.version == version), None)


@dataclass(frozen=True)
class ReleaseStore:
    """The releases in one node's folder."""

    folder: NodeFolder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other command change the store meanwhile.

        Raises:
            FederationError: if another is at it.
        """
        self.folder.releases.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder.releases / ".lock", flags, PRIVATE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FederationError(
                    "Another command is fetching or switching releases of this node.",
                    field="folder",
                ) from None
            yield
        finally:
            os.close(descriptor)

    @property
    def current(self) -> str | None:
        """The version in use; None where there is none."""
        try:
            return self.folder.current.readlink().name
        except OSError:
            return None

    def versions(self) -> list[str]:
        """Return the versions that are kept, the newest last."""
        found = [path.parent.name for path in self.folder.releases.glob(f"[0-9]*/{RELEASE}")]
        return sorted(found, key=version_order)

    def place(self, version: str) -> Path:
        """Return the folder of a release, as the operator signed it."""
        return self.folder.releases / version / RELEASE

    def verify(self, version: str) -> VerifiedRelease:
        """Verify a kept release with its key, which a signed list named when it was fetched.

        Raises:
            ReleaseError: if it is not whole, or of another version.
        """
        return verify_kept(self.folder.releases / version, version)

    def kept_parent(self, release: VerifiedRelease) -> VerifiedRelease | None:
        """Return the release whose adapter a refresh keeps, if it is kept here; else None."""
        named = release.manifest.parent
        for version in self.versions() if named else ():
            try:
                found = self.verify(version)
            except ReleaseError:
                continue  # damaged: nothing to hold anything to
            if found.manifest.digest == named:
                return found
        return None

    @property
    def fetching(self) -> Path:
        """Where a release lies until it is whole and verified."""
        return self.folder.releases / _FETCHING

    def keep(self, version: str) -> None:
        """Put a release that was fetched and verified among the kept ones."""
        place = self.folder.releases / version
        if place.exists():  # damaged: else it would not have been fetched
            shutil.rmtree(place)
        (self.fetching / version).rename(place)
        sync_folder(self.folder.releases)
        shutil.rmtree(self.fetching, ignore_errors=True)

    def use(self, version: str) -> None:
        """Make a kept release the one in use, in one step."""
        link = self.folder.root / f".{self.folder.current.name}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(self.folder.releases.name) / version)
        link.replace(self.folder.current)
        sync_folder(self.folder.root)

    def state(self) -> StoreState:
        """Return what is remembered.

        Raises:
            ReleaseError: if the file is damaged.
        """
        try:
            return StoreState.model_validate_json(self._state_file.read_bytes())
        except FileNotFoundError:
            return StoreState()
        except ValidationError as error:
            raise ReleaseError(
                f"{self._state_file} is damaged. It said whether you rolled back: put back a copy, "
                "or remove it.",
                field="state",
            ) from error

    def remember(self, state: StoreState) -> None:
        """Write what is to be remembered."""
        write_atomic(self._state_file, state.model_dump_json().encode())

    def roll_back(self, to: str | None = None) -> str:
        """Go back to an older kept release, verified; the next fetch does not undo it.

        Args:
            to: Which; without it the newest that is older and was not withdrawn.

        Raises:
            ReleaseError: if there is none, or it does not verify. Nothing changes then.
        """
        current, state = self.current, self.state()
        if current is None:
            raise ReleaseError("No release is in use.", field="release")
        older = [
            one
            for one in self.versions()
            if version_order(one) < version_order(current) and state.reason(one) is None
        ]
        target = to if to is not None else next(reversed(older), None)
        if target not in older:
            kept = ", ".join(older) or "none"
            raise ReleaseError(
                f"There is no such older release that the operator has not withdrawn; kept are: "
                f"{kept}.",
                field="version",
            )
        self.verify(target)
        # First this: were it the other way round, a fetch after a crash would undo the switch.
        self.remember(state.model_copy(update={"rolled_back": state.rolled_back or current}))
        self.use(target)
        return target

    @property
    def _state_file(self) -> Path:
        return self.folder.releases / "state.json"


def verify_kept(place: Path, version: str) -> VerifiedRelease:
    """Verify the release in `place` with the key that lies beside it.

    Raises:
        ReleaseError: if it is not whole, not signed with that key, or of another version.
    """
    release = verify_release(place / RELEASE, PublicKey.load(place / KEY))
    if release.manifest.version != version:
        raise ReleaseError(
            f"The release that was listed as {version} says of itself that it is "
            f"{release.manifest.version}. Do not use it; ask the operator.",
            field="version",
        )
    return release
