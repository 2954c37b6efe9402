"""A merchant is told a month ahead of what would cut the node off."""

import contextlib
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from client.deployment.certificate_expiry import warnings
from client.deployment.provisioning import init_node
from common.errors import EnrolmentError
from common.processes import Child, wait_for_end
from server.operations.folder import ServerSettings
from server.operations.provisioning import make_invite, rotate_certificate
from tests.support.doors import keys_of, set_up

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@contextlib.contextmanager
def serving(folder):
    """A TLS server with the certificate of a server's folder; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.tls_certificate, folder.tls_key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def node(tmp_path):
    """Make the node of a server that was set up `age` before now, at a port."""
    shop = tmp_path / "shop"
    shop.mkdir()

    def make(server, port, name):
        server.write_settings(ServerSettings(("127.0.0.1",), port))
        return init_node(
            tmp_path / name, make_invite(server, keys_of(server.root), name, NOW), shop, NOW
        )

    return make


def test_the_servers_certificate_is_told_a_month_ahead(node, tmp_path):
    server = set_up(tmp_path / "server", ServerSettings(("127.0.0.1",)), NOW - 340 * DAY)
    with serving(server) as port:
        (told,) = warnings(node(server, port, "one"), NOW)
    assert told.startswith("The server's certificate expires in 25 days: the operator has to run")
    rotate_certificate(server, keys_of(server.root), NOW)
    with serving(server) as port:
        assert warnings(node(server, port, "two"), NOW) == []


def test_the_authority_is_told_without_the_server(node, tmp_path):
    server = set_up(tmp_path / "server", ServerSettings(("127.0.0.1",)), NOW)
    folder = node(server, 9, "one")
    assert warnings(folder, NOW + 3600 * DAY) == []
    (soon,) = warnings(folder, NOW + 3640 * DAY)
    assert soon.startswith("The authority's certificate expires in 10 days")
    (late,) = warnings(folder, NOW + 3651 * DAY)
    assert "has expired" in late
    folder.authority.write_text("no certificate")
    with pytest.raises(EnrolmentError):
        warnings(folder, NOW)


def test_a_stranger_between_is_not_looked_at(node, tmp_path):
    server = set_up(tmp_path / "server", ServerSettings(("127.0.0.1",)), NOW)
    other = set_up(tmp_path / "other", ServerSettings(("127.0.0.1",)), NOW - 340 * DAY)
    with serving(other) as port:
        assert warnings(node(server, port, "one"), NOW) == []


def test_the_reminder_comes_at_once_and_then_each_day(monkeypatch):
    import common.processes

    class Ends(Child):
        ended = property(lambda self: 0 if self.clock[0] > 3 * 86_400 else None)

    child, told = Ends("one", None, None), []
    clock = [0.0]
    object.__setattr__(child, "clock", clock)
    monkeypatch.setattr(common.processes.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        common.processes.time, "sleep", lambda _: clock.__setitem__(0, clock[0] + 3600)
    )
    assert wait_for_end([child], lambda: told.append(clock[0])) is child
    assert told == [0, 86_400, 2 * 86_400, 3 * 86_400]
