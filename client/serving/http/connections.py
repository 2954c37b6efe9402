"""uvicorn's HTTP with bounds on what a client may keep waiting.

uvicorn waits for a request's head as long as a connection lives, and for heads of any size; and
connections that say nothing count against its limit, so that a few hundred of them would shut
everybody else out. Here a head has seconds and bytes, an answer before the whole body ends the
connection, and where connections run out, the one that has waited longest for its client goes.
"""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from client.serving.http.problems import MEDIA_TYPE, Problem

MOST_CONNECTIONS = 500
MOST_HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0
_MOST_AT_ONCE = MOST_CONNECTIONS + 100  # requests; more are told 503
_DRAIN_SECONDS = 10


class Address(NamedTuple):
    """Where a service listens; with TLS if it has both files, PEM."""

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None


def listen(app: FastAPI, address: Address) -> None:
    """Answer requests until the process is told to stop; those in flight are answered first."""
    uvicorn.Server(server_config(app, address)).run()


def server_config(app: FastAPI, address: Address) -> uvicorn.Config:
    """Return how uvicorn runs `app`."""
    return uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
        http=BoundedHttp,
        ws="none",
        access_log=False,  # its lines hold paths, and so ids of shoppers; ours do not
        server_header=False,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        log_config=None,
    )


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    # All that wait for their client, the longest first: one event loop, one thread.
    waiting: dict["BoundedHttp", None] = {}  # noqa: RUF012 - shared by all connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's parent is given a plain transport
        """Start to wait for a head, and let go of the longest waiting one if there are too many."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._wait_for_head()
        if len(self.connections) > MOST_CONNECTIONS:
            next(iter(self.waiting)).transport.abort()  # this one waits, so there is one

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is longer than a head may be."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self in self.waiting and self._deadline is None:  # empty lines before a head
            self._wait_for_head()
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(_too_long())

    def on_message_begin(self) -> None:
        """Give the head of a further request its own time."""
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Pass a whole head on."""
        self._stop_waiting()
        if sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD_BYTES:
            self._refuse(_too_long())
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take more of the body, unless the request was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the body's end, unless the request was refused."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; but who was answered before the body came is not listened to.

        Else bytes of a body that nobody reads would keep the connection for ever.
        """
        unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if unread:
            self.transport.close()
        elif not self.transport.is_closing() and self.cycle.response_complete:
            self.waiting[self] = None  # uvicorn's own clock runs for it

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong as every other error is said."""
        self._refuse(Problem(400, msg))

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_bytes = 0
        if self._is_idle():
            self.waiting[self] = None
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _stop_waiting(self) -> None:
        self.waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_idle(self) -> bool:
        """Whether no request is being answered; a client may send the next one before that."""
        return self.cycle is None or self.cycle.response_complete

    def _too_late(self) -> None:
        if not self._is_idle():
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_late)
            return
        told = f"The head of a request has to come within {HEAD_SECONDS:g} s."
        self._refuse(Problem(408, told))

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        begun = not self._is_idle() and (bool(self.pipeline) or self.cycle.response_started)
        if not begun:  # else it would stand in the midst of an answer
            self.transport.write(_answer(problem.status, problem.document()))
        if self.cycle is not None:
            self.cycle.disconnected = True  # whatever else is answered goes nowhere
            self.cycle.message_event.set()
        self.transport.close()


def _too_long() -> Problem:
    return Problem(431, f"The head of a request has at most {MOST_HEAD_BYTES} bytes.")


def _answer(status: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
