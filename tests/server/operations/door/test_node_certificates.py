"""Each enrolled node has a certificate over its key, and nobody else has one."""

from datetime import timedelta

import pytest

from client.deployment.certificate import renew_certificate
from common.errors import EnrolmentError
from common.identity.enrolment import Request
from common.identity.expiry import load_certificate
from common.identity.node_certificate import check_node_certificate
from common.identity.node_key import NodeKey
from server.operations.door.keeping import admit_now, renew
from server.operations.door.node_certificates import (
    admitted_keys,
    certificate_path,
    node_map,
    renew_certificates,
)
from server.operations.door.proxy import write_proxy_config
from server.operations.folder import ServerSettings
from server.operations.provisioning import enrol, revoke
from tests.support.doors import node_of, now, operator, web_server
from tests.support.flower_engine import free_port

DAY = timedelta(days=1)


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


@pytest.fixture
def node(server, tmp_path):
    made = node_of(server, tmp_path)
    enrol(server, Request.from_bytes(made.request.read_bytes()), now())
    return made


def test_an_enrolled_node_is_given_one_and_a_revoked_one_loses_it(server, node):
    assert renew_certificates(server, now()) == ["shop-a"]
    assert renew_certificates(server, now()) == []
    key = NodeKey.load(node.key).public
    path = certificate_path(server, key)
    check_node_certificate(path.read_bytes(), key, load_certificate(server.authority))
    assert b"shop-a" not in path.read_bytes()
    assert len(list(node_map(server))) == 1
    revoke(server, "shop-a", now())
    renew_certificates(server, now())
    assert not path.exists()
    assert list(node_map(server)) == []
    assert admitted_keys(server) == {}


@pytest.mark.parametrize(("days", "due"), [(1, False), (29, False), (31, True), (400, True)])
def test_it_is_renewed_two_months_before_it_ends(server, node, days, due):
    renew_certificates(server, now())
    assert bool(renew_certificates(server, now() + days * DAY)) is due


def test_one_that_was_altered_is_made_anew(server, node):
    renew_certificates(server, now())
    path = certificate_path(server, NodeKey.load(node.key).public)
    path.write_text("x")
    assert renew_certificates(server, now()) == ["shop-a"]


def test_without_the_authoritys_key_a_server_goes_on_and_says_so(server, node):
    renew_certificates(server, now())
    server.authority_key.unlink()
    assert list(renew(server, now())) == []
    (told,) = renew(server, now() + 40 * DAY)
    assert "Put the authority's key back" in told


def test_a_folder_of_an_earlier_version_is_taken_as_it_is(server, node):
    """No `proxy_user` in its settings, no certificates, no place of the proxy's to write to."""
    old = [line for line in server.settings_file.read_text().splitlines() if "proxy" not in line]
    server.settings_file.write_text("\n".join(old))
    assert server.settings() == ServerSettings(("127.0.0.1",), server.settings().port, "127.0.0.1")
    assert list(renew(server, now())) == ["shop-a has a new certificate; its node fetches it."]
    write_proxy_config(server)
    assert "CN=" in (server.proxy / "nodes.conf").read_text()


def test_a_server_that_was_never_started_has_no_proxy_to_tell(server, node):
    assert list(admit_now(server, now())) == []
    assert not server.proxy.exists()


def test_a_node_fetches_its_own_and_takes_no_other(server, node, tmp_path):
    renew_certificates(server, now())
    from dataclasses import replace

    from common.files import write_atomic

    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        config = replace(node.config(), server=f"127.0.0.1:{port}")
        write_atomic(node.settings_file, config.to_toml())
        renew_certificate(node, now())
        assert node.tls.stat().st_mode & 0o777 == 0o600
        held = node.tls.read_bytes()
        renew_certificate(node, now())  # it holds: nobody is asked
        assert node.tls.read_bytes() == held
        node.tls.unlink()
        key = NodeKey.load(node.key).public
        other = NodeKey.generate().public
        from server.operations.certificates import Authority

        authority = Authority.load(server.authority_key, server.authority)
        certificate_path(server, key).write_bytes(authority.issue_node(other, now()))
        with pytest.raises(EnrolmentError) as caught:
            renew_certificate(node, now())
        assert caught.value.field == "node_certificate"
        assert not node.tls.exists()
