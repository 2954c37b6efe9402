"""Each enrolled node has a certificate over its key, and nobody else has one."""

from dataclasses import replace
from datetime import timedelta

import pytest

from client.deployment.certificate import renew_certificate
from common.errors import EnrolmentError, SettingsError
from common.files import write_atomic
from common.identity.enrolment import Request
from common.identity.expiry import load_certificate
from common.identity.node_certificate import check_node_certificate
from common.identity.node_key import NodeKey
from server.operations.door.keeping import admit_now
from server.operations.door.node_certificates import (
    admitted_keys,
    certificate_path,
    certificate_warnings,
    node_map,
    sign_certificates,
)
from server.operations.door.proxy import write_proxy_config
from server.operations.folder import ServerSettings
from server.operations.provisioning import enrol, revoke
from server.operations.publication.key_rotation import retire_authority, rotate_key
from tests.support.doors import keys_of, node_of, now, operator, web_server
from tests.support.flower_engine import free_port

DAY = timedelta(days=1)
YEAR = 365


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


@pytest.fixture
def keys(server):
    return keys_of(server.root)


@pytest.fixture
def node(server, keys, tmp_path):
    made = node_of(server, tmp_path)
    enrol(server, keys, Request.from_bytes(made.request.read_bytes()), now())
    return made


@pytest.fixture
def own(server, node):
    """Where the node's certificate lies."""
    return certificate_path(server, NodeKey.load(node.key).public)


@pytest.fixture
def connected(server, node):
    """The node, with a proxy that serves what is the server's to show."""
    with web_server(server.root, server.tls_certificate, server.tls_key) as port:
        config = replace(node.config(), server=f"127.0.0.1:{port}")
        write_atomic(node.settings_file, config.to_toml())
        yield node


def test_an_enrolled_node_is_given_one_and_a_revoked_one_loses_it(server, keys, node, own):
    key = NodeKey.load(node.key).public
    found = check_node_certificate(own.read_bytes(), key)
    found.verify_directly_issued_by(load_certificate(server.authority))
    assert b"shop-a" not in own.read_bytes()
    assert sign_certificates(server, keys, now()) == []
    assert len(list(node_map(server))) == 1
    revoke(server, "shop-a", now())
    assert not own.exists()
    assert list(node_map(server)) == []
    assert admitted_keys(server) == {}


@pytest.mark.parametrize(
    ("days", "due"), [(1, False), (YEAR - 61, False), (YEAR - 59, True), (YEAR + 9, True)]
)
def test_it_is_due_two_months_before_it_ends_and_the_operator_is_told(
    server, keys, node, days, due
):
    later = now() + days * DAY
    told = "".join(certificate_warnings(server, later))
    assert ("shop-a" in told and "fedtail server renew" in told) is due
    assert sign_certificates(server, keys, later) == ["shop-a"] * due
    assert certificate_warnings(server, later) == []


def test_one_that_was_altered_is_made_anew(server, keys, own):
    own.write_text("x")
    assert sign_certificates(server, keys, now()) == ["shop-a"]


def test_keys_of_another_server_let_nobody_in(server, tmp_path):
    other = operator(tmp_path / "other", free_port())
    request = Request.from_bytes(node_of(server, tmp_path).request.read_bytes())
    with pytest.raises(SettingsError) as caught:
        enrol(server, keys_of(other.root), request, now())
    assert caught.value.field == "keys"
    assert admitted_keys(server) == {}
    enrol(server, keys_of(server.root), request, now())  # the invite is not used up


def test_without_the_operators_keys_a_server_goes_on(server, node, own):
    """All that it needs to let nodes in are public halves."""
    keys_of(server.root).authority_key.unlink()
    write_proxy_config(server)
    assert list(admit_now(server)) == []
    assert "CN=" in (server.proxy / "nodes.conf").read_text()
    assert certificate_warnings(server, now()) == []


def test_settings_of_an_earlier_version_are_taken_as_they_are(server):
    """No `proxy_user` in them."""
    old = [line for line in server.settings_file.read_text().splitlines() if "proxy" not in line]
    server.settings_file.write_text("\n".join(old))
    assert server.settings() == ServerSettings(("127.0.0.1",), server.settings().port, "127.0.0.1")


def test_a_server_that_was_never_started_has_no_proxy_to_tell(server, node):
    assert list(admit_now(server)) == []
    assert not server.proxy.exists()


def test_a_node_fetches_its_own_and_takes_no_other(server, keys, connected, own):
    renew_certificate(connected, now())
    assert connected.tls.stat().st_mode & 0o777 == 0o600
    held = connected.tls.read_bytes()
    own.unlink()
    renew_certificate(connected, now())  # it holds: nobody is asked
    assert connected.tls.read_bytes() == held
    connected.tls.unlink()
    own.write_bytes(keys.authority().issue_node(NodeKey.generate().public, now()))
    with pytest.raises(EnrolmentError) as caught:
        renew_certificate(connected, now())
    assert caught.value.field == "node_certificate"
    assert not connected.tls.exists()


def test_a_node_fetches_the_renewed_one(server, keys, connected, own):
    renew_certificate(connected, now())
    later = now() + (YEAR - 30) * DAY
    sign_certificates(server, keys, later)
    renew_certificate(connected, later)
    assert own.read_bytes() in connected.tls.read_bytes()


def test_a_new_authority_signs_anew_and_a_node_follows_once_it_trusts_it(
    server, keys, connected, own
):
    renew_certificate(connected, now())
    before = own.read_bytes()
    rotate_key(server, keys, "authority", now())
    renewed = own.read_bytes()
    assert renewed != before
    renew_certificate(connected, now())  # it has not fetched: the old one is the newest it trusts
    assert before in connected.tls.read_bytes()
    write_atomic(connected.authority, server.authority.read_bytes())
    renew_certificate(connected, now())
    assert renewed in connected.tls.read_bytes()
    retire_authority(server, keys, now())
    assert sign_certificates(server, keys, now()) == []
