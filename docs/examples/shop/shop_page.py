"""A shop of one page: it asks the service for a list, shows it, and tells what came of it.

    fedtail client keys new --shop shop --name website --scope serve --scope events > key.txt
    python shop_page.py

The key stays in this server. The page that a shopper's browser gets has none, and never calls the
service itself. Use it to read how it goes, and not as a shop.
"""

import csv
import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, Cookie, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse

from client.api.errors import ServiceError
from client.api.messages import Event, EventType, ListOptions, Recommendations
from client.api.shop_client import ShopClient

HERE = Path(__file__).parent
LOOKED_AT = 10  # items that a browser remembers
LIST_ID = re.compile(r"[0-9a-f]{32}")
OPTIONS = ListOptions(count=4, surface="product_page", explain=True)


@dataclass(frozen=True)
class Shop:
    """What the pages are made of.

    Attributes:
        service: The client, with a key of the scopes `serve` and `events`.
        titles: What the shop sells, by item id.
    """

    service: ShopClient
    titles: Mapping[str, str]

    def title(self, item_id: str) -> str:
        """Return an item's title; 404 if the shop has no such item."""
        if item_id not in self.titles:
            raise HTTPException(404, "The shop has no such item.")
        return self.titles[item_id]

    def list_for(self, history: Sequence[str]) -> Recommendations | None:
        """Return what goes with a history; None if the service does not answer."""
        try:
            return self.service.recommend(history=history, options=OPTIONS)
        except ServiceError:
            return None  # the page goes out without a list

    def tell(self, kind: EventType, list_id: str, item_ids: Sequence[str]) -> None:
        """Send an event of each item of a list."""
        try:
            self.service.send_events([Event(kind, item_id, list_id) for item_id in item_ids])
        except ServiceError as error:
            print(f"events were not kept: {error}")  # noqa: T201 -- an example without a log


def create_app(shop: Shop) -> FastAPI:
    """Return the shop's server."""
    app = FastAPI(openapi_url=None)

    @app.get("/")
    def home() -> RedirectResponse:
        return RedirectResponse(f"/items/{next(iter(shop.titles))}", 303)

    @app.get("/items/{item_id}")
    def show(
        item_id: str, tasks: BackgroundTasks, looked_at: Annotated[str, Cookie()] = ""
    ) -> HTMLResponse:
        """Show an item and what goes with what was looked at; tell of it after the answer."""
        title = shop.title(item_id)
        before = [one for one in looked_at.split("|") if one in shop.titles and one != item_id]
        history = [*before[1 - LOOKED_AT :], item_id]
        found = shop.list_for(history)
        answer = HTMLResponse(page(title, item_id, found, shop.titles))
        if found is not None:
            shown = [one.item_id for one in found.items]
            tasks.add_task(shop.tell, "impression", found.recommendation_id, shown)
        answer.set_cookie("looked_at", "|".join(history), httponly=True, samesite="lax")
        return answer

    @app.get("/from/{list_id}/{item_id}")
    def follow(list_id: str, item_id: str, tasks: BackgroundTasks) -> RedirectResponse:
        """Tell of a click, and go to the item."""
        shop.title(item_id)
        if LIST_ID.fullmatch(list_id):
            tasks.add_task(shop.tell, "click", list_id, [item_id])
        return RedirectResponse(f"/items/{item_id}", 303)

    return app


def page(title: str, item_id: str, found: Recommendations | None, titles: Mapping[str, str]) -> str:
    """Return the page of one item as HTML, every text escaped."""
    rows = []
    if found is not None:
        for one in found.items:
            way = html.escape(f"/from/{found.recommendation_id}/{one.item_id}")
            name = html.escape(titles.get(one.item_id, one.item_id))
            why = html.escape(one.reason or "")
            rows.append(f'<li><a href="{way}">{name}</a> <small>{why}</small></li>')
    beside = f"<h2>Goes with it</h2><ul>{''.join(rows)}</ul>" if rows else ""
    return (
        '<!doctype html><meta charset="utf-8"><title>A small shop</title>'
        f"<h1>{html.escape(title)}</h1><p>Item {html.escape(item_id)}</p>{beside}"
    )


def read_titles(tables: Path) -> dict[str, str]:
    """Return the titles by item id from the shop's own table."""
    with (tables / "items.csv").open(encoding="utf-8", newline="") as file:
        return {row["item_id"]: row["title"] for row in csv.DictReader(file)}


def main() -> None:
    """Serve the shop on this machine."""
    import uvicorn  # noqa: PLC0415 -- whoever mounts the app needs no server of ours

    key = Path(os.environ.get("FEDTAIL_KEY_FILE", "key.txt")).read_text("utf-8").strip()
    address = os.environ.get("FEDTAIL_SERVICE", "http://127.0.0.1:8080")
    with ShopClient(address, key) as service:
        uvicorn.run(create_app(Shop(service, read_titles(HERE / "tables"))), port=8000)


if __name__ == "__main__":
    main()
