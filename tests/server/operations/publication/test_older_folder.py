"""A folder of fedtail 0.1 hands over its keys and its releases, and its nodes go on."""

import shutil

import pytest

from common.identity.enrolment import Request
from common.identity.signing_key import PublicKey
from server.operations.door.node_certificates import certificate_warnings
from server.operations.key_folder import KeyFolder
from server.operations.provisioning import enrol
from server.operations.publication.older_folder import take_over
from tests.support.doors import node_of, now
from tests.support.repositories import Operator, static_server


@pytest.fixture
def older(tmp_path):
    """A server's folder as version 0.1 left it: keys in it, and two releases shown."""
    operator = Operator(tmp_path / "server")
    server, keys = operator.server, operator.keys
    for version in ("1.9", "1.10"):
        operator.build(version)
    enrol(server, keys, Request.load(node_of(server, tmp_path, "shop-old").request), now())
    shutil.rmtree(server.certificates)
    shutil.rmtree(server.repository)
    shutil.rmtree(server.online)
    server.releases.rename(server.repository)
    (server.repository / "latest.json").write_text('{"version": "1.10"}')
    shutil.move(keys.pair("enrolment").path, server.root / "enrolment.key")
    shutil.move(keys.pair("release").path, server.root / "operator.key")
    shutil.move(keys.authority_key, server.root / "authority.key")
    shutil.rmtree(keys.root)
    server.enrolment_public_key.unlink()
    return operator


def test_keys_move_and_releases_are_published(older, tmp_path):
    server = older.server
    before = PublicKey.load(server.release_public_key), server.authority.read_bytes()
    keys = KeyFolder(tmp_path / "server-keys", "main")
    take_over(server, keys, now())
    assert (keys.load("release").public, keys.authority().pem) == before
    assert not list(server.root.glob("*.key"))
    assert certificate_warnings(server, now()) == []
    assert len(list(server.certificates.iterdir())) == 1
    assert sorted(path.name for path in server.repository.iterdir()) == ["metadata", "targets"]
    with static_server(server.repository) as web:
        assert web.fetch(older.node(tmp_path)).release.manifest.version == "1.10"
    take_over(server, keys, now())  # a second time it has nothing to do
    assert keys.load("release").public == before[0]
