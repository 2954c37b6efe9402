"""The page as an app of its own below `/page`, with its own errors: a person reads them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from client.serving.feedback.reach import count_served
from client.serving.http.context import Service
from client.serving.http.gate import PAGE
from client.serving.http.problems import Problem, problem_of
from client.serving.keys import Keys
from client.serving.page import session_routes, shop_routes
from client.serving.page.experiments import Experiments, ServiceExperiments
from client.serving.page.outlook import BENEFIT_FILE, BenefitJob
from client.serving.page.parts import PageFolders, Parts
from client.serving.page.reach import ReachOfLists
from client.serving.page.rendering import is_fragment, render
from client.serving.page.security import NotSignedInError, PageHeaders
from client.serving.page.sessions import Sessions
from common.errors import FedtailError

_STATIC = Path(__file__).parent / "static"
_SEE_OTHER = 303


def add_page(
    app: FastAPI,
    service: Service,
    keys: Keys,
    folders: PageFolders,
    experiments: Experiments | None = None,
) -> Sessions:
    """Put the page into the app of a service; return who is let in.

    Args:
        app: The service's.
        service: The service.
        keys: The keys that are valid.
        folders: Where the page reads what the service does not hold.
        experiments: Whoever runs experiments; else the service does.
    """
    parts = Parts(
        service=service,
        sessions=Sessions(keys),
        reach=ReachOfLists(lambda digest: count_served(service.store.engine, digest)),
        benefit=BenefitJob(service.worker.benefit, folders.shop / "node" / BENEFIT_FILE),
        experiments=experiments or ServiceExperiments(service),
        folders=folders,
    )
    page = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    page.state.parts = parts
    page.add_middleware(PageHeaders)
    for routes in (session_routes, shop_routes):
        page.include_router(routes.router)
    page.mount("/static", StaticFiles(directory=_STATIC), name="static")
    _handle_errors(page)
    app.mount(PAGE, page)

    @app.get("/", include_in_schema=False)
    def start() -> RedirectResponse:
        """Send a person who names the host alone to the page."""
        return RedirectResponse(f"{PAGE}/", _SEE_OTHER)

    return parts.sessions


def _handle_errors(page: FastAPI) -> None:
    """Make every error a page, or the part of one that was asked for."""

    async def sign_in(request: Request, error: Exception) -> Response:
        assert isinstance(error, NotSignedInError)  # noqa: S101 -- what it is registered for
        to = f"{PAGE}/sign-in?to={error.path}"
        if is_fragment(request):
            return Response(status_code=401, headers={"HX-Redirect": f"{PAGE}/sign-in"})
        return RedirectResponse(to, _SEE_OTHER)

    def told(problem_from: Callable[[Any], Problem]) -> Callable[[Request, Any], Any]:
        async def handler(request: Request, error: Any) -> Response:
            return _error_page(request, problem_from(error))

        return handler

    page.add_exception_handler(NotSignedInError, sign_in)
    page.add_exception_handler(FedtailError, told(problem_of))
    page.add_exception_handler(Problem, told(lambda error: error))
    page.add_exception_handler(
        RequestValidationError, told(lambda _: Problem(422, "The address is not of this page."))
    )
    page.add_exception_handler(
        HTTPException, told(lambda error: Problem(error.status_code, str(error.detail)))
    )
    page.add_exception_handler(
        OSError, told(lambda error: Problem(503, f"A file cannot be used: {error.strerror}."))
    )
    page.add_exception_handler(
        Exception, told(lambda _: Problem(500, "The service's log has the kind of error."))
    )


def _error_page(request: Request, problem: Problem) -> Response:
    target = request.headers.get("hx-target", "")
    values = {
        "status": problem.status,
        "detail": problem.detail,
        "target": target if re.fullmatch(r"[a-z][a-z-]{0,31}", target) else "",
    }
    template = "_error.html.j2" if is_fragment(request) else "error.html.j2"
    return render(request, template, values, status=problem.status, headers=problem.headers)
