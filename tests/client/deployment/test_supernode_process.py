"""A SuperNode shows its certificate, and a request on a broken line is the same request again."""

import inspect
import ssl
import types

import httpx
import pytest
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supernode import start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.deployment.supernode_process import Sooner, equip, patiently
from common.errors import PolicyError
from common.identity.node_key import NodeKey
from tests.support.doors import keys_of, node_of, now, operator
from tests.support.flower_engine import free_port


@pytest.fixture
def node(tmp_path):
    server = operator(tmp_path / "server", free_port())
    made = node_of(server, tmp_path)
    key = NodeKey.load(made.key)
    authority = keys_of(server.root).authority()
    made.tls.write_bytes(key.pem + authority.issue_node(key.public, now()))
    return made


def flowers_module():
    return types.SimpleNamespace(
        FleetHttpClient=FleetHttpClient,
        make_simple_http_retry_invoker=make_simple_http_retry_invoker,
    )


def caused(cause):
    try:
        try:
            raise cause
        except ssl.SSLError as error:
            raise httpx.ConnectError(str(error)) from error
    except httpx.ConnectError as error:
        return error


BROKEN = [
    caused(ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1000)")),
    caused(ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error")),
    httpx.ConnectError("[Errno 111] Connection refused"),
    httpx.ReadError(""),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.WriteTimeout("the TLS write timed out"),
]


@pytest.mark.parametrize(
    "error", BROKEN, ids=[type(one).__name__ + str(one)[:20] for one in BROKEN]
)
def test_a_reply_on_a_broken_line_is_sent_again_and_is_the_same(node, error):
    flower = flowers_module()
    equip(flower, node)
    invoker = flower.make_simple_http_retry_invoker()
    invoker.wait_function = lambda _: None
    sent = []

    def send(reply):
        sent.append(reply)
        if len(sent) < 4:
            raise error
        return "stored"

    reply = object()
    assert invoker.invoke(send, reply) == "stored"
    assert sent == [reply] * 4


def test_flower_alone_would_have_thrown_it_away(node):
    """What the repair is for; once this fails, it can go."""
    invoker = make_simple_http_retry_invoker()
    invoker.wait_function = lambda _: None

    def send():
        raise BROKEN[0]

    with pytest.raises(httpx.ConnectError):
        invoker.invoke(send)


def test_a_server_whose_certificate_does_not_fit_is_not_asked_again(node):
    decide = patiently(lambda _: False)
    assert decide(caused(ssl.SSLCertVerificationError(1, "certificate verify failed")))


@pytest.mark.parametrize(("code", "again"), [(408, True), (429, True), (413, False), (400, False)])
def test_which_answers_are_no(code, again):
    request = httpx.Request("POST", "https://x/")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(code))
    assert patiently(lambda _: True)(error) is not again


def test_another_flower_is_refused(node):
    with pytest.raises(PolicyError):
        equip(types.SimpleNamespace(), node)


def test_a_renewed_certificate_is_shown_without_a_restart(node, tmp_path):
    flower = flowers_module()
    equip(flower, node)
    client = flower.FleetHttpClient.from_server_address("127.0.0.1:1", False, None, interceptors=[])
    (renewed,) = client._interceptors
    loaded = []
    renewed._context = types.SimpleNamespace(load_cert_chain=loaded.append)
    renewed.intercept(None, lambda _: None)
    assert loaded == []
    content = node.tls.read_bytes()
    node.tls.unlink()
    node.tls.write_bytes(content)
    renewed.intercept(None, lambda _: None)
    renewed.intercept(None, lambda _: None)
    assert loaded == [str(node.tls)]
    client.close()


def test_the_next_message_is_asked_for_sooner_while_a_run_goes_on():
    class Clock:
        now, slept = 1000.0, []

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.slept.append(seconds)
            self.now += seconds

    clock = Clock()
    flowers = Sooner(clock)
    flowers.sleep(3)  # no run yet
    flowers.sleep(0.5)  # a message is being answered
    for _ in range(62):
        flowers.sleep(3)
    assert clock.slept == [3, 0.5, *[1.0] * 60, 3, 3]
    assert flowers.monotonic() == clock.now


def test_flowers_loop_waits_by_the_module_that_we_put_in_its_place():
    """What `Sooner` counts on; once this fails, a node only asks as seldom as Flower does."""
    source = inspect.getsource(start_client_internal)
    assert "\nimport time\n" in source
    assert source.count("time.sleep(3)") == 1
    assert "time.sleep(0.5)" in source
