import hashlib
import hmac
import re
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from client.api.shop_client import ShopClient
from docs.examples.shopify.app_proxy import create_app, signed
from tests.support.listening import listening
from tests.support.served import Counter

SECRET = "hush"
BLOCK = (
    Path(__file__).parents[4]
    / "docs"
    / "examples"
    / "shopify"
    / "blocks"
    / "recommendations.liquid"
)


def query(secret=SECRET, **given):
    """A query as Shopify signs it."""
    named = {"shop": "a.myshopify.com", "timestamp": "1317327555", "path_prefix": "/apps/fedtail"}
    named |= given
    message = "".join(f"{name}={value}" for name, value in sorted(named.items()))
    made = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return urlencode(named | {"signature": made})


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    counter = Counter(tmp_path_factory.mktemp("counter"))
    counter.service.now = lambda: 4_000_000_000_000_000  # the proxy's clock is the real one
    with (
        listening(counter.app) as address,
        ShopClient(address, counter.key) as service,
        listening(create_app(service, SECRET)) as own,
    ):
        yield counter, lambda path, asked: httpx.get(f"{own}/proxy/{path}?{asked}")
    counter.store.close()


def test_the_theme_gets_skus_and_tells_of_a_click(proxy):
    counter, ask = proxy
    found = ask("similar", query(sku="item-3")).json()
    assert len(found["skus"]) == 4
    told = ask("click", query(sku=found["skus"][0], list=found["list"]))
    assert told.json() == {"kept": True}
    assert counter.key not in told.text


def test_shopifys_own_example_is_signed():
    # The example of Shopify's documentation of app proxies.
    pairs = [
        ("extra", "1"),
        ("extra", "2"),
        ("shop", "shop-name.myshopify.com"),
        ("logged_in_customer_id", "1"),
        ("path_prefix", "/apps/awesome_reviews"),
        ("timestamp", "1317327555"),
    ]
    message = (
        "extra=1,2logged_in_customer_id=1path_prefix=/apps/awesome_reviews"
        "shop=shop-name.myshopify.comtimestamp=1317327555"
    )
    made = hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
    assert signed([*pairs, ("signature", made)], SECRET)
    assert not signed([*pairs[1:], ("signature", made)], SECRET)
    assert not signed(pairs, SECRET)


def test_without_the_signature_nobody_gets_a_list(proxy):
    _, ask = proxy
    for asked in ("sku=item-3", query(secret="other", sku="item-3"), ""):
        assert ask("similar", asked).status_code == 401


@pytest.mark.parametrize("sku", ["", "x" * 257])
def test_a_sku_has_bounds(proxy, sku):
    _, ask = proxy
    assert ask("similar", query(sku=sku)).status_code == 422
    assert ask("click", query(sku="item-3", list="nonsense")).status_code == 422


def test_an_unknown_item_shows_nothing(proxy):
    _, ask = proxy
    assert ask("similar", query(sku="no such")).json() == {"list": None, "skus": []}


def test_the_themes_block_asks_only_what_the_proxy_answers():
    block = BLOCK.read_text("utf-8")
    asked = set(re.findall(r"\$\{proxy\}/(\w+)\?(\w+)=", block))
    assert asked == {("similar", "sku"), ("click", "sku")}
    assert "innerHTML" not in block
    assert "8080" not in block
