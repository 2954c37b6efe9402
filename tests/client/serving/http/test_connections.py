"""Clients that keep a connection and say little, on real sockets."""

import contextlib
import json
import socket
import time

import pytest

from client.serving.http import connections
from tests.support.served import listening

SECONDS, CONNECTIONS = 0.3, 8


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", SECONDS)
        patch.setattr(connections, "MOST_CONNECTIONS", CONNECTIONS)
        with listening(tmp_path_factory.mktemp("connections")) as (_, found):
            yield found


def opened(port):
    return contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=20))


def heard(line, until=b""):
    """All that comes until `until`, or the end of the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while not (until and until in found) and (more := line.recv(65536)):
            found += more
    return found


def live(port):
    with opened(port) as line:
        line.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return heard(line).startswith(b"HTTP/1.1 200")


def problem(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    told = json.loads(body)
    assert f"HTTP/1.1 {told['status']} ".encode() in head
    return told["status"]


@pytest.mark.parametrize("start", [b"", b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: "])
def test_a_head_that_does_not_come_is_not_waited_for(port, start):
    with opened(port) as line:
        line.sendall(start)
        assert problem(heard(line)) == 408
    assert live(port)


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(port):
    with opened(port) as line:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                line.sendall(b"x")
                time.sleep(0.01)
        heard(line)
    assert live(port)


def test_the_next_head_on_a_connection_has_its_own_time(port):
    with opened(port) as line:
        for _ in range(3):
            time.sleep(SECONDS / 2)
            line.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert heard(line, b'{"status":"ok"}').startswith(b"HTTP/1.1 200")
        line.sendall(b"GET /hea")
        assert problem(heard(line)) == 408


@pytest.mark.parametrize("parts", [1, 20])
def test_a_head_without_end_is_refused(port, parts):
    flood = b"".join(b"X-%d: %s\r\n" % (place, b"a" * 100) for place in range(2000))
    whole = b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + flood + b"\r\n"
    with opened(port) as line:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for place in range(parts):
                line.sendall(whole[len(whole) * place // parts : len(whole) * (place + 1) // parts])
        answer = heard(line)
    assert not answer or problem(answer) == 431  # a reset may overtake the answer
    assert live(port)


def test_a_body_that_nobody_reads_does_not_keep_the_connection(port):
    with opened(port) as line:
        line.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        assert problem(heard(line)) == 401  # heard() ends with the connection


def test_idle_connections_do_not_shut_others_out(port):
    with contextlib.ExitStack() as lines:
        for _ in range(5 * CONNECTIONS):
            lines.enter_context(opened(port))
        assert live(port)
