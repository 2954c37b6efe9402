import base64
import hashlib
import hmac
import json

import httpx
import pytest

from client.api.shop_client import ShopClient
from docs.examples.shopify.webhooks import create_app, purchases, refunds, signed
from tests.support.listening import listening
from tests.support.served import Counter
from tests.support.serving_process import free_port

SECRET = "hush"
LINE = {"id": 11, "sku": "item-3", "properties": [{"name": "_fedtail_list", "value": "0" * 32}]}
ORDER = {
    "id": 820982911946154508,
    "email": "jon@shop.example",
    "created_at": "2026-09-01T10:00:00-05:00",
    "processed_at": "2026-09-01T10:00:05-05:00",
    "line_items": [LINE, {"id": 12, "sku": "item-4", "properties": []}, {"id": 13, "sku": None}],
}
REFUND = {
    "id": 929361462,
    "order_id": ORDER["id"],
    "created_at": "2026-09-02T10:00:00-05:00",
    "refund_line_items": [{"id": 104689539, "line_item": {"sku": "item-4"}}],
}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    """A real service, the receiver in front of it, and what posts as Shopify does."""
    counter = Counter(tmp_path_factory.mktemp("counter"))
    with (
        listening(counter.app) as address,
        ShopClient(address, counter.key) as service,
        listening(create_app(service, SECRET)) as own,
    ):
        yield counter, lambda topic, told, secret=SECRET: post(own, topic, told, secret)
    counter.store.close()


def post(address, topic, told, secret):
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    mac = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    headers = {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": mac}
    return httpx.post(f"{address}/webhooks", content=body, headers=headers).status_code


def test_a_paid_order_counts_once_however_often_it_is_delivered(receiver):
    _, send = receiver
    assert [send("orders/paid", ORDER) for _ in range(3)] == [200] * 3
    assert send("refunds/create", REFUND) == 200
    assert send("customers/redact", {"customer": {"id": 1, "email": "jon@shop.example"}}) == 200
    assert send("products/update", {}) == 200  # what is not asked for is let be


def test_events_are_named_as_the_import_names_them():
    bought = list(purchases(ORDER))
    assert [one.item_id for one in bought] == ["item-3", "item-4"]
    assert {one.shopper_id for one in bought} == {"jon@shop.example"}
    assert bought[0].recommendation_id == "0" * 32
    assert bought[0].event_id == list(purchases(ORDER))[0].event_id  # noqa: RUF015 -- alike
    [back] = refunds(REFUND)
    assert back.order_id == bought[0].order_id


def test_what_shopify_did_not_sign_is_not_read(receiver):
    _, send = receiver
    assert send("orders/paid", ORDER, secret="other") == 401
    assert send("orders/paid", b"\xff not json", secret="other") == 401
    assert not signed(b"a", SECRET, "")
    assert not signed(b"a", SECRET, "é")


@pytest.mark.parametrize("told", [b"", b"[1]", b"{}", b'{"line_items": null}', b"\xff"])
def test_a_signed_webhook_that_is_no_order_is_told(receiver, told):
    _, send = receiver
    assert send("orders/paid", told) == 422


def test_a_large_body_is_not_read_to_its_end(receiver):
    _, send = receiver
    assert send("orders/paid", b"0" * 3_000_000) == 413


def test_while_the_service_is_away_shopify_is_asked_to_come_again():
    nowhere = f"http://127.0.0.1:{free_port()}"
    with (
        ShopClient(nowhere, "key", sleep=lambda _: None) as service,
        listening(create_app(service, SECRET)) as own,
    ):
        assert post(own, "orders/paid", ORDER, SECRET) == 503
