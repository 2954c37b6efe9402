"""Too much, too slow, too many: the server stays small, and honest nodes are let in."""

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from server.operations.door.limits import BESIDE_BYTES, FLOWERS_PIECE
from server.operations.door.proxy import CONNECTIONS, FLEET_PATHS, reload_proxy, write_limit
from tests.support.attacked_door import read_to_end

pytestmark = [pytest.mark.attack, pytest.mark.slow]
MB = 1_000_000
PIECES = "/v1/fleet/push-object"
MOST_MEMORY = 600.0


@pytest.fixture
def watched(door, request):
    """Watches the server's memory while the test goes on, and holds its peak to the bound."""
    peak, stop = [door.memory()], threading.Event()

    def watch():
        while not stop.wait(0.2):
            peak.append(door.memory())

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    stop.set()
    thread.join()
    told = f"the server's memory: {peak[0]:.0f} MB before, {max(peak):.0f} MB at most"
    request.node.user_properties.append(("outcome", told))
    assert max(peak) < MOST_MEMORY


def post(door, path, content, name=None):
    try:
        return door.ask(path, content, name=name).status_code
    except httpx.TransportError:
        return 0  # the server closed before all of it was sent


def test_eight_posts_of_60_mb_without_a_key(door, watched):
    body = bytes(60 * MB)
    with ThreadPoolExecutor(8) as pool:
        paths = ["/v1/fleet/push-object"] * 8
        assert set(pool.map(lambda path: post(door, path, body), paths)) <= {0, 401, 413}
    assert door.lets_in("ash")


def test_eight_posts_of_60_mb_by_a_merchant(door, watched):
    body = bytes(60 * MB)
    with ThreadPoolExecutor(8) as pool:
        paths = ["/v1/fleet/push-object"] * 8
        assert set(pool.map(lambda path: post(door, path, body, "birch"), paths)) <= {0, 413}
    assert door.lets_in("ash")


def test_as_much_as_a_merchant_may_send_at_once(door, watched):
    """What the door lets through of one merchant, all at once: SuperLink reads it, and stays."""
    body = os.urandom(door.most_piece)
    with ThreadPoolExecutor(24) as pool:
        paths = ["/v1/fleet/push-object"] * 48
        told = set(pool.map(lambda path: post(door, path, body, "birch"), paths))
    assert told <= {0, 400, 401, 503}
    assert door.lets_in("ash")


@pytest.fixture
def widest(door):
    """The door of a run whose pieces are as large as Flower makes them, as BERT-large's are."""
    most = FLOWERS_PIECE + BESIDE_BYTES
    for now in (most, door.most_piece):
        write_limit(door.server, now)
        reload_proxy(door.server)
        time.sleep(1.0)  # until its new workers take what comes
        if now == most:
            yield most


def test_as_much_as_two_merchants_may_send_where_pieces_are_largest(door, widest, watched):
    """What is refused is let go of: SuperLink does not keep a piece for each request."""
    body = os.urandom(widest)
    for names in (["birch"] * 48, ["ash", "birch"] * 24):
        with ThreadPoolExecutor(24) as pool:
            told = set(pool.map(lambda name: post(door, PIECES, body, name), names))
        assert told <= {0, 400, 401, 503}
    assert door.lets_in("ash")


@pytest.mark.parametrize("path", FLEET_PATHS)
def test_a_body_larger_than_any_honest_one(door, path):
    most = FLEET_PATHS[path] or door.most_piece
    request = (
        f"POST /v1/fleet/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {most + 1}\r\n\r\n"
    )
    assert b" 413 " in door.say(request.encode(), "ash")


def test_a_body_whose_length_is_not_told(door):
    most = FLEET_PATHS["pull-messages"]
    request = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    request += b"Transfer-Encoding: chunked\r\n\r\n"
    request += b"1000\r\n" + bytes(4096) + b"\r\n"
    piece = b"1000\r\n" + bytes(4096) + b"\r\n"
    assert b" 413 " in door.say(request + piece * (most // 4096 + 1), "ash")


def test_a_body_that_never_comes(door):
    request = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"
    answer = door.say(request, "ash")  # it returns once the server has closed
    assert answer == b"" or b" 408 " in answer


def test_a_head_that_never_ends(door):
    answer = door.say(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nX-A: b\r\n")
    assert answer == b"" or b" 408 " in answer


def test_a_head_that_comes_a_byte_at_a_time(door):
    with contextlib.closing(door.secured()) as line:
        line.settimeout(0.5)
        for _ in range(200):
            try:
                line.sendall(b"X")
                if not line.recv(1000):
                    return  # the server has closed
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("The server waited for ever.")


def test_a_handshake_that_never_comes(door):
    with door.plain() as line:
        assert read_to_end(line) == b""  # the server closes


def many(door, count, secured, opened):
    for _ in range(count):
        with contextlib.suppress(OSError):
            line = opened.enter_context(contextlib.closing(door.plain()))
            if secured:
                line = opened.enter_context(
                    contextlib.closing(
                        door.context().wrap_socket(line, server_hostname="127.0.0.1")
                    )
                )
                line.sendall(b"GET /releases/a HTTP/1.1\r\nX-A: ")
            else:
                line.sendall(b"\x16\x03\x01")


@pytest.mark.parametrize("secured", [True, False], ids=["in a head", "in a handshake"])
def test_600_slow_connections_of_one_address(door, watched, secured):
    with contextlib.ExitStack() as opened:
        many(door, 600, secured, opened)
        assert door.lets_in("ash")


def test_more_connections_than_the_proxy_takes(door, watched):
    """An honest request is served once the slow ones are put out, and is tried again till then."""
    with contextlib.ExitStack() as opened:
        many(door, CONNECTIONS + 200, secured=False, opened=opened)
        for _ in range(60):
            with contextlib.suppress(httpx.TransportError):
                if door.lets_in("ash"):
                    return
            time.sleep(1.0)
    raise AssertionError("An honest node was kept out.")


def test_a_flood_by_one_merchant_does_not_keep_another_out(door, watched):
    with httpx.Client(verify=door.context("birch")) as client:
        url = door.url("/v1/fleet/pull-messages")
        for _ in range(1500):
            client.post(url, content=b"")
        assert door.lets_in("ash")


def test_a_flood_of_readers_does_not_keep_a_node_out(door, watched):
    with httpx.Client(verify=door.context()) as client:
        told = [client.get(door.url("/releases/none")).status_code for _ in range(600)]
    assert set(told) <= {404, 503}
    assert door.lets_in("ash")
