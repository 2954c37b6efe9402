"""Shopify's webhooks become events: orders paid, refunded, and a customer's data erased.

    FEDTAIL_SERVICE=http://127.0.0.1:8080 FEDTAIL_KEY_FILE=key.txt SHOPIFY_SECRET_FILE=secret.txt \
        uvicorn --factory webhooks:from_environment --port 8001

Subscribe `orders/paid` and `refunds/create` to `/webhooks`, and the mandatory `customers/redact`.
Each request is checked by its HMAC before a byte of it is read as JSON. Shopify delivers a webhook
at least once: the event's id is made of the order and its line, so that it counts once.

Items are named by SKU and shoppers by e-mail address, as the import of Shopify's exports has them.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from client.api.errors import ServiceError
from client.api.messages import Event
from client.api.shop_client import ShopClient

MOST_BYTES = 2 * 1024 * 1024
LIST_PROPERTY = "_fedtail_list"  # of a cart line; the theme's block sets it


def signed(body: bytes, secret: str, given: str) -> bool:
    """Whether Shopify signed just these bytes: X-Shopify-Hmac-Sha256, compared in constant time."""
    made = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest())
    return hmac.compare_digest(made, given.encode())


def purchases(order: Mapping[str, Any]) -> Iterator[Event]:
    """Yield a purchase for each line of a paid order that has a SKU."""
    time = datetime.fromisoformat(order["processed_at"] or order["created_at"])
    for line in order["line_items"]:
        if not line.get("sku"):
            continue
        told = {one["name"]: one["value"] for one in line.get("properties") or ()}
        yield Event(
            "purchase",
            str(line["sku"]),
            recommendation_id=told.get(LIST_PROPERTY),
            shopper_id=order.get("email") or None,
            order_id=str(order["id"]),
            time=time,
            event_id=f"shopify-order-{order['id']}-{line['id']}",
        )


def refunds(refund: Mapping[str, Any]) -> Iterator[Event]:
    """Yield a refund for each line that was taken back."""
    time = datetime.fromisoformat(refund["created_at"])
    for line in refund["refund_line_items"]:
        sku = line["line_item"].get("sku")
        if sku:
            yield Event(
                "refund",
                str(sku),
                order_id=str(refund["order_id"]),
                time=time,
                event_id=f"shopify-refund-{refund['id']}-{line['id']}",
            )


def create_app(service: ShopClient, secret: str) -> FastAPI:
    """Return the receiver.

    Args:
        service: With a key of the scopes `events` and, for erasures, `admin`.
        secret: The app's client secret.
    """
    app = FastAPI(openapi_url=None)

    @app.post("/webhooks")
    async def take(request: Request) -> Response:
        body = await _body(request)
        if not signed(body, secret, request.headers.get("x-shopify-hmac-sha256", "")):
            raise HTTPException(401, "The signature is not Shopify's.")
        topic = request.headers.get("x-shopify-topic", "")
        try:
            await run_in_threadpool(_pass_on, service, topic, json.loads(body))
        except ServiceError:
            raise HTTPException(503, "The service does not answer.") from None  # it comes again
        except (ValueError, KeyError, TypeError, AttributeError):
            raise HTTPException(422, "The webhook is not as expected.") from None
        return Response(status_code=200)

    return app


def _pass_on(service: ShopClient, topic: str, told: Mapping[str, Any]) -> None:
    if topic == "orders/paid":
        service.send_events(list(purchases(told)))
    elif topic == "refunds/create":
        service.send_events(list(refunds(told)))
    elif topic == "customers/redact":
        service.forget_shopper(str(told["customer"]["email"]))


async def _body(request: Request) -> bytes:
    """Return the body; what is longer than Shopify sends is not read to its end."""
    held = bytearray()
    async for part in request.stream():
        held += part
        if len(held) > MOST_BYTES:
            raise HTTPException(413, "The webhook is too large.")
    return bytes(held)


def from_environment() -> FastAPI:
    """Return the receiver with its secrets read from files."""
    key, secret = (
        Path(os.environ[name]).read_text("utf-8").strip()
        for name in ("FEDTAIL_KEY_FILE", "SHOPIFY_SECRET_FILE")
    )
    return create_app(ShopClient(os.environ["FEDTAIL_SERVICE"], key), secret)
