"""Bring the folder of a server of fedtail 0.1, whose keys lay in it, to this version."""

from datetime import datetime
from pathlib import Path

from common.files import PRIVATE_MODE, write_atomic
from common.identity.node_key import read_secret
from common.release.manifest import MANIFEST_FILE
from common.release.verify import version_order
from server.operations.door.node_certificates import sign_certificates
from server.operations.folder import ServerFolder
from server.operations.key_folder import KeyFolder
from server.operations.publication.publishing import join_repository, list_release


def take_over(folder: ServerFolder, keys: KeyFolder, now: datetime, secret: bytes = b"") -> None:
    """Move the keys that lie in a server's folder, make what is missing, and publish what there is.

    Enrolled nodes are given certificates.

    Releases that are shown in the old place are moved and listed, the oldest first. Given again it
    does what was left undone; on a folder of this version it makes missing keys and no more.

    Args:
        folder: The server's.
        keys: Where its keys shall be.
        now: When new keys and metadata begin.
        secret: Encrypts what is made; what is moved stays as it is.

    Raises:
        EnrolmentError: if a key cannot be read, or others may read it.
        ReleaseError: if a release does not verify.
    """
    moved = {
        "enrolment.key": keys.pair("enrolment").path,
        "operator.key": keys.pair("release").path,
        "authority.key": keys.authority_key,
    }
    for name, place in moved.items():
        if (folder.root / name).exists() and not place.exists():
            write_atomic(place, read_secret(folder.root / name, "key"), mode=PRIVATE_MODE)
    if keys.authority_key.exists() and not keys.authority_certificate.exists():
        write_atomic(keys.authority_certificate, folder.authority.read_bytes())
    keys.make(now, secret)
    keys.load("enrolment").public.save(folder.enrolment_public_key)
    join_repository(folder, keys, now)
    sign_certificates(folder, keys, now)
    for version in sorted(_shown(folder.repository), key=version_order):
        folder.releases.mkdir(exist_ok=True)
        (folder.repository / version).rename(folder.releases / version)
        list_release(folder, keys.load("release"), version, now)
    (folder.repository / "latest.json").unlink(missing_ok=True)
    for name in moved:  # last: until here the folder is as it was
        (folder.root / name).unlink(missing_ok=True)


def _shown(repository: Path) -> list[str]:
    return [path.parent.name for path in repository.glob(f"*/{MANIFEST_FILE}")]
