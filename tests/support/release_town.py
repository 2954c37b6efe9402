"""An operator, a node of its federation, and the web server between them that may be bent."""

import shutil

import pytest
from tuf.api.metadata import MetaFile

from client.deployment.provisioning import NodeFolder
from client.deployment.release_store import ReleaseStore
from common.errors import ReleaseError
from server.operations.folder import ServerFolder
from server.operations.publication.key_rotation import rotate_key
from server.operations.publication.publishing import online_pair
from server.releases.lifetimes import Lifetimes
from server.releases.repository import OnlineKeys, Repository
from tests.support.repositories import Operator, now


class Town:
    """An operator, a node of its federation and the web server between them."""

    def __init__(self, place, web):
        self.operator = Operator.of(ServerFolder(place / "server"))
        self.node = NodeFolder(place / "shop-a")
        self.web, self.place = web, self.operator.place

    def fetch(self, **options):
        return self.web.fetch(self.node, **options)

    def told(self, **options):
        return self.web.told(self.node, **options)

    @property
    def current(self):
        return ReleaseStore(self.node).current

    def refused(self, field, error=ReleaseError):
        """Fetch, which must fail for that reason and leave what is in use, whole."""
        before = self.current
        with pytest.raises(error) as caught:
            self.fetch()
        assert caught.value.field == field, caught.value
        assert self.current == before
        if before is not None:
            ReleaseStore(self.node).verify(before)
        return caught.value

    def copy(self, name="copy"):
        """A copy of all that is served, such as an attacker keeps."""
        return shutil.copytree(self.place, self.place.with_name(name))

    def online(self):
        return OnlineKeys(
            *(
                online_pair(self.operator.server, one).load(None)
                for one in ("snapshot", "timestamp")
            )
        )

    def thief(self, at=None, **days):
        """The repository as somebody with the online keys writes it, with other lifetimes."""
        return Repository(self.place, Lifetimes(**days), at or now())

    def rotate(self, name):
        return rotate_key(self.operator.server, self.operator.keys, name, now())


def resigned(town, role, signed, key):
    Repository(town.place, Lifetimes(), now())._write(role, signed, [key])


def publish_snapshot(town, snapshot, keys):
    """Sign a snapshot and a timestamp over it, as a thief of the online keys would."""
    repository = town.operator.repository()
    snapshot.version += 1
    content = repository._write("snapshot", snapshot, [keys.snapshot])
    timestamp = repository.timestamp()
    timestamp.version += 1
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, content, ["sha256"])
    repository._write("timestamp", timestamp, [keys.timestamp])
