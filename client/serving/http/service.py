"""The app: its routes, its problems and its gate."""

from fastapi import FastAPI

from client.serving.http import (
    alert_routes,
    catalogue_routes,
    event_routes,
    experiment_routes,
    list_routes,
    state_routes,
)
from client.serving.http.context import Service
from client.serving.http.gate import USUAL_RATE, Gate, Rate
from client.serving.http.problems import MEDIA_TYPE, handle_problems
from client.serving.keys import Keys

_DESCRIPTION = """Recommendations for a shop, and what came of them.

Every error is a problem of RFC 9457. Lists depend on the shop's own model alone, and nothing of a
request leaves the shop's machine."""
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_STATUSES = {
    "400": "The request cannot be read.",
    "401": "A key is needed.",
    "403": "The key is not for this.",
    "404": "There is no such thing.",
    "408": "The request took too long.",
    "409": "Not possible just now.",
    "413": "The body is too large.",
    "422": "The request is not valid.",
    "429": "Too many requests.",
    "503": "Not available just now, such as on a full disk.",
}


def create_app(service: Service, keys: Keys, rate: Rate = USUAL_RATE) -> FastAPI:
    """Return the ASGI app of a service."""
    app = described_app()
    app.state.service = service
    app.add_middleware(Gate, keys=keys, metrics=service.metrics, rate=rate)
    return app


def described_app() -> FastAPI:
    """Return the routes and their OpenAPI description, without a service behind them."""
    app = FastAPI(
        title="fedtail",
        version="1",
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its pages load scripts from foreign hosts
        redoc_url=None,
        redirect_slashes=False,
        responses={
            status: {
                "description": told,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for status, told in _STATUSES.items()
        },
    )
    for routes in (
        list_routes,
        event_routes,
        catalogue_routes,
        experiment_routes,
        alert_routes,
        state_routes,
    ):
        app.include_router(routes.router)
    handle_problems(app)
    described = app.openapi

    def openapi() -> dict[str, object]:
        document = described()
        document["components"]["schemas"].setdefault("Problem", _PROBLEM)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way to extend it
    return app
