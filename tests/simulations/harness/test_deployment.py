"""From a node's side, through the real proxy to a real SuperLink: what is refused, and how.

A node holds everything that a merchant is given: the authority, an enrolled key, the address.
"""

import http.client
import socket
from base64 import b64encode
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.message_pb2 import PullObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.routers.runtime import create_runtime_router
from flwr.superlink.routers.control import router as control_router
from flwr.superlink.routers.fleet.router import router as fleet_router
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.deployment.certificate import renew_certificate, showing
from client.deployment.connection_check import check_connection
from client.deployment.release_download import fetch_release
from common.errors import EnrolmentError, SettingsError
from common.files import sha256_hex, write_atomic
from common.identity.enrolment import Request
from common.identity.node_key import NodeKey
from common.processes import stopping
from server.operations.door.proxy import FLEET_PATHS
from server.operations.folder import ServerSettings
from server.operations.provisioning import enrol
from server.operations.superlink import control
from simulations.harness.deployment import Deployment
from simulations.harness.hosts import Host, Hosts
from tests.support.doors import keys_of, node_of, now, operator
from tests.support.flower_engine import free_port
from tests.support.repositories import Operator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
NAMES = ("shop-a", "shop-b", "shop-c")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A running server with three enrolled nodes, none of them started."""
    out = tmp_path_factory.mktemp("deployment")
    server = operator(out / "server", free_port())
    settings = ServerSettings(("127.0.0.1",), server.settings().port, "127.0.0.1", free_port())
    server.write_settings(settings)
    for name in NAMES:
        enrol(server, keys_of(server.root), Request.load(node_of(server, out, name).request), now())
    hosts = Hosts("127.0.0.1", (Host((), "127.0.0.1"),), separate=False)
    one = Deployment(out, hosts, port=settings.port, superlink_port=settings.superlink_port)
    with stopping(one.children):
        one.start("server", "server", "start", "--folder", "server", ready="Merchants connect")
        yield Place(one, server)


class Place:
    """The deployment, its operator's folder, and a merchant's means."""

    def __init__(self, deployment, server):
        self.deployment, self.server = deployment, server
        self.port = server.settings().port
        with control(server) as link:
            self.ids = {node.name: node.node_id for node in link.nodes()}
        for name in NAMES:
            renew_certificate(self.node(name), now())

    def node(self, name):
        from client.deployment.provisioning import NodeFolder

        return NodeFolder(self.deployment.out / name)

    def fleet(self, name):
        """Flower's client with the key and the certificate of an enrolled node."""
        node = self.node(name)
        return FleetHttpClient(
            f"https://{node.config().server}",
            interceptors=[NodeAuthHttpInterceptor(*NodeKey.load(node.key).pair)],
            verify=showing(node),
        )

    def ask(self, path, method="POST"):
        """Send exactly this path, unlike clients that tidy it first, signed by an enrolled key."""
        node = self.node("shop-a")
        key, stamp = NodeKey.load(node.key), datetime.now(UTC).isoformat()
        signature = sign_message(key.pair[0], stamp.encode())
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=showing(node))
        try:
            connection.putrequest(method, path)
            connection.putheader("Content-Type", PROTOBUF_MEDIA_TYPE)
            connection.putheader("Content-Length", "0")
            connection.putheader("flwr-public-key", b64encode(key.public.pem).decode())
            connection.putheader("flwr-timestamp", stamp)
            connection.putheader("flwr-signature", b64encode(signature).decode())
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()


def refused(call, request, code):
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(request)
    assert caught.value.response.status_code == code


# --------------------------------------------------- all that a node has no business with
def forbidden_paths():
    app = FastAPI()
    for router in (control_router, create_runtime_router("SuperLink"), fleet_router):
        app.include_router(router)
    paths = {one.path or one.route.path for one in iter_route_contexts(app.routes)}
    assert len(paths) > 70
    allowed = {f"/v1/fleet/{path}" for path in FLEET_PATHS}
    return sorted((paths - allowed) | {"/health", "/docs", "/openapi.json", "/", "/nginx.conf"})


def test_every_other_path_of_superlinks_is_refused_by_the_proxy(place):
    paths = forbidden_paths()
    for needed in ("start-run", "stream-logs", "register-node"):
        assert f"/v1/control/{needed}" in paths
    assert "/v1/runtime/acquire-task" in paths
    assert "/v1/fleet/register-node" in paths
    for path in paths:
        for method in ("POST", "GET"):
            status, text = place.ask(path, method)
            assert status == 403, path
            assert text == "Only merchants' nodes and readers of releases are served here.\n"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/activate-node/../../control/list-runs",
        "//v1/control/list-runs",
        "/v1/%63ontrol/list-runs",
        "/v1/fleet/activate-node%2f..%2f..%2fcontrol%2flist-runs",
        "/v1/fleet/activate-node/",
        "/V1/FLEET/activate-node",
        "/releases/../v1/control/list-runs",
        "/releases/../../online/timestamp.key",
        "/releases/%2e%2e/%2e%2e/online/timestamp.key",
        "/releases../../online/timestamp.key",
        "https://127.0.0.1/v1/control/list-runs",
    ],
)
def test_no_other_spelling_of_a_path_comes_through(place, path):
    for method in ("POST", "GET"):
        status, text = place.ask(path, method)
        assert status in {400, 403, 404}, text
        assert "PRIVATE KEY" not in text


def test_a_dressed_up_path_of_a_nodes_reaches_only_that_path(place):
    """Matched after it was tidied, and the tidy one is what SuperLink gets: 401, not 404."""
    status, _ = place.ask("/v1/control/../fleet/get-run")
    assert status == 401  # an empty request names no node, so not the one whose key signed it


def test_a_nodes_paths_take_nothing_but_post_and_releases_nothing_but_get(place):
    for path in FLEET_PATHS:
        assert place.ask(f"/v1/fleet/{path}", "GET")[0] == 403
    for method in ("POST", "PUT", "DELETE"):
        assert place.ask("/releases/metadata/timestamp.json", method)[0] in {403, 405}
    assert place.ask("/releases/metadata/timestamp.json", "GET")[0] == 200
    assert place.ask("/releases/latest.json", "GET")[0] == 404


def test_superlink_itself_is_on_the_loopback_only(place):
    port = place.server.settings().superlink_port
    with socket.socket() as one:
        one.settimeout(5)
        with pytest.raises(OSError):
            one.connect(("127.0.0.2", port))


# ----------------------------------------------------------- what an enrolled key may not
def test_an_enrolled_node_cannot_let_another_key_in(place):
    request = RegisterNodeFleetRequest(public_key=NodeKey.generate().public.pem)
    with place.fleet("shop-a") as fleet:
        refused(fleet.RegisterNode, request, 403)


def test_an_enrolled_node_cannot_read_or_answer_for_another(place):
    other = Node(node_id=place.ids["shop-b"])
    with place.fleet("shop-a") as fleet:
        refused(fleet.PullMessages, PullMessagesRequest(node=other), 401)
        refused(fleet.PullObject, PullObjectRequest(node=other, run_id=1, object_id="0"), 401)
        refused(fleet.GetRun, GetRunRequest(node=other, run_id=1), 401)
        refused(fleet.PushMessages, PushMessagesRequest(node=other), 401)
        mine = PullMessagesRequest(node=Node(node_id=place.ids["shop-a"]))
        assert list(fleet.PullMessages(mine).messages_list) == []  # its own it may


# ------------------------------------------------------------------------ who may connect
def test_plain_text_is_refused_with_what_to_do(place):
    answer = httpx.get(f"http://127.0.0.1:{place.port}/v1/fleet/activate-node")
    assert answer.status_code == 400
    assert "use https" in answer.text


def test_an_enrolled_key_is_let_in_and_can_be_checked_again(place):
    check_connection(place.node("shop-b"), now())
    check_connection(place.node("shop-b"), now())


def test_a_node_that_was_killed_comes_back_at_once(place):
    """It still counts as connected for a minute; it signs itself off."""
    from flwr.proto.fleet_pb2 import ActivateNodeRequest

    node = place.node("shop-b")
    check_connection(node, now())
    request = ActivateNodeRequest(
        public_key=NodeKey.load(node.key).public.pem, heartbeat_interval=30
    )
    with place.fleet("shop-b") as fleet:
        fleet.ActivateNode(request)
        refused(fleet.ActivateNode, request, 412)
    check_connection(node, now())


def test_a_key_that_is_not_enrolled_is_told_so(place, tmp_path):
    stranger = node_of(place.server, tmp_path, "stranger")
    with pytest.raises(EnrolmentError, match="not enrolled yet, or was revoked") as caught:
        check_connection(stranger, now())
    assert caught.value.field == "node_key"


def test_a_revoked_key_is_refused_at_once_by_the_running_server(place):
    node = place.node("shop-c")
    check_connection(node, now())
    mine = PullMessagesRequest(node=Node(node_id=place.ids["shop-c"]))
    with place.fleet("shop-c") as fleet:
        fleet.PullMessages(mine)
        told = place.deployment.command(
            "server", "revoke", "--folder", "server", "--name", "shop-c"
        )
        assert "The running server refuses" in told
        refused(fleet.PullMessages, mine, 401)
    with pytest.raises(EnrolmentError, match="was revoked"):
        check_connection(node, now())


def test_a_second_server_of_one_folder_is_refused(place):
    from server.operations.supervisor import serve

    with pytest.raises(SettingsError, match="runs already"):
        serve(place.server, now(), print, proxy=False)


def test_a_release_comes_through_the_real_proxy_and_goes_on_where_it_was_cut(place):
    content = bytes(range(256)) * 4000
    Operator.of(place.server).publish("1.0", **{"notes.txt": content})
    node = place.node("shop-a")
    part = node.releases / ".fetching" / "parts" / sha256_hex(content)
    write_atomic(part, content[:300_000])
    assert fetch_release(node).release.files["notes.txt"] == content
    asked = (place.server.proxy_run / "access.log").read_text().splitlines()
    (line,) = [one for one in asked if "notes.txt" in one]
    assert " 206 " in line
