"""What can be asked through the door, by whom, and how it is spelled."""

import contextlib
import ssl

import pytest

from server.operations.door.proxy import FLEET_PATHS

pytestmark = [pytest.mark.attack, pytest.mark.slow]

# What SuperLink has beside a node's paths: who reaches the first starts runs on every merchant.
OTHERS = (
    "/v1/control/start-run",
    "/v1/control/list-nodes",
    "/v1/control/register-node",
    "/v1/runtime/acquire-task",
    "/v1/runtime/push-messages",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/health",
    "/docs",
    "/openapi.json",
)
SPELLINGS = (
    "/v1/fleet/pull-messages/",
    "/V1/fleet/pull-messages",
    "/v1/fleet/pull-messages;x=1",
    "/v1/fleet/pull-messages%00",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/..%2fcontrol/list-nodes",
    "/releases/../v1/control/list-nodes",
    "//v1//control//list-nodes",
    "https://127.0.0.1/v1/control/list-nodes",
)
FILES = (
    "/releases/../../operator.key",
    "/releases/%2e%2e/%2e%2e/operator.key",
    "/releases/..%2f..%2fauthority.key",
    "/releases//etc/passwd",
    "/releases/%00",
    "/releases/",
    "/certificates/",
    "/certificates/../../nodes.json",
    "/certificates/%2e%2e/%2e%2e/server.toml",
)
SMUGGLED = {
    "two kinds of length": "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "two lengths": "Content-Length: 4\r\nContent-Length: 40",
    "a length that is none": "Content-Length: -1",
    "a length with a sign": "Content-Length: +4",
    "an unknown coding": "Transfer-Encoding: xchunked",
    "a coding twice": "Transfer-Encoding: chunked, chunked",
    "a name with a space": "Transfer-Encoding : chunked",
    "a NUL": "X-A: a\x00b",
    "two hosts": "Host: superlink",
    "longer than any": "X-A: " + "a" * 20_000,
}


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


@pytest.mark.parametrize("path", FLEET_PATHS)
def test_without_a_certificate_a_nodes_path_is_closed(door, path):
    before = door.superlink_log().count(f"/v1/fleet/{path}")
    assert door.ask(f"/v1/fleet/{path}", b"x").status_code == 401
    assert door.superlink_log().count(f"/v1/fleet/{path}") == before


@pytest.mark.parametrize("path", OTHERS)
def test_a_merchant_reaches_nothing_else_of_superlinks(door, path):
    for method in ("POST", "GET"):
        answer = door.ask(path, name="ash", headers=door.signed("ash"), method=method)
        assert answer.status_code == 403


@pytest.mark.parametrize("path", SPELLINGS)
def test_another_spelling_reaches_nothing_either(door, path):
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    before = door.superlink_log().count("/v1/control/list-nodes")
    assert status(door.say(request.encode(), "ash")) in {400, 401, 403, 404}
    assert door.superlink_log().count("/v1/control/list-nodes") == before


@pytest.mark.parametrize("path", FILES)
def test_no_file_but_a_public_one_is_read(door, path):
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = door.say(request.encode())
    assert status(answer) in {400, 403, 404}
    assert b"PRIVATE" not in answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_a_nodes_path_takes_posts_only(door, method):
    request = f"{method} /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert status(door.say(request.encode(), "ash")) in {400, 403, 405}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "MOVE"])
def test_what_is_public_is_for_reading(door, method):
    assert door.ask("/releases/latest.json", method=method).status_code in {403, 405}


@pytest.mark.parametrize("header", SMUGGLED.values(), ids=SMUGGLED)
def test_a_header_that_two_readers_would_read_in_two_ways_is_refused(door, header):
    second = "POST /v1/control/list-nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    request = (
        f"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n0\r\n\r\n{second}"
    )
    before = door.superlink_log().count("/v1/control/list-nodes")
    assert status(door.say(request.encode(), "ash")) in {400, 401, 411, 413, 501}
    assert door.superlink_log().count("/v1/control/list-nodes") == before


def test_http_2_is_not_spoken(door):
    context = door.context("ash")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with contextlib.closing(door.secured(context=context)) as line:
        assert line.selected_alpn_protocol() != "h2"
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 5000
    assert status(door.say(preface, "ash")) in {0, 400, 405, 505}
    upgrade = (
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    )
    assert b" 101 " not in door.say(upgrade.encode(), "ash").split(b"\r\n")[0]


def test_no_older_tls_is_spoken(door):
    context = door.context("ash")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        door.secured(context=context)


def test_plain_text_is_told_what_to_do(door):
    with door.plain() as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 400 " in line.recv(65_536)


def test_the_access_log_holds_no_header_and_no_query(door):
    door.ask("/releases/none?token=word-in-a-query", method="GET", headers={"x-a": "word-in-head"})
    log = door.server.access_log
    assert "word-in" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o640
