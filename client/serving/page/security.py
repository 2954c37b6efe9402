"""What stands around the page: headers, the origin of a post, the session and the form's secret."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.serving.http.gate import PAGE
from client.serving.http.problems import Problem
from client.serving.page.parts import Parts
from client.serving.page.sessions import LONGEST_SECONDS, Session, same_secret

SESSION_COOKIE = "fedtail_session"
_MOST_FIELDS = 200
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class NotSignedInError(Exception):
    """There is no session, or it has ended; `path` is what was asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class PageHeaders:
    """ASGI middleware: answers say what a browser may do with them, and posts come from here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the page."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # What a shop's page shows stays in no cache; its own files are asked for again.
                static = scope["path"].startswith(f"{PAGE}/static/")
                headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
            await send(message)

        if scope["type"] == "http" and scope["method"] == "POST" and _foreign(scope):
            refused = Response("The form was not sent by this page.", 403, media_type="text/plain")
            await refused(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


@dataclass(frozen=True)
class Form:
    """The fields of a form that was sent."""

    fields: dict[str, list[str]]

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a field."""
        return self.fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self.fields.get(name, [])


def parts_of(request: Request) -> Parts:
    """Return the parts of the page."""
    parts: Parts = request.app.state.parts
    return parts


def session_of(request: Request) -> Session:
    """Return the session of a request.

    Raises:
        NotSignedInError: if there is none.
    """
    token = request.cookies.get(SESSION_COOKIE, "")
    session = parts_of(request).sessions.find(token) if token else None
    if session is None:
        raise NotSignedInError(request.url.path)
    return session


async def read_form(request: Request) -> Form:
    """Return the form in a body, whose size the gate has bounded.

    Raises:
        Problem: if it is no form.
    """
    try:
        content = (await request.body()).decode("utf-8")
        return Form(parse_qs(content, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Problem(400, "The form cannot be read.") from None


def posted(request: Request, form: Annotated[Form, Depends(read_form)]) -> Form:
    """Return a form that a page of this session sent.

    Raises:
        NotSignedInError: if there is no session.
        Problem: if the form lacks the session's secret.
    """
    session = session_of(request)
    if not same_secret(form.first("csrf"), session.csrf):
        raise Problem(403, "The form is from another session; load the page again.")
    return form


def let_in(request: Request, response: Response, token: str) -> None:
    """Put a session's token into the browser's cookie."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(LONGEST_SECONDS),
        path=PAGE,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def own_path(path: str) -> str:
    """Return a path of the page, or its start where another was given."""
    parts = urlsplit(path)
    inside = parts.path == PAGE or parts.path.startswith(f"{PAGE}/")
    if parts.scheme or parts.netloc or not inside or ".." in path:
        return f"{PAGE}/"
    return quote(parts.path)


def _foreign(scope: Scope) -> bool:
    """Whether a browser says that another site's page sent this."""
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


Signed = Annotated[Session, Depends(session_of)]
Posted = Annotated[Form, Depends(posted)]
PartsOf = Annotated[Parts, Depends(parts_of)]
