"""Bodies read as JSON means it: UTF-8, no NaN or Infinity, and no key twice in an object.

Python's parser takes all of these. Of a key that stands twice it keeps the last, where a proxy or
a log in front may have read the first.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = (await self.body()).decode()  # of bytes, `loads` takes UTF-16 and UTF-32 too
            self._json = json.loads(body, object_pairs_hook=_object, parse_constant=_refuse)
        return self._json


class StrictRoute(APIRoute):
    """A route whose body is read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise HTTPException(400, "An object of the body has a key twice.")
    return found


def _refuse(_constant: str) -> NoReturn:
    raise HTTPException(400, "The body has NaN or Infinity, which is no JSON.")
