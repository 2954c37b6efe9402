"""A release comes over TLS and stays only if the operator's key signed every byte of it."""

import shutil
from dataclasses import replace

import pytest

from client.deployment.release_download import fetch_release
from common.errors import FederationError, ReleaseError
from common.files import write_atomic
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from tests.support.doors import node_of, operator, web_server
from tests.support.flower_engine import free_port


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


@pytest.fixture
def served(server, simulated, tmp_path):
    """A node, and a running server that shows a simulation's release as version 7."""
    node = node_of(server, tmp_path)
    shutil.copy(simulated / "operator.pub", node.release_key)
    folder = server.releases / "7"
    shutil.copytree(simulated / "release", folder)
    (server.releases / "latest.json").write_text('{"version": "7"}')
    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        config = replace(node.config(), server=f"127.0.0.1:{port}")
        write_atomic(node.settings_file, config.to_toml())
        yield node, folder


def test_the_latest_release_is_fetched_once_and_is_what_was_signed(served, simulated):
    node, folder = served
    fetched = fetch_release(node)
    place, release = fetched.place, fetched.release
    assert place == node.releases / "7"
    trusted = PublicKey.load(simulated / "operator.pub")
    assert dict(release.files) == dict(verify_release(folder, trusted).files)
    shutil.rmtree(folder)
    assert fetch_release(node).release.manifest == release.manifest


def test_a_release_of_another_key_is_refused_and_nothing_is_kept(served, server):
    node, _ = served
    shutil.copy(server.release_public_key, node.release_key)
    with pytest.raises(ReleaseError, match="not signed with the key"):
        fetch_release(node)
    assert list(node.releases.iterdir()) == []


def test_a_file_that_was_altered_is_refused_and_nothing_is_kept(served):
    node, folder = served
    statement = folder / "STATEMENT.md"
    content = bytearray(statement.read_bytes())
    content[5] ^= 1
    statement.write_bytes(content)
    with pytest.raises(ReleaseError):
        fetch_release(node)
    assert list(node.releases.iterdir()) == []


def test_a_file_that_grew_is_not_read_to_its_end(served):
    node, folder = served
    with (folder / "STATEMENT.md").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReleaseError, match="more than"):
        fetch_release(node)


@pytest.mark.parametrize("told", ['{"version": "../../7"}', '{"version": 7}', "[]", "x", "{}"])
def test_a_version_that_is_none_is_refused(served, told):
    node, folder = served
    folder.with_name("latest.json").write_text(told)
    with pytest.raises(ReleaseError, match="which release"):
        fetch_release(node)


def test_before_the_first_release_it_says_so(served):
    node, folder = served
    folder.with_name("latest.json").unlink()
    with pytest.raises(FederationError, match="nothing was released yet"):
        fetch_release(node)
