"""Shop models for tests of serving: random, seeded, and made without a language model."""

import numpy as np

from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.purchase_probability import ClickChances
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import TextScorer
from client.recommending.shop_model import ModelSource, ShopModel
from common.catalogue import Catalogue, Item, popularity_buckets
from common.evaluation.calibration import ClickCurve
from tests.support.shops import make_catalogue, make_interactions

SOURCE = ModelSource(
    release="2026.11.24", release_digest="a" * 64, data_digest="b" * 64, code_digest="c" * 64
)


def made_model(*, items=60, shoppers=40, width=16, seed=0):
    """A model of a random shop; categories are Kitchen and Garden in turn."""
    random = np.random.default_rng((11, seed))
    vectors = random.normal(size=(2, items, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    rows = make_interactions(items, shoppers, seed)
    own = fit_text_ease(rows.matrix(), vectors[0], 200.0)
    text = TextScorer(vectors[1], vectors[0], 0.95)
    ranker = FusedRanker.of(text, own, FusionWeights(), rows)
    curve = ClickCurve(np.array([0.0, 1.0]), np.array([0.01, 0.1, 0.4]))
    named = [
        Item(item.item_id, item.title, item.text, ("Kitchen", "Garden")[place % 2])
        for place, item in enumerate(make_catalogue(items, seed).items)
    ]
    chances = {boost: ClickChances(curve, curve) for boost in (0.0, 1.0, 2.0)}
    tail = popularity_buckets(ranker.sales).tail
    return ShopModel("Ash", SOURCE, Catalogue(tuple(named)), ranker, tail, chances, rows)
