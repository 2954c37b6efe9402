"""A node that knocks is told what is wrong, before anything of the shop is read or sent."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from client.deployment.connection_check import check_connection
from common.errors import EnrolmentError, FederationError
from common.files import write_atomic
from tests.support.doors import keys_of, node_of, now, operator, web_server
from tests.support.flower_engine import free_port

pytestmark = pytest.mark.attack


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


@pytest.fixture
def node(server, tmp_path):
    return node_of(server, tmp_path)


def pointed_at(node, port, host="127.0.0.1"):
    """The same node, with another server in its settings."""
    config = replace(node.config(), server=f"{host}:{port}")
    write_atomic(node.settings_file, config.to_toml())
    return node


def issued(server, tmp_path, **options):
    """A certificate and key of the server's authority, as files."""
    authority = keys_of(server.root).authority()
    options = {"hosts": ("127.0.0.1",), "now": now(), **options}
    key, certificate = authority.issue(options.pop("hosts"), options.pop("now"), **options)
    (tmp_path / "one.key").write_bytes(key)
    (tmp_path / "one.crt").write_bytes(certificate)
    return tmp_path / "one.crt", tmp_path / "one.key"


def refusal(node, error=EnrolmentError):
    with pytest.raises(error) as caught:
        check_connection(node, now())
    assert caught.type is error  # and no other below it
    return caught.value


def test_a_server_that_is_not_there_may_come(node):
    error = refusal(node, FederationError)
    assert "does not answer" in str(error)


def test_a_port_without_tls_is_no_server(node, tmp_path):
    with web_server(tmp_path) as port:
        error = refusal(pointed_at(node, port))
    assert error.field == "server"
    assert "does not speak TLS" in str(error)


def test_another_authoritys_server_is_refused(node, tmp_path):
    other = operator(tmp_path / "other", free_port())
    with web_server(tmp_path, other.tls_certificate, other.tls_key) as port:
        error = refusal(pointed_at(node, port))
    assert error.field == "certificate"
    assert "not signed by the authority" in str(error)


@pytest.mark.parametrize(
    ("begins", "words"),
    [(timedelta(days=-3), "has expired"), (timedelta(days=3), "not valid yet")],
)
def test_a_certificate_out_of_its_time_is_told_as_that(server, node, tmp_path, begins, words):
    certificate = issued(server, tmp_path, now=now() + begins, days=1)
    with web_server(tmp_path, *certificate) as port:
        error = refusal(pointed_at(node, port))
    assert error.field == "certificate"
    assert words in str(error)
    assert "clock" in str(error)


def test_a_certificate_for_other_names_is_told_as_that(server, node, tmp_path):
    certificate = issued(server, tmp_path)
    with web_server(tmp_path, *certificate, host="127.0.0.2") as port:
        error = refusal(pointed_at(node, port, "127.0.0.2"))
    assert "other names" in str(error)
    assert "fedtail server rotate" in str(error)


def test_a_tls_server_that_is_not_fedtails_is_told_as_that(server, node, tmp_path):
    with web_server(tmp_path, *issued(server, tmp_path)) as port:
        error = refusal(pointed_at(node, port))
    assert re.search(r"not the proxy of a fedtail server \(HTTP 404\)", str(error))
