"""Shopify's app proxy: the theme asks the shop's own domain, and this server asks the service.

    FEDTAIL_SERVICE=http://127.0.0.1:8080 FEDTAIL_KEY_FILE=key.txt SHOPIFY_SECRET_FILE=secret.txt \
        uvicorn --factory app_proxy:from_environment --port 8002

Point the proxy `/apps/fedtail` at `/proxy`. Shopify signs the query: without that signature nobody
gets a list. The answer names products by SKU; the theme renders them, as it knows their pages.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from client.api.errors import ServiceError
from client.api.messages import Event, ListOptions
from client.api.shop_client import ShopClient

LONGEST_SKU = 256
LIST_ID = re.compile(r"[0-9a-f]{32}")
OPTIONS = ListOptions(count=4, surface="product_page")


def signed(query: Sequence[tuple[str, str]], secret: str) -> bool:
    """Whether Shopify signed the query: its sorted `name=value`s, joined, values with commas."""
    by_name: dict[str, list[str]] = {}
    for name, value in query:
        by_name.setdefault(name, []).append(value)
    given = ",".join(by_name.pop("signature", []))
    message = "".join(f"{name}={','.join(values)}" for name, values in sorted(by_name.items()))
    made = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(made.encode(), given.encode())


def create_app(service: ShopClient, secret: str) -> FastAPI:
    """Return the proxy's end.

    Args:
        service: With a key of the scopes `serve` and `events`.
        secret: The app's client secret.
    """
    app = FastAPI(openapi_url=None)

    def sku_of(request: Request) -> str:
        if not signed(request.query_params.multi_items(), secret):
            raise HTTPException(401, "The signature is not Shopify's.")
        sku = request.query_params.get("sku", "")
        if not 1 <= len(sku) <= LONGEST_SKU:
            raise HTTPException(422, f"sku: 1 to {LONGEST_SKU} characters.")
        return sku

    @app.get("/proxy/similar")
    def similar(request: Request) -> dict[str, Any]:
        sku = sku_of(request)
        try:
            found = service.similar(sku, OPTIONS)
        except ServiceError:
            return {"list": None, "skus": []}  # the theme then shows nothing
        return {"list": found.recommendation_id, "skus": [one.item_id for one in found.items]}

    @app.get("/proxy/click")
    def click(request: Request) -> dict[str, bool]:
        sku, list_id = sku_of(request), request.query_params.get("list", "")
        if not LIST_ID.fullmatch(list_id):
            raise HTTPException(422, "list: 32 hex digits.")
        try:
            service.send_events([Event("click", sku, list_id)])
        except ServiceError:
            return {"kept": False}
        return {"kept": True}

    return app


def from_environment() -> FastAPI:
    """Return the proxy's end with its secrets read from files."""
    key, secret = (
        Path(os.environ[name]).read_text("utf-8").strip()
        for name in ("FEDTAIL_KEY_FILE", "SHOPIFY_SECRET_FILE")
    )
    return create_app(ShopClient(os.environ["FEDTAIL_SERVICE"], key), secret)
