"""Servers on the loopback that a node may meet: the wrong authority's, an expired one, no TLS."""

import contextlib
import http.server
import ssl
import threading
from datetime import UTC, datetime
from functools import partial

from client.deployment.provisioning import init_node
from common.identity.enrolment import Invite
from server.operations.folder import ServerSettings
from server.operations.key_folder import KeyFolder, Passphrase
from server.operations.provisioning import init_server, make_invite


def now():
    return datetime.now(UTC)


def keys_of(folder, federation="main", passphrase=None):
    """The operator's keys for a server's folder: they lie beside it."""
    held = None if passphrase is None else Passphrase(lambda: passphrase)
    return KeyFolder(folder.with_name(f"{folder.name}-keys"), federation, held)


def set_up(folder, settings, at):
    """A server's folder, with the operator's keys beside it."""
    return init_server(folder, keys_of(folder, settings.federation), settings, at)


def operator(folder, port, *, hosts=("127.0.0.1",)):
    """An operator's folder, for a server on the loopback at `port`."""
    return set_up(folder, ServerSettings(hosts, port, "127.0.0.1"), now())


def node_of(server, folder, name="shop-a", **options):
    """A merchant's node that was invited and not enrolled."""
    shop = folder / f"shop-of-{name}"
    shop.mkdir(parents=True, exist_ok=True)
    invite = Invite.from_bytes(make_invite(server, keys_of(server.root), name, now()).to_bytes())
    return init_node(folder / name, invite, shop, now(), **options)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""

    def do_POST(self):
        """Answer as a server that is not fedtail's."""
        self.send_error(404)


@contextlib.contextmanager
def web_server(folder, certificate=None, key=None, host="127.0.0.1"):
    """Serve a folder's files on the loopback, over TLS where a certificate is given; the port."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
