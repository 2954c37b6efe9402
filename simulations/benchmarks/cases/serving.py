"""What a list costs against the bare product that it cannot do without, measured in one run."""

from collections.abc import Iterator

import numpy as np

from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.text_ease import TextEaseModel
from client.ranking.text_scorer import TextScorer
from client.recommending.filters import Filters
from client.recommending.recommender import Recommender
from client.recommending.shop_model import ShopModel
from client.shop.histories import typed_history
from client.shop.interactions import Interactions
from common.catalogue import Catalogue, Item, popularity_buckets
from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import Row, ratio_row

LIMIT = 1.3  # times the bare product at 100,000 items
WIDTH = 384  # of the item vectors
FACTORS = 384  # columns of the collaborative factors: a shop whose titles say most of it
HISTORY = 20
TOP = 10
REPEATS = 31


def rows() -> Iterator[Row]:
    """Measure lists of random shops of two sizes."""
    for items, limit in ((20_000, None), (100_000, LIMIT)):
        yield from _list_rows(items, limit)


def _list_rows(items: int, limit: float | None) -> Iterator[Row]:
    model = random_model(items)
    recommender, rules = Recommender(model), Filters(not_categories=["Garden"])
    random = np.random.default_rng(1)
    own, text = model.ranker.collaborative, model.ranker.text
    assert isinstance(own, TextEaseModel)  # noqa: S101 -- `_model` made it

    across = np.ascontiguousarray(own.factors.T)  # as NumPy is fastest, and not as the model has it

    def picked() -> list[int]:
        return [int(one) for one in random.choice(items, HISTORY, replace=False)]

    def bare() -> None:
        history = picked()
        embedding = text.history_vectors[history].mean(axis=0)
        scores = text.candidate_vectors @ embedding
        scores += own.factors[history].sum(axis=0) @ across
        np.argpartition(-scores, TOP)

    def plain() -> None:
        history = picked()
        eligible = rules.eligible(model.catalogue, np.array(history))
        recommender.picked(typed_history(history, items), eligible, TOP)

    def explained() -> None:
        history = picked()
        eligible = rules.eligible(model.catalogue, np.array(history))
        recommender.explained(recommender.picked(typed_history(history, items), eligible, TOP))

    ways = [processor(one) for one in (plain, bare, explained)]
    seconds = by_turns(ways, REPEATS, warm_up=3)
    peer = "NumPy's bare products and argpartition"
    yield ratio_row(f"top {TOP} of {items:,} items", peer, seconds[:, [0, 1]], target=limit)
    yield ratio_row("the same with reasons", peer, seconds[:, [2, 1]])


def random_model(items: int) -> ShopModel:
    """Return the model of a random shop: 2,000 shoppers, categories Kitchen and Garden in turn."""
    random = np.random.default_rng(0)
    shoppers, rows = 2000, 40_000
    shopper = np.sort(random.integers(0, shoppers, rows)).astype(np.int32)
    item = random.zipf(1.3, rows) % items
    purchases = Interactions(
        tuple(f"{place}" for place in range(shoppers)),
        items,
        shopper,
        item.astype(np.int32),
        np.arange(rows) * 10**6,
        np.arange(rows, dtype=np.int32),
        np.ones(rows, np.float32),
        timed=True,
    )
    vectors = random.standard_normal((2, items, WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    factors = random.standard_normal((items, FACTORS), dtype=np.float32) / np.float32(40)
    diagonal = (1 - np.einsum("ij,ij->i", factors, factors)).clip(0.1)
    own = TextEaseModel(factors, diagonal, 1.0, 200.0, 10.0)
    text = TextScorer(vectors[0], vectors[1], 0.95)
    ranker = FusedRanker.of(text, own, FusionWeights(), purchases)
    named = (
        Item(f"{place:06}", f"Item {place}", f"Item {place}", ("Kitchen", "Garden")[place % 2])
        for place in range(items)
    )
    tail = popularity_buckets(ranker.sales).tail
    return ShopModel("bench", None, Catalogue(tuple(named)), ranker, tail, {}, purchases)
