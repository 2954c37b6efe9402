"""Rotation of every key, and false signatures, against `client fetch` and a real web server."""

import shutil

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot

from common.errors import FederationError
from common.identity.signing_key import SigningKey
from common.release.published import latest_path, role_of
from server.operations.publication.key_rotation import KEY_NAMES
from server.operations.publication.publishing import (
    changing_repository,
)
from server.releases.repository import OnlineKeys
from server.releases.tuf_keys import sign_metadata, tuf_key
from tests.support.release_town import publish_snapshot, resigned
from tests.support.repositories import Bent, now

LIST = role_of("main")


# -------------------------------------------------------- rotation of keys
@pytest.mark.parametrize("name", KEY_NAMES)
def test_a_node_follows_the_rotation_of_every_key(town2, name):
    town2.rotate(name)
    town2.operator.publish("3.0")
    assert town2.fetch().release.manifest.version == "3.0"


def test_a_node_follows_many_rotations_at_once(town2):
    for name in ("root", "snapshot", "root", "timestamp", "targets", "release", "root"):
        town2.rotate(name)
    town2.operator.publish("3.0")
    town2.fetch()
    assert (town2.node.metadata / "root.json").resolve().name == "7.root.json"


@pytest.mark.parametrize("name", ["snapshot", "timestamp"])
def test_an_online_key_that_was_rotated_out_signs_nothing_more(town2, name):
    old = town2.online()
    town2.rotate(name)
    repository = town2.operator.repository()
    if name == "snapshot":
        publish_snapshot(
            town2, repository.snapshot(), OnlineKeys(old.snapshot, town2.online().timestamp)
        )
    else:
        timestamp = repository.timestamp()
        timestamp.version += 1
        resigned(town2, "timestamp", timestamp, old.timestamp)
    town2.refused("signature")


@pytest.mark.parametrize("name", ["targets", "release"])
def test_an_operators_key_that_was_rotated_out_signs_nothing_more(town2, name):
    old = town2.operator.keys.load(name)
    town2.rotate(name)
    role = LIST if name == "release" else name
    repository, keys = town2.operator.repository(), town2.online()
    listed, snapshot = repository.targets(role), repository.snapshot()
    listed.version += 1
    content = repository._write(role, listed, [old])
    snapshot.meta[f"{role}.json"] = MetaFile.from_data(listed.version, content, ["sha256"])
    publish_snapshot(town2, snapshot, keys)
    town2.refused("signature")


@pytest.mark.parametrize("signers", ["old", "new", "neither"])
def test_a_next_root_needs_the_old_key_and_the_new_one(town2, tmp_path, signers):
    old, new = town2.operator.keys.load("root"), SigningKey.create(tmp_path / "new.key")
    repository = town2.operator.repository()
    root = repository.root()
    root.revoke_key(old.public.key_id, "root")
    root.add_key(tuf_key(new.public), "root")
    root.version += 1
    keys = {"old": [old], "new": [new], "neither": [SigningKey.create(tmp_path / "x.key")]}
    repository._write("root", root, keys[signers])
    town2.refused("signature")


def test_a_root_that_skips_a_version_is_refused(town2):
    repository = town2.operator.repository()
    root = repository.root()
    root.version += 2
    content = Metadata(root)
    sign_metadata(content, town2.operator.keys.load("root"))
    (town2.place / "metadata/2.root.json").write_bytes(content.to_bytes())
    town2.refused("version")


def test_after_stolen_online_keys_ran_ahead_a_rotation_brings_nodes_back(town2):
    """Fast forward: versions as high as they go, and then the operator's own, which are lower."""
    before, keys = town2.copy("before"), town2.online()
    timestamp, snapshot = (
        town2.operator.repository().timestamp(),
        town2.operator.repository().snapshot(),
    )
    snapshot.version = 2**40
    content = town2.operator.repository()._write("snapshot", snapshot, [keys.snapshot])
    timestamp.version = 2**41
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, content, ["sha256"])
    town2.operator.repository()._write("timestamp", timestamp, [keys.timestamp])
    town2.fetch()
    shutil.rmtree(town2.place)
    before.rename(town2.place)
    town2.refused("version")
    town2.rotate("snapshot")
    town2.rotate("timestamp")
    town2.operator.publish("3.0")
    assert town2.fetch().release.manifest.version == "3.0"


# ------------------------------------------------------------- signatures
@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_metadata_without_a_signature_or_with_another_roles_is_refused(town2, role):
    keys = town2.online()
    wrong = keys.timestamp if role == "snapshot" else keys.snapshot
    for signers in ([], [wrong]):
        repository = town2.operator.repository()
        timestamp, snapshot = repository.timestamp(), repository.snapshot()
        snapshot.version += 1
        mine = signers if role == "snapshot" else [keys.snapshot]
        content = repository._write("snapshot", snapshot, mine)
        timestamp.version += 1
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, content, ["sha256"])
        repository._write(
            "timestamp", timestamp, signers if role == "timestamp" else [keys.timestamp]
        )
        town2.refused("signature")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"[" * 10_000, b"\xff"])
def test_a_timestamp_that_is_none_is_refused(town2, content):
    (town2.place / "metadata/timestamp.json").write_bytes(content)
    town2.refused("signature")


def test_a_snapshot_in_the_place_of_a_timestamp_is_refused(town2):
    repository = town2.operator.repository()
    snapshot: Snapshot = repository.snapshot()
    content = Metadata(snapshot)
    sign_metadata(content, town2.online().timestamp)
    (town2.place / "metadata/timestamp.json").write_bytes(content.to_bytes())
    town2.refused("signature")


@pytest.mark.parametrize("status", [404, 403, 500, 301])
def test_an_answer_that_is_none_leaves_the_node_as_it_is(town2, status):
    town2.web.bent["timestamp.json"] = Bent(status=status)
    town2.refused("release", FederationError)


def test_a_target_outside_a_federations_part_is_not_looked_up_there(town):
    """A federation's list may name what is below its own name, and nothing else."""
    with changing_repository(town.operator.server, now()) as federation:
        repository = federation.repository
        listed, targets = federation._listed(), repository.targets()
        trust = repository.content(targets, "_trust/main.json")
        del targets.targets["_trust/main.json"]
        repository.add_target(listed, "_trust/main.json", trust)
        keys = town.operator.keys
        repository.publish(
            {
                "targets": (targets, keys.load("targets")),
                LIST: (listed, keys.load("release")),
            },
            federation.online,
        )
        assert latest_path("main") in listed.targets
    town.refused("release")
