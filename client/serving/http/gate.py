"""What stands before every request: the key, the rate, the size of the body, and the access log.

The key is checked before a byte of the body is read: who has none cannot make the service work. A
log line names the route and never the path, which may hold a shopper's id.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.serving.http.problems import Problem
from client.serving.keys import KeyRecord, Keys
from client.serving.metrics import Metrics

MOST_BODY_BYTES = 2 * 1024 * 1024
PAGE = "/page"  # what is below it brings a session, which the page itself looks at
_PAGE_BODY_BYTES = 64 * 1024  # read before anybody has signed in
_BODY_SECONDS = 30.0
_OPEN = {"/health/live", "/health/ready", "/v1/openapi.json"}
_LOG = logging.getLogger("fedtail.access")
_FAILURES = logging.getLogger("fedtail.serving")


@dataclass(frozen=True)
class Rate:
    """How many requests a key may make: so many a second, and `burst` at once."""

    per_second: float = 200.0
    burst: int = 400


USUAL_RATE = Rate()


class _Bucket:
    """A token bucket."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._tokens, self._at = rate, float(rate.burst), now

    def wait(self, now: float) -> float:
        """Take one token; return 0, or the seconds until there is one."""
        gained = (now - self._at) * self._rate.per_second
        self._tokens, self._at = min(self._tokens + gained, float(self._rate.burst)), now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate.per_second
        self._tokens -= 1
        return 0.0


class Gate:
    """ASGI middleware around the whole service."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        metrics: Metrics,
        rate: Rate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._keys, self._metrics = app, keys, metrics
        self._rate, self._clock = rate, clock
        self._buckets: dict[str, _Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        key: KeyRecord | None = None
        try:
            try:
                key = self._admitted(scope)
                most = _PAGE_BODY_BYTES if _is_page(scope) else MOST_BODY_BYTES
                body = await _whole_body(Headers(scope=scope), receive, most)
            except Problem as problem:
                await problem.response()(scope, receive, noted)
                return
            scope.setdefault("state", {})["key"] = key
            await self._app(scope, _replayed(body, receive), noted)
        except Exception as error:  # noqa: BLE001 -- the last one to tell the client something
            # The kind alone: a message or a traceback may hold what was sent.
            _FAILURES.error("a request failed: %s", type(error).__name__)
            if not status:
                told = Problem(500, "The service failed; its log has the kind of error.")
                await told.response()(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            route = _route_of(scope)
            self._metrics.answered(route, status, seconds)
            _LOG.info(
                "%s %s %d %.1f ms key=%s",
                scope["method"] if scope["method"].isalpha() else "?",
                route,
                status,
                seconds * 1000,
                key.key_id if key else "-",
            )

    def _admitted(self, scope: Scope) -> KeyRecord | None:
        if scope["path"] in _OPEN or _is_page(scope):
            return None
        presented = _presented(Headers(scope=scope))
        key = self._keys.find(presented) if presented else None
        if key is None:
            raise Problem(
                401,
                "Give a valid key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        now = self._clock()
        wait = self._buckets.setdefault(key.key_id, _Bucket(self._rate, now)).wait(now)
        if wait:
            raise Problem(
                429,
                f"This key may make {self._rate.per_second:g} requests a second.",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        return key


def _presented(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return headers.get("x-api-key", "")


def _route_of(scope: Scope) -> str:
    """Return the template of a path, with what it is mounted below; never the path itself."""
    below, route = scope.get("root_path", ""), getattr(scope.get("route"), "path", "")
    return f"{below}{route}" or "unmatched"


def _is_page(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in {"/", PAGE} or path.startswith(f"{PAGE}/")


async def _whole_body(headers: Headers, receive: Receive, most: int) -> bytes:
    """Read the body, but no more than the limit."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Problem(400, "Content-Length is not a number.")
    if len(length) > len(str(most)) or int(length) > most:
        raise _too_large(most)
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem(400, "The request was broken off.")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Problem(408, f"The body took more than {_BODY_SECONDS:g} s to come.") from None
    return b"".join(parts)


def _too_large(most: int) -> Problem:
    return Problem(413, f"A body has at most {most} bytes.", headers={"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
