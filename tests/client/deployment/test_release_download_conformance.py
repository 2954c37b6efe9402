"""What The Update Framework asks of a client, against `client fetch` and a real static web server.

The cases are those of the framework's own conformance suite for roll back, freeze, mix and match,
endless data, rotation of keys and expiry. docs/ref-release.md names those that do not apply.
"""

import shutil
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata, MetaFile, Timestamp

from client.deployment import release_transport
from client.deployment.release_store import ReleaseStore
from common.errors import FederationError, ReleaseError
from common.release.published import role_of
from server.operations.folder import ServerSettings
from server.operations.key_folder import KeyFolder
from server.operations.provisioning import init_server
from server.operations.publication.publishing import (
    changing_repository,
    list_release,
    renew_metadata,
)
from server.releases.lifetimes import Lifetimes
from server.releases.repository import Repository
from tests.support.release_town import publish_snapshot, resigned
from tests.support.repositories import Bent, Operator, now, static_server

DAY = timedelta(days=1)
LIST = role_of("main")


# ---------------------------------------------------------------- basics
def test_a_new_node_fetches_and_every_file_is_the_signed_one(town):
    fetched = town.fetch()
    assert town.current == fetched.release.manifest.version == "1.0"
    assert (fetched.place / "notes.txt").read_bytes() == b"release 1.0" * 50
    assert not ReleaseStore(town.node).fetching.exists()


def test_a_newer_release_is_taken(town2):
    assert town2.current == "2.0"
    assert ReleaseStore(town2.node).versions() == ["2.0"]


def test_files_of_a_former_state_stay_while_somebody_reads(town):
    """Consistent snapshots: what a client has begun to read does not change under it."""
    before = {path: path.read_bytes() for path in town.place.rglob("*.json")}
    town.operator.publish("2.0")
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["timestamp.json"]


# ---------------------------------------------------------------- roll back
def test_the_whole_repository_put_back_is_refused(town2):
    town2.web.folder = town2.old
    town2.refused("version")


def test_an_older_timestamp_is_refused(town2):
    shutil.copy(town2.old / "metadata/timestamp.json", town2.place / "metadata/timestamp.json")
    town2.refused("version")


def test_a_timestamp_of_a_higher_version_with_an_older_snapshot_is_refused(town2):
    newest, keys = town2.operator.repository().timestamp(), town2.online()
    older = Metadata[Timestamp].from_file(str(town2.old / "metadata/timestamp.json")).signed
    newest.version += 1
    newest.snapshot_meta = older.snapshot_meta
    resigned(town2, "timestamp", newest, keys.timestamp)
    town2.refused("version")


@pytest.mark.parametrize("role", ["targets", LIST])
def test_a_snapshot_with_an_older_list_is_refused(town2, role):
    repository, keys = town2.operator.repository(), town2.online()
    snapshot = repository.snapshot()
    snapshot.meta[f"{role}.json"] = MetaFile(snapshot.meta[f"{role}.json"].version - 1)
    publish_snapshot(town2, snapshot, keys)
    town2.refused("version")


def test_a_snapshot_without_a_list_is_refused(town2):
    snapshot = town2.operator.repository().snapshot()
    del snapshot.meta[f"{LIST}.json"]
    publish_snapshot(town2, snapshot, town2.online())
    town2.refused("signature")


def test_a_root_of_the_same_version_is_not_a_next_one(town2):
    root = town2.place / "metadata/1.root.json"
    shutil.copy(root, root.with_name("2.root.json"))
    town2.refused("version")


def test_a_former_latest_is_refused(town2):
    """The attack that once worked: the file that names the latest release pointed back."""
    found = [path.read_bytes() for path in (town2.old / "targets/main").glob("*.latest.json")]
    (older,) = [content for content in found if b'"1.0"' in content]
    town2.web.bent["latest.json"] = Bent(content=older)
    town2.refused("mixed")


def test_an_older_release_is_not_the_latest_even_by_all_keys(town2):
    """Whoever has the release key and the online keys cannot put a node back without a word."""
    with changing_repository(town2.operator.server, now()) as federation:
        listed = federation._listed()
        told = federation.latest().model_copy(update={"version": "1.0"})
        federation._say_latest(listed, told)
        key = town2.operator.keys.load("release")
        federation.repository.publish({LIST: (listed, key)}, federation.online)
    town2.refused("version")


def test_an_old_release_listed_as_a_new_version_is_refused(town2):
    """The attack that once worked: 1.0 served as 9999.1 was verified."""
    town2.operator.build("9999.1", says="1.0")
    with pytest.raises(ReleaseError):  # the operator's own command does not list it
        list_release(town2.operator.server, town2.operator.keys.load("release"), "9999.1", now())
    with changing_repository(town2.operator.server, now()) as federation:
        listed = federation._listed()
        for path in (town2.operator.server.releases / "9999.1").rglob("*"):
            if path.is_file():
                name = path.relative_to(town2.operator.server.releases / "9999.1").as_posix()
                pem = town2.operator.keys.load("release").public.to_pem().decode()
                custom = {"release_key": pem} if name == "manifest.json" else None
                federation.repository.add_target(
                    listed, f"main/9999.1/{name}", path.read_bytes(), custom
                )
        told = federation.latest().model_copy(update={"version": "9999.1"})
        federation._say_latest(listed, told)
        key = town2.operator.keys.load("release")
        federation.repository.publish({LIST: (listed, key)}, federation.online)
    town2.refused("version")


# ------------------------------------------------------- freeze and expiry
@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_what_the_server_signs_expires(town2, role):
    past = town2.thief(now() - 2 * DAY, **{"snapshot": 3650, "timestamp": 3650, role: 1})
    past.publish({}, town2.online())
    town2.refused("expired")


@pytest.mark.parametrize("role", ["root", "targets", "releases"])
def test_what_the_operator_signs_expires(tmp_path, role):
    days = {"root": 3650, "targets": 3650, "releases": 3650, "timestamp": 3650, role: 1}
    operator = Operator(tmp_path / "server", now() - 2 * DAY, lifetimes=Lifetimes(**days))
    with changing_repository(operator.server, now()) as federation:
        federation.repository.publish({}, federation.online)  # what is online is fresh
    with static_server(operator.place) as web, pytest.raises(ReleaseError) as caught:
        web.fetch(operator.node(tmp_path))
    assert caught.value.field == "expired"


def test_a_server_that_shows_the_same_for_ever_is_refused_in_the_end(town):
    """The attack that once worked: nothing expired, so news could be held back for ever."""
    town.thief(now() - 4 * DAY).publish({}, town.online())
    town.refused("expired")


def test_after_a_freeze_the_node_goes_on_where_something_fresh_is_shown(town2):
    town2.thief(now() - 2 * DAY, timestamp=1).publish({}, town2.online())
    town2.refused("expired")
    town2.operator.refresh()
    town2.operator.publish("3.0")
    assert town2.fetch().release.manifest.version == "3.0"


def test_a_root_that_has_expired_may_lead_to_one_that_has_not(town2):
    past = now() - 2 * DAY
    Repository(town2.place, Lifetimes(root=1), past).renew_root([town2.operator.keys.load("root")])
    town2.refused("expired")
    renew_metadata(town2.operator.server, town2.operator.keys, now())
    town2.fetch()


# ---------------------------------------------------------- mix and match
@pytest.mark.parametrize("name", ["snapshot", "targets", LIST])
def test_metadata_of_another_moment_in_the_place_of_this_ones_is_refused(town, name):
    repository = town.operator.repository()
    version = (repository.targets(name) or repository.snapshot()).version
    before = (town.place / f"metadata/{version}.{name}.json").read_bytes()
    town.operator.publish("2.0")
    if name == "targets":
        town.rotate(name)
    town.web.bent[rf"\d\.{name}\.json"] = Bent(content=before)
    town.refused("mixed")


def test_a_file_of_another_release_is_refused(town2):
    (other,) = (town2.place / "targets/main/1.0").glob("*.notes.txt")
    town2.operator.publish("3.0")
    town2.web.bent["3.0/.*notes"] = Bent(content=other.read_bytes())
    town2.refused("release")


def test_another_federations_list_is_refused(town, tmp_path):
    place = town.operator.server.root
    settings = ServerSettings(("127.0.0.1",), federation="other", repository=str(place))
    keys = KeyFolder(town.operator.keys.root, "other")
    init_server(tmp_path / "other", keys, settings, now())
    repository = town.operator.repository()
    names = {
        name: repository.snapshot().meta[f"{role_of(name)}.json"] for name in ("main", "other")
    }
    theirs = town.place / f"metadata/{names['other'].version}.{role_of('other')}.json"
    snapshot = repository.snapshot()
    snapshot.meta[f"{LIST}.json"] = MetaFile(names["other"].version)
    shutil.copy(theirs, theirs.with_name(f"{names['other'].version}.{LIST}.json"))
    publish_snapshot(town, snapshot, town.online())
    town.refused("signature")


# ------------------------------------------------------------ endless data
@pytest.mark.parametrize(
    "path", ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", f"{LIST}.json"]
)
def test_metadata_without_an_end_is_not_read_on(town, path):
    town.web.bent[path.replace(".", r"\.")] = Bent(endless=True)
    town.refused("endless")


@pytest.mark.parametrize("path", ["latest.json", "manifest.json", "notes.txt"])
def test_a_target_without_an_end_is_not_read_on(town, path):
    town.web.bent[path] = Bent(endless=True)
    town.refused("endless")
    del town.web.bent[path]
    town.fetch()


def test_one_byte_more_is_too_many(town):
    (notes,) = (town.place / "targets/main/1.0").glob("*.notes.txt")
    town.web.bent["notes.txt"] = Bent(content=notes.read_bytes() + b"x")
    town.refused("endless")


def test_a_server_that_drips_is_not_waited_for(town, monkeypatch):
    monkeypatch.setattr(release_transport, "GRACE_SECONDS", -1.0)
    monkeypatch.setattr(release_transport, "LEAST_PACE", 1e9)
    town.refused("slow", FederationError)
