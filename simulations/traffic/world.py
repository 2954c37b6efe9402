"""A shop whose shoppers' preferences are known, and its fitted model, without a language model.

The shop is one merchant of the synthetic marketplace. An item's frozen vector says the facets of
its title, all alike; the adapted one weighs them nearer to how shoppers do. The release ranks by
text alone, as a shop without sales would: the shop's own list, from 2,500 shoppers' purchases,
gets a fifth more clicks and shows far less of the tail. So which arm is better, and what it costs,
is known. How probably a shopper clicks on an item follows from the marketplace's true utilities.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import TEXT_ALONE
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import TextScorer
from client.recommending.shop_model import ModelSource, ShopModel
from common.catalogue import popularity_buckets
from simulations.data.marketplace import Marketplace, make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.shop import Shop
from simulations.data.titles import FAMILIES, MATERIALS, STYLE_WORDS, STYLES

SETTINGS = MarketplaceSettings(
    merchants=1,
    min_shoppers=2500,
    max_shoppers=2500,
    items=600,
    min_interactions=4,
    max_interactions=8,
    trend_strength=0.2,
    style_strength=5.0,
)
SOURCE = ModelSource(
    release="simulated", release_digest="a" * 64, data_digest="b" * 64, code_digest="c" * 64
)
_LEAST_CLICK, _MOST_CLICK = 0.02, 0.4  # chances for what a shopper minds and loves
_PICKY = 1.5  # how fast the chance grows with the standardised utility
_USUAL = 2.0  # the standardised utility at which it is halfway
_WIDTH = 48
_L2 = 200.0
_FACETS = {"style": STYLES, "word": STYLE_WORDS, "family": FAMILIES, "material": MATERIALS}
_ADAPTED = {"style": 3.0, "word": 1.0, "family": 0.3, "material": 0.3}


@dataclass(frozen=True, eq=False)
class World:
    """A shop and the truth behind it.

    Attributes:
        model: As a fit would make it.
        clicks: float64 [shoppers, items], how probably each clicks on an item that is shown.
    """

    model: ShopModel
    clicks: NDArray[np.float64]


def make_world(seed: int, settings: MarketplaceSettings = SETTINGS) -> World:
    """Make a shop of one merchant; the same seed gives the same shop."""
    market = make_marketplace(settings, seed=seed)
    data = market.data
    past = Shop.of(data).past
    frozen, adapted = _vectors(market, seed)
    own = fit_text_ease(past.matrix(), frozen, _L2)
    ranker = FusedRanker.of(TextScorer(adapted, frozen, 0.95), own, TEXT_ALONE, past)
    tail = popularity_buckets(ranker.sales).tail
    model = ShopModel("Simulated shop", SOURCE, data.catalogue, ranker, tail, {}, past)
    return World(model, click_chances(market))


def click_chances(market: Marketplace) -> NDArray[np.float64]:
    """Return how probably each shopper clicks on an item that is shown: [shoppers, items]."""
    liking = market.affinity(np.arange(market.data.interactions.shopper_count)).astype(np.float64)
    liking -= liking.mean(axis=1, keepdims=True)
    liking /= liking.std(axis=1, keepdims=True)
    chances = _LEAST_CLICK + (_MOST_CLICK - _LEAST_CLICK) * expit(_PICKY * (liking - _USUAL))
    return np.asarray(chances)


def _vectors(market: Marketplace, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return frozen and adapted vectors: float32 unit [items, d] each."""
    random = np.random.default_rng((seed, 1))
    items = len(market.data.catalogue)
    frozen, adapted = (np.zeros((items, _WIDTH)) for _ in range(2))
    for facet, values in _FACETS.items():
        directions = random.standard_normal((len(values) + 1, _WIDTH))
        directions[-1] = 0  # a title without that facet: ABSENT, -1
        said = directions[getattr(market.products, facet)]
        frozen += said
        adapted += _ADAPTED[facet] * said
    one, other = (
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        for vectors in (frozen, adapted)
    )
    return one, other
