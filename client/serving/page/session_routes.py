"""Sign in and out, and the look of the page, which needs no session."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from client.serving.http.gate import PAGE
from client.serving.page.rendering import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, render
from client.serving.page.security import (
    SESSION_COOKIE,
    Form,
    PartsOf,
    Posted,
    let_in,
    own_path,
    read_form,
)
from client.serving.page.sessions import TooManyTriesError
from client.serving.page.texts import LANGUAGES

router = APIRouter(include_in_schema=False)
_YEAR = 365 * 86_400
_SEE_OTHER = 303
Sent = Annotated[Form, Depends(read_form)]


@router.get("/sign-in")
def show_sign_in(request: Request, to: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Ask for a key."""
    return render(request, "sign_in.html.j2", {"to": own_path(to), "problem": ""})


@router.post("/sign-in")
def sign_in(
    request: Request, form: Annotated[Form, Depends(read_form)], parts: PartsOf
) -> Response:
    """Open a session for an admin key."""
    to = own_path(form.first("to"))
    try:
        token = parts.sessions.sign_in(form.first("key"))
    except TooManyTriesError:
        values = {"to": to, "problem": "too_many"}
        return render(request, "sign_in.html.j2", values, status=429, headers={"Retry-After": "20"})
    if token is None:
        values = {"to": to, "problem": "wrong_key"}
        return render(request, "sign_in.html.j2", values, status=401)
    answer = RedirectResponse(to, _SEE_OTHER)
    let_in(request, answer, token)
    return answer


@router.get("/enter")
def enter(
    request: Request, parts: PartsOf, ticket: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Open a session for a ticket, which counts once."""
    token = parts.sessions.redeem(ticket)
    if token is None:
        values = {"to": f"{PAGE}/", "problem": "old_ticket"}
        return render(request, "sign_in.html.j2", values, status=401)
    answer = RedirectResponse(f"{PAGE}/", _SEE_OTHER)
    let_in(request, answer, token)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, _: Posted, parts: PartsOf) -> Response:
    """End the session."""
    parts.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
    answer = RedirectResponse(f"{PAGE}/sign-in", _SEE_OTHER)
    answer.delete_cookie(SESSION_COOKIE, path=PAGE)
    return answer


@router.post("/look")
def choose_look(form: Sent) -> Response:
    """Remember the language or the colours."""
    answer = RedirectResponse(own_path(form.first("to")), _SEE_OTHER)
    for cookie, value, known in (
        (LANGUAGE_COOKIE, form.first("language"), LANGUAGES),
        (THEME_COOKIE, form.first("theme"), THEMES),
    ):
        if value in known:
            answer.set_cookie(cookie, value, _YEAR, path=PAGE, httponly=True, samesite="strict")
    return answer
