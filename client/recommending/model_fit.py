"""Fit a shop's model: the one place where a release meets the shop's own purchases.

What is heavy is loaded here: whoever only reads a model imports no language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.ranking.purchase_probability import fit_chances, pairs_of
from client.ranking.released_vectors import ReleasedVectors, released_vectors
from client.ranking.season import released_season
from client.ranking.shop_fit import ShopFit
from client.recommending.model_history import MOST_KEPT, keep_shop_model, release_of, source_of
from client.recommending.new_items import with_new_items
from client.recommending.shop_model import (
    ModelSource,
    ShopModel,
    load_shop_model,
    read_manifest,
)
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.splitting import evaluation_cases, split_interactions
from common.catalogue import Catalogue, Item, popularity_buckets
from common.errors import InputError, ReleaseError
from common.identity.signing_key import PublicKey
from common.release.parent import check_same_adapter, trained_digest
from common.release.verify import VerifiedRelease, verify_release

BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0)  # tail boosts that a kept model has click curves for


def fit_shop_model(
    release: VerifiedRelease,
    data: MerchantData,
    cache: Path,
    new_items: Sequence[Item] = (),
    *,
    boosts: Sequence[float] = BOOSTS,
    source: ModelSource | None = None,
) -> ShopModel:
    """Encode the catalogue, or find it in `cache`, and fit what is the merchant's own.

    `ShopFit` makes the ranker. Nothing of it leaves this machine. A shop that has not trained, or
    has hardly sold, ranks with the release as it is.

    Args:
        release: Verified.
        data: The merchant's own.
        cache: Folder of encoded catalogues.
        new_items: Items that came after the import.
        boosts: Tail boosts to fit click curves for.
        source: What the model says it was made of, if it is to be kept.

    Raises:
        ReleaseError: if the base model at hand is not the release's.
        InputError: if a boost is not in [0, 2], or a new item is in the catalogue already.
    """
    vectors = released_vectors(release, data.catalogue, cache)
    if new_items:
        old, new = data.catalogue, Catalogue(tuple(new_items))
        data = with_new_items(data, new_items)
        parts = [(old, vectors), (new, released_vectors(release, new, cache))]
        vectors = _in_one_order(parts, data)
    split = split_interactions(data.interactions, data.split_rule)
    cases = evaluation_cases(split.train, split.valid)
    fit = ShopFit(split.train, cases, data.interactions, vectors.frozen)
    early, ranker = fit.fit(vectors.adapted, vectors.decay, vectors.season)
    tail = popularity_buckets(early.sales).tail
    chances = {}
    for boost in boosts:
        boosted = early.with_weights(early.weights.boosted(boost))
        if len(cases):
            found = fit_chances(pairs_of(boosted.score, split.train, cases, tail))
            if found is not None:
                chances[boost] = found
    return ShopModel(data.name, source, data.catalogue, ranker, tail, chances, data.interactions)


@dataclass(frozen=True)
class Fitted:
    """What a fit left.

    Attributes:
        digest: The model's.
        release: Its release's version.
        items: How many it ranks.
        season_alone: Whether the season is all that is new in it.
        season_counts: How much of its release's season counts, by noise and age, 0 to 1; None where
            the release has none, or the shop no clock.
    """

    digest: str
    release: str
    items: int
    season_alone: bool = False
    season_counts: float | None = None


def fit_and_keep(
    release: Path, key: Path, shop: Path, folder: Path, cache: Path, *, most: int = MOST_KEPT
) -> Fitted:
    """Verify a release, fit the shop with it and make the model the one that serves.

    A refresh changes the season and nothing else. So where the model that serves was fitted with
    the same adapter, data and code, its season is exchanged and it is not fitted anew.

    Args:
        release: The release's folder.
        key: The operator's public key.
        shop: The shop's folder.
        folder: The models' folder.
        cache: Folder of encodings.
        most: How many models stay, see `keep_shop_model`.

    Raises:
        FedtailError: as `verify_release`, `load_merchant_data`, `fit_shop_model` and
            `keep_shop_model`; also if a refresh has something else than the release whose adapter
            it says it keeps, and that is here.
    """
    trusted = PublicKey.load(key)
    verified = verify_release(release, trusted)
    source = source_of(verified, shop)
    model = refreshed_model(verified, release, trusted, source, folder)
    alone = model is not None
    if model is None:
        model = fit_shop_model(verified, load_merchant_data(shop), cache, source=source)
    digest = keep_shop_model(model, folder, release, most)
    known = verified.season is not None and model.purchases.timed
    counts = model.ranker.season.federated.reliability if known else None
    return Fitted(
        digest, source.release, len(model.catalogue), season_alone=alone, season_counts=counts
    )


def refreshed_model(
    release: VerifiedRelease, place: Path, trusted: PublicKey, source: ModelSource, folder: Path
) -> ShopModel | None:
    """Return the model in `folder` with the season of `release`; None if that is not enough.

    It is enough if `release` is a refresh, and the model was fitted on the same data by the same
    code, with the release that this one refreshes, or another refresh of it. Weights and click
    curves stay: they were fitted on periods of the past, of which a fresh season says nothing.

    Args:
        release: Verified.
        place: Where it lies.
        trusted: The operator's key.
        source: What a model of it is made of.
        folder: The models' folder.

    Raises:
        ReleaseError: if the model's own release, or its parent, is not what `release` keeps.
        InputError: if a file of the model was altered.
    """
    season = release.season
    if release.manifest.privacy.privacy_plan.trains or season is None:
        return None
    try:
        held = read_manifest(folder)[0].source
        before = release_of(held, folder, place, trusted)
    except (OSError, InputError, ReleaseError):
        return None  # nothing was fitted, or its release is gone
    same = (held.data_digest, held.code_digest) == (source.data_digest, source.code_digest)
    if not same or trained_digest(before.manifest) != trained_digest(release.manifest):
        return None
    check_same_adapter(release, before)
    model = load_shop_model(folder)
    known = model.ranker.season
    if model.purchases.timed:
        candidates = model.ranker.text.candidate_vectors
        fresh = released_season(model.purchases, candidates, season.latest)
        known = replace(known, federated=fresh)
    return replace(model, source=source, ranker=replace(model.ranker, season=known), digest="")


def _in_one_order(
    parts: Sequence[tuple[Catalogue, ReleasedVectors]], data: MerchantData
) -> ReleasedVectors:
    """Return the vectors of several catalogues by the index of `data`, which holds them all."""
    width = parts[0][1].frozen.shape[1]
    adapted, frozen = (np.empty((len(data.catalogue), width), np.float32) for _ in range(2))
    for catalogue, vectors in parts:
        places = [data.catalogue.index_of(item.item_id) for item in catalogue.items]
        adapted[places], frozen[places] = vectors.adapted, vectors.frozen
    return replace(parts[0][1], adapted=adapted, frozen=frozen)
