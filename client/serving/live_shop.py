"""The model that answers just now, and how another takes its place under load.

A request takes one snapshot and keeps it to its end. A new model, item or stock makes a new
snapshot and puts it in the old one's place in one assignment, so no request waits for it or sees
half of it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.ranking.fusion import FusedRanker
from client.ranking.sales_trend import SalesTrend
from client.ranking.text_ease import TextEaseModel
from client.ranking.text_scorer import TextScorer, strengthened
from client.recommending.shop_model import ModelSource, ShopModel, load_shop_model, read_manifest
from client.serving.feedback.store import Change, Store
from common.catalogue import Catalogue, Item
from common.errors import FedtailError, InputError

VECTORS = 2  # of an item: under the adapter, and frozen


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A shop at one moment.

    Attributes:
        model: With the items that came since it was fitted.
        rankable: bool [items], false for what was deleted.
        in_stock: bool [items]; None if the shop never said what is in stock.
        version: Of the last change that is in it.
        waiting: Ids of new items whose text has yet to be read by this release.
    """

    model: ShopModel
    rankable: NDArray[np.bool_]
    in_stock: NDArray[np.bool_] | None
    version: int
    waiting: frozenset[str] = frozenset()

    @property
    def source(self) -> ModelSource:
        """What the model was made of."""
        if self.model.source is None:  # a kept model says it
            raise InputError("The model does not say what it was made of.", field="model")
        return self.model.source


@dataclass(frozen=True, eq=False)
class WithNewItems:
    """A collaborative model beside items that it has not seen, of which it says nothing: 0."""

    known: TextEaseModel
    known_items: int
    item_count: int

    def score(self, history: csr_matrix) -> NDArray[np.float32]:
        """Return scores: float32 [cases, items]."""
        found = np.zeros((history.shape[0], self.item_count), np.float32)
        found[:, : self.known_items] = self.known.score(history[:, : self.known_items].tocsr())
        return found

    def shares(
        self, history: NDArray[np.integer], items: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return what each bought item [h] adds to `items` [k] above the average: [h, k]."""
        found = np.zeros((len(history), len(items)))
        old, wanted = history < self.known_items, items < self.known_items
        average = self.known.averages(history[old])
        # The known model measures against its own average, in which no new item with its 0 is.
        found[np.ix_(old, wanted)] = (
            self.known.shares(history[old], items[wanted]) + average[:, None]
        )
        found[old] -= (average * (self.known_items / self.item_count))[:, None]
        return found


def snapshot_of(model: ShopModel, changes: Sequence[Change]) -> Snapshot:
    """Return the shop as `changes`, in their order, leave it."""
    final: dict[str, Change] = {}
    gone: dict[str, bool] = {}
    stock: dict[str, bool] = {}
    for one in changes:
        if one.kind == "put":
            read = one if one.vectors is not None else final.get(one.item_id, one)
            final[one.item_id] = replace(
                one, vectors=read.vectors, release_digest=read.release_digest
            )
            gone[one.item_id] = False
        elif one.kind == "delete":
            gone[one.item_id] = True
        else:
            stock[one.item_id] = one.kind == "in_stock"
    model, waiting = _with_items(model, list(final.values()))
    ids = [item.item_id for item in model.catalogue.items]
    rankable = np.array([not gone.get(name, False) for name in ids], dtype=bool)
    rankable &= np.array([name not in waiting for name in ids], dtype=bool)
    in_stock = np.array([stock.get(name, False) for name in ids], dtype=bool) if stock else None
    version = changes[-1].version if changes else 0
    return Snapshot(model, rankable, in_stock, version, frozenset(waiting))


def _with_items(model: ShopModel, puts: Sequence[Change]) -> tuple[ShopModel, set[str]]:
    """Return the model with items put into it, and the ids of those that it cannot place yet."""
    if not puts:
        return model, set()
    old, ranker = model.catalogue, model.ranker
    items = list(old.items)
    place = {item.item_id: number for number, item in enumerate(items)}
    release = model.source.release_digest if model.source else ""
    waiting: set[str] = set()
    placed: list[tuple[int, bytes]] = []
    for one in puts:
        item = Item(one.item_id, one.title or "", one.text or "", one.category or "")
        usable = one.vectors is not None and one.release_digest == release
        if one.item_id not in place:
            place[one.item_id] = len(items)
            items.append(item)
            if not usable:
                waiting.add(one.item_id)
        else:
            known = items[place[one.item_id]]
            item = replace(item, merchant=known.merchant)
            if item.text != known.text and not usable:
                waiting.add(one.item_id)
            items[place[one.item_id]] = item
        if usable and one.vectors is not None:
            placed.append((place[one.item_id], one.vectors))
    added = len(items) - len(old)
    text = ranker.text
    adapted, frozen = (
        np.concatenate([one, np.zeros((added, one.shape[1]), np.float32)])
        for one in (text.history_vectors, text.candidate_vectors)
    )
    for number, vectors in placed:
        released, frozen[number] = np.frombuffer(vectors, np.float32).reshape(VECTORS, -1)
        adapted[number] = strengthened(frozen[[number]], released[None], text.strength)[0]
    own = ranker.collaborative
    if added and isinstance(own, TextEaseModel):
        own = WithNewItems(own, len(old), len(items))
    ranker = FusedRanker(
        TextScorer(adapted, frozen, text.decay, text.strength),
        own,
        ranker.weights,
        np.concatenate([ranker.sales, np.zeros(added, ranker.sales.dtype)]),
        SalesTrend(*(np.concatenate([one, np.zeros(added, one.dtype)]) for one in ranker.trend)),
        ranker.season.with_items(frozen, [number for number, _ in placed]),
    )
    tail = np.concatenate([model.tail, np.ones(added, dtype=bool)])
    purchases = replace(model.purchases, item_count=len(items))
    model = replace(
        model, catalogue=Catalogue(tuple(items)), ranker=ranker, tail=tail, purchases=purchases
    )
    return model, waiting


class LiveShop:
    """Holds the current snapshot."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        accepts: Callable[[ModelSource], None] = lambda _: None,
        accepts_beside: Callable[[ModelSource], None] | None = None,
    ) -> None:
        """Load the model in `folder` and what changed since.

        Args:
            folder: As `client fit` made it.
            store: With the changes.
            accepts: Raises if a model of that source must not serve, such as one of a release that
                is not verified.
            accepts_beside: The same for a model that is an arm of an experiment; else `accepts`.

        Raises:
            FedtailError: if there is no model, or `accepts` refuses it.
        """
        self._folder, self._store, self._accepts = folder, store, accepts
        self._accepts_beside = accepts_beside or accepts
        self._changing = threading.Lock()
        self._base = self._load()
        self._current = snapshot_of(self._base, store.changes())

    @property
    def snapshot(self) -> Snapshot:
        """The shop just now; a request asks once."""
        return self._current

    def refresh(self) -> bool:
        """Load the model in the folder if it is another; return whether it is.

        Raises:
            FedtailError: if it cannot be read, or is refused; the old one goes on serving.
        """
        try:
            digest = read_manifest(self._folder)[1]
        except FileNotFoundError:
            return False
        if digest == self._base.digest:
            return False
        base = self._load()
        with self._changing:
            self._base = base
            self._current = snapshot_of(base, self._store.changes())
        return True

    def change(self, changes: Sequence[Change], time: int) -> int:
        """Make changes durable, then visible; return the version of the last.

        Raises:
            StorageError: if they cannot be kept; nothing has changed then.
        """
        with self._changing:
            version = self._store.add_changes(changes, time)
            self._current = snapshot_of(self._base, self._store.changes())
        return version

    def beside(self, name: str) -> ShopModel:
        """Return the model in the folder `name` beside this one, without what changed since.

        Raises:
            FedtailError: if there is none, or it is refused.
        """
        return _loaded(self._folder.parent / name, self._accepts_beside)

    def _load(self) -> ShopModel:
        return _loaded(self._folder, self._accepts)


def _loaded(folder: Path, accepts: Callable[[ModelSource], None]) -> ShopModel:
    model = load_shop_model(folder)
    if model.source is not None:
        accepts(model.source)
    return model


def watch(
    live: LiveShop, stop: threading.Event, seconds: float, tell: Callable[[str], None]
) -> None:
    """Look for another model every so often until `stop` is set."""
    refused = ""
    while not stop.wait(seconds):
        try:
            if live.refresh():
                tell(f"serving release {live.snapshot.source.release}, another model")
            refused = ""
        except (FedtailError, OSError) as error:
            if str(error) != refused:
                refused = str(error)
                tell(f"the new model is refused and the old one goes on: {error}")
