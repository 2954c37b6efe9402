"""A deployment's door for attackers: a real server on the loopback, and two enrolled merchants."""

import contextlib
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta

import httpx
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now as flowers_now
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from client.deployment.certificate import renew_certificate, showing, trusting
from client.deployment.provisioning import NodeFolder
from common.identity.node_key import NodeKey
from common.processes import stopping
from common.settings.run import RunSettings
from server.operations.door.keeping import narrow_to
from server.operations.door.limits import largest_piece
from server.operations.folder import ServerFolder
from simulations.federation.memory import tree_memory
from simulations.harness.deployment import Deployment, free_port
from simulations.harness.hosts import Host, Hosts
from tests.support.doors import now

ITEMS = 20_000  # in the catalogue of the run that goes on
LONGEST_WAIT = 120.0  # against hanging; the proxy's own limits are 10 s and less
PROTOBUF = {"content-type": PROTOBUF_MEDIA_TYPE}


@dataclass(eq=False)
class Door:
    """What an attacker reaches, and what the operator sees of it."""

    deployment: Deployment
    server: ServerFolder
    nodes: dict[str, NodeFolder]
    pid: int
    most_piece: int  # of the run that was asked for

    @property
    def port(self):
        return self.server.settings().port

    def context(self, name=None, pair=None):
        """TLS with the certificate of an enrolled merchant, with any pair, or with none."""
        if name is not None:
            return showing(self.nodes[name])
        context = trusting(self.nodes["ash"])
        if pair is not None:
            context.load_cert_chain(str(pair))
        return context

    def ask(self, path, content=b"", *, method="POST", name=None, pair=None, headers=None):
        """Send one request, and hold the answer to naming no place on the server."""
        with httpx.Client(verify=self.context(name, pair), timeout=LONGEST_WAIT) as client:
            given = PROTOBUF | (headers or {})
            answer = client.request(method, self.url(path), content=content, headers=given)
        self.names_no_place(answer.text)
        return answer

    def url(self, path):
        return f"https://127.0.0.1:{self.port}{path}"

    def names_no_place(self, text):
        assert str(self.server.root) not in text
        assert "site-packages" not in text
        assert "Traceback" not in text

    def plain(self):
        return socket.create_connection(("127.0.0.1", self.port), LONGEST_WAIT)

    def secured(self, name=None, context=None):
        context = context or self.context(name)
        return context.wrap_socket(self.plain(), server_hostname="127.0.0.1")

    def say(self, raw, name=None):
        """Send bytes as they are; the answer until the server closes."""
        with contextlib.closing(self.secured(name)) as line:
            line.sendall(raw)
            answer = read_to_end(line)
        self.names_no_place(answer.decode(errors="replace"))
        return answer

    def signed(self, name, *, ago=0.0):
        """Flower's headers, signed by a merchant's node at a time."""
        key = NodeKey.load(self.nodes[name].key)
        stamp = (flowers_now() - timedelta(seconds=ago)).isoformat()
        signature = sign_message(key.pair[0], stamp.encode())
        return {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(key.public.pem).decode(),
            TIMESTAMP_HEADER: stamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode(),
        }

    def activation(self, name):
        key = NodeKey.load(self.nodes[name].key).public.pem
        return ActivateNodeRequest(public_key=key, heartbeat_interval=30.0).SerializeToString()

    def lets_in(self, name):
        """Whether an honest node is let in now; Flower's own refusal of a second start counts."""
        answer = self.ask(
            "/v1/fleet/activate-node", self.activation(name), name=name, headers=self.signed(name)
        )
        return answer.is_success or "activat" in answer.text.lower()

    def memory(self):
        """MB of command, SuperLink, launcher and proxy, shared pages counted in each."""
        return tree_memory(self.pid).resident

    def superlink_log(self):
        return (self.server.logs / "superlink.log").read_text(errors="replace")


def read_to_end(line):
    answer = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := line.recv(65_536):
            answer += piece
    return bytes(answer)


@contextlib.contextmanager
def open_door(out):
    """Set a server up with two merchants and run it."""
    place = Host((), "127.0.0.1")
    hosts = Hosts("127.0.0.1", (place, place), separate=False)
    one = Deployment(out, hosts, port=free_port(), superlink_port=free_port())
    one.set_up()
    for name in ("ash", "birch"):
        (out / f"shop-{name}").mkdir()
        one.enrol(name, out / f"shop-{name}", place)
    with stopping(one.children):
        command = ("server", "start", "--folder", "server")
        child = one.start("serving", *command, ready="Merchants connect to")
        nodes = {name: NodeFolder(out / name) for name in ("ash", "birch")}
        for node in nodes.values():
            renew_certificate(node, now())
        server, settings = ServerFolder(out / "server"), RunSettings()
        narrow_to(server, settings, ITEMS)
        yield Door(one, server, nodes, child.process.pid, largest_piece(settings, ITEMS))
