"""Items and stock as they change, and shoppers who ask to be forgotten."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from client.serving.feedback.store import Change
from client.serving.http.context import Here, Service, needs
from client.serving.http.problems import Problem
from client.serving.http.strict_json import StrictRoute
from client.serving.messages import (
    Id,
    ItemAnswer,
    ItemBody,
    ItemChange,
    StockAnswer,
    StockBody,
)
from common.catalogue import Item

router = APIRouter(
    route_class=StrictRoute, prefix="/v1", tags=["shop"], dependencies=[Depends(needs("admin"))]
)


@router.put("/items/{item_id:path}")
def put_item(item_id: Annotated[Id, Path()], body: ItemBody, here: Here) -> ItemAnswer:
    """Put an item into the catalogue, or another in its place; when this answers, it is ranked.

    A new text is read by the release in a process beside the service.
    """
    text = body.text or body.title
    return _put(here, Item(item_id, body.title, text, body.category))


@router.patch("/items/{item_id:path}")
def change_item(item_id: Annotated[Id, Path()], body: ItemChange, here: Here) -> ItemAnswer:
    """Change what is named of an item. A text that was the title follows it."""
    known = _known(here, item_id)
    title = known.title if body.title is None else body.title
    text = body.text or (title if known.text == known.title else known.text)
    category = known.category if body.category is None else body.category
    return _put(here, Item(item_id, title, text, category))


@router.delete("/items/{item_id:path}", status_code=204)
def delete_item(item_id: Annotated[Id, Path()], here: Here) -> None:
    """Never recommend an item again, until it is put back. Histories may still name it."""
    _known(here, item_id)
    here.live.change([Change("delete", item_id)], here.now())


@router.put("/stock")
def put_stock(body: StockBody, here: Here) -> StockAnswer:
    """Say what is in stock, for lists that ask for `in_stock`."""
    snapshot = here.live.snapshot
    items, stock = snapshot.model.catalogue, snapshot.in_stock
    levels = {one.item_id: one.quantity > 0 for one in body.items}
    wanted = {name: there for name, there in levels.items() if name in items}
    if body.complete:
        wanted = {item.item_id: False for item in items.items} | wanted
    before = (
        {}
        if stock is None
        else dict(zip((item.item_id for item in items.items), stock.tolist(), strict=True))
    )
    changes = [
        Change("in_stock" if there else "out_of_stock", name)
        for name, there in wanted.items()
        if before.get(name) is not there
    ]
    if changes:
        here.live.change(changes, here.now())
    unknown = sum(name not in items for name in levels)
    return StockAnswer(changed=len(changes), unknown=unknown)


@router.delete("/shoppers/{shopper_id:path}", status_code=204)
def forget_shopper(shopper_id: Annotated[Id, Path()], here: Here) -> None:
    """Delete all that is kept of a shopper here, and rank for them as for nobody from now on.

    The privacy ledger stays: it names no shopper. What a release holds of them is what its ε
    bounds. The shop's own tables and the data set are yours to clear; import and fit again then.
    """
    here.store.erase_shopper(shopper_id, here.now())


def _known(here: Service, item_id: str) -> Item:
    snapshot = here.live.snapshot
    if item_id not in snapshot.model.catalogue:
        raise Problem(404, "The shop has no item of that id.")
    return snapshot.model.catalogue.items[snapshot.model.catalogue.index_of(item_id)]


def _put(here: Service, item: Item) -> ItemAnswer:
    snapshot = here.live.snapshot
    catalogue = snapshot.model.catalogue
    digest, vectors = None, None
    same = item.item_id in catalogue and (
        catalogue.items[catalogue.index_of(item.item_id)].text == item.text
    )
    if not same or item.item_id in snapshot.waiting:
        digest, [vectors] = here.worker.encode([item.text])
        if digest != snapshot.source.release_digest:
            raise Problem(
                409, "The release has just changed; fit the shop with it, then try again."
            )
    put = Change("put", item.item_id, item.title, item.text, item.category, digest, vectors)
    version = here.live.change([put], here.now())
    return ItemAnswer(
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        category=item.category,
        version=version,
    )
