"""Errors as RFC 9457 problem details. No problem repeats a value that was sent."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from common.errors import FedtailError, InputError, StorageError

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    401: "A key is needed",
    403: "The key is not for this",
    404: "Not found",
    405: "Method not allowed",
    408: "The request took too long",
    409: "Not possible just now",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The request is not valid",
    429: "Too many requests",
    431: "The headers are too large",
    500: "The service failed",
    503: "Not available just now",
}
_SHOWN = 20  # errors of one request


class Problem(Exception):  # noqa: N818 -- RFC 9457's own word
    """What a client is told instead of an answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.errors = errors or []

    def document(self) -> dict[str, Any]:
        """Return the problem as RFC 9457 writes it."""
        title = _TITLES.get(self.status, "The request cannot be answered")
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }
        return document | ({"errors": self.errors} if self.errors else {})

    def response(self) -> JSONResponse:
        """Return it as an answer."""
        return JSONResponse(
            self.document(), self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def problem_of(error: FedtailError) -> Problem:
    """Return what a client is told of an error of ours."""
    if isinstance(error, StorageError):
        return Problem(503, str(error), headers={"Retry-After": "5"})
    if isinstance(error, InputError):
        pointer = [{"pointer": f"#/{error.field}", "detail": str(error)}] if error.field else []
        return Problem(422, str(error), errors=pointer)
    return Problem(503, str(error))


def handle_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, FedtailError)  # noqa: S101 -- what it is registered for
        return problem_of(error).response()

    async def told(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 -- what it is registered for
        return error.response()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 -- what it is registered for
        return _invalid(error).response()

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 -- what it is registered for
        detail = str(error.detail)
        headers = dict(error.headers) if error.headers else None
        return Problem(error.status_code, detail, headers=headers).response()

    app.add_exception_handler(FedtailError, ours)
    app.add_exception_handler(Problem, told)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def first_words(text: str) -> str:
    """Return a message of pydantic's short enough to show."""
    return text[:200]


def _invalid(error: RequestValidationError) -> Problem:
    found = []
    for one in error.errors()[:_SHOWN]:
        if one["type"] == "json_invalid":
            return Problem(400, "The body is not JSON.")
        where, *path = [str(part)[:64] for part in one["loc"]]
        pointer = "#/" + "/".join(path) if where == "body" else f"{where}: {'/'.join(path)}"
        found.append({"pointer": pointer, "detail": first_words(str(one["msg"]))})
    return Problem(422, f"{found[0]['pointer']}: {found[0]['detail']}", errors=found)
