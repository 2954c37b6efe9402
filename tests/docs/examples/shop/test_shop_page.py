import re
import time
from pathlib import Path

import httpx
import pytest

from client.api.shop_client import ShopClient
from docs.examples.shop.shop_page import Shop, create_app, read_titles
from tests.support.listening import listening
from tests.support.served import Counter
from tests.support.serving_process import free_port

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A real service, and the shop in front of it with one title that is markup."""
    counter = Counter(tmp_path_factory.mktemp("counter"))
    counter.service.now = lambda: 4_000_000_000_000_000  # the shop's clock is the real one
    titles = {item.item_id: item.title for item in counter.live.snapshot.model.catalogue.items}
    titles["item-5"] = "<script>alert(1)</script>"
    with (
        listening(counter.app) as address,
        ShopClient(address, counter.key) as service,
        listening(create_app(Shop(service, titles))) as own,
        httpx.Client(base_url=own, follow_redirects=True) as browser,
    ):
        yield counter, browser
    counter.store.close()


def links(page):
    return re.findall(r'href="(/from/[0-9a-f]{32}/[^"]+)"', page)


def test_a_page_shows_a_list_and_its_impressions_are_kept(shop):
    counter, browser = shop
    before = online(counter)
    answer = browser.get("/items/item-3")
    assert len(links(answer.text)) == 4
    wait_for(lambda: online(counter)["impressions"] == before["impressions"] + 4)
    answer = browser.get(links(answer.text)[0])
    assert answer.status_code == 200
    wait_for(lambda: online(counter)["clicks"]["count"] == before["clicks"]["count"] + 1)


def wait_for(comes):
    """Events are told after the answer."""
    end = time.monotonic() + 30
    while not comes():
        assert time.monotonic() < end
        time.sleep(0.01)


def online(counter):
    return counter.ask("GET", "/v1/online").json()


def test_what_was_looked_at_changes_the_list(shop):
    _, browser = shop
    browser.cookies.clear()
    alone = browser.get("/items/item-3").text
    browser.cookies.clear()
    for item in ("item-40", "item-41", "item-42"):
        browser.get(f"/items/{item}")
    ended = [one.rsplit("/", 1)[1] for one in links(browser.get("/items/item-3").text)]
    assert ended != [one.rsplit("/", 1)[1] for one in links(alone)]


def test_the_page_has_no_key_and_its_texts_are_no_markup(shop):
    counter, browser = shop
    for number in range(10):
        answer = browser.get(f"/items/item-{number}")
        assert counter.key not in answer.text + str(answer.headers)
        assert "<script" not in answer.text


@pytest.mark.parametrize("cookie", ["|||", "no-such|item-3", "item-1|" * 500, '"><script>'])
def test_any_cookie_and_any_list_is_no_error(shop, cookie):
    _, browser = shop
    answer = browser.get("/items/item-3", headers={"cookie": f"looked_at={cookie}"})
    assert answer.status_code == 200
    assert browser.get("/from/nonsense/item-3").status_code == 200
    assert browser.get("/from/" + "0" * 32 + "/no-such").status_code == 404


def test_without_a_service_the_shop_still_shows_its_items():
    nowhere = f"http://127.0.0.1:{free_port()}"
    with (
        ShopClient(nowhere, "key", sleep=lambda _: None) as service,
        listening(create_app(Shop(service, {"a": "Red jug"}))) as own,
    ):
        answer = httpx.get(own, follow_redirects=True)
    assert answer.status_code == 200
    assert "Red jug" in answer.text
    assert links(answer.text) == []


def test_the_sample_tables_have_titles():
    titles = read_titles(ROOT / "docs" / "examples" / "shop" / "tables")
    assert len(titles) == 160
    assert all(titles.values())
