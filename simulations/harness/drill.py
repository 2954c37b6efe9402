"""How far can one merchant of eight push a federation from within the bounds? `make drill`.

One merchant lies, in each way and under each rule of aggregation, on a small synthetic marketplace:

- `label_flip`: what its shoppers buy later is exchanged at random, so that its histories predict
  the wrong items;
- `shilling`: whatever its shoppers buy later is one item of the tail, which it wants to sell.

It keeps to the protocol and to no honesty: it adds no noise, and lengthens its update until the
server's bounds for an honest one are all but reached. What is told is NDCG@10 on the honest shops'
test periods, and in what share of their lists the item is.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer
from numpy.typing import NDArray

from client.node.participant import MerchantWork
from client.shop.interactions import Interactions
from common.adapter import AdapterState, AdapterUpdate
from common.encoder.adapted_encoder import AdaptedEncoder
from common.encoder.catalogue_encoder import cached_base_model
from common.encoder.public_basis import PublicBasis
from common.federation.bounds import Framing, Part, honest_bounds
from common.files import write_atomic
from common.privacy.mechanism.noise import NoiseSource
from common.settings.run import RunSettings
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import ShopEvaluator, make_evaluators
from simulations.federation.folders import write_federation
from simulations.federation.runner import FinishedRun, Watch, run_federation
from simulations.options import declared_settings

MERCHANTS = 8
LIAR = MERCHANTS - 1
RULES = ("mean", "trimmed_mean", "median", "capped_mean")
ATTACKS = ("none", "label_flip", "shilling")
ALMOST = 0.99  # of what the bounds allow
TOP = 10
_DEMO = {"sif_smoothing": 0, "whitening_power": 0.8, "lexical_weight": 0, "rank": 8}
_MODEL = {"output_rank": 144, "learning_rate": 0.003, "popularity_strength": 0.2}


def make_shops(shoppers: int, items: int) -> list[Shop]:
    """Return eight shops of one marketplace."""
    market = make_marketplace(
        MarketplaceSettings(
            merchants=MERCHANTS, min_shoppers=shoppers, max_shoppers=shoppers, items=items
        )
    )
    parts = partition_merchants(market.data, how="column", merchants=MERCHANTS, seed=0)
    return [Shop.of(part) for part in parts]


def lied(data: Interactions, attack: str, item: int) -> Interactions:
    """Return a shop's rows with what each shopper buys in its second half exchanged."""
    counts = np.bincount(data.shopper, minlength=data.shopper_count)
    first = np.cumsum(counts) - counts
    later = np.arange(len(data)) - first[data.shopper] >= counts[data.shopper] / 2
    other = np.random.default_rng(1).permutation(data.item_count)[data.item]
    changed = other if attack == "label_flip" else np.full(len(data), item)
    items = np.where(later, changed, data.item).astype(np.int32)
    order = np.lexsort((items, data.time, data.shopper))
    return replace(
        data,
        item=items[order],
        shopper=data.shopper[order],
        time=data.time[order],
        basket=data.basket[order],
        value=data.value[order],
    )


@contextmanager
def one_liar(name: str, framing: Callable[[], Framing]) -> Iterator[None]:
    """Let the node of this name send no noise and as much as the bounds allow."""
    honest: Any = MerchantWork.train

    def train(work: MerchantWork, *arguments: Any) -> AdapterUpdate:
        if work._node.merchant != name:  # noqa: SLF001 - the liar's own node
            return honest(work, *arguments)  # type: ignore[no-any-return]  # patched
        with patch.object(NoiseSource, "gaussians", lambda _, count: np.zeros(count)):
            update: AdapterUpdate = honest(work, *arguments)
        plan, frame = arguments[2], framing()
        bounds = honest_bounds(plan, "train", frame.inner_size)
        if bounds is None:
            return update
        inner = frame.unframe(update.vector)
        longest = min(
            bounds.norm / max(float(np.linalg.norm(inner)), 1e-12),
            bounds.coordinate / max(float(np.abs(inner).max()), 1e-12),
        )
        vector = (update.vector * np.float64(ALMOST * longest)).astype(np.float32)
        # What the node says of it is checked against what it sends, so canaries are off here.
        return replace(update, vector=vector)

    with patch.object(MerchantWork, "train", train):
        yield


def run_one(
    shops: Sequence[Shop], settings: RunSettings, attack: str, item: int, cache: Path
) -> FinishedRun:
    """Train with the last shop as the liar, or honestly."""
    dealt = list(shops)
    if attack != "none":
        rows = lied(shops[LIAR].data.interactions, attack, item)
        dealt[LIAR] = Shop.of(replace(shops[LIAR].data, interactions=rows))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_federation(dealt, place / "shops", settings.plan())
        basis: list[PublicBasis] = []

        def framing() -> Framing:
            model = cached_base_model(settings.base_model)
            encoder = AdaptedEncoder(model, basis[0], settings.lora_targets)
            frames = ((one, encoder.noise_basis(name)) for name, one in encoder.trained())
            return Framing(
                [Part(tuple(one.shape), None if f is None else f.numpy()) for one, f in frames]
            )

        watch = Watch(on_basis=basis.append)
        if attack == "none":
            return run_federation(place / "shops", settings, place / "run", cache, watch)
        name = sorted(one.name for one in (place / "shops").iterdir() if one.is_dir())[LIAR]
        with one_liar(name, framing):
            return run_federation(place / "shops", settings, place / "run", cache, watch)


def measured(
    evaluators: Sequence[ShopEvaluator], adapter: AdapterState | None, item: int
) -> tuple[float, float]:
    """Return NDCG@10 over the honest shops' test shoppers, and the share of lists with the item."""
    quality: list[NDArray[np.float64]] = []
    shown: list[NDArray[np.bool_]] = []
    for one in evaluators:
        text = one.text(adapter)
        quality.append(one.evaluate(text.score).per_shopper["ndcg@10"])
        history = one._test_history  # noqa: SLF001 - the same lists as are evaluated
        top = np.argpartition(-text.score(history), TOP, axis=1)[:, :TOP]
        shown.append((top == item).any(axis=1))
    return float(np.nanmean(np.concatenate(quality))), float(np.concatenate(shown).mean())


def main(
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("out/drill.json"),
    rounds: Annotated[int, typer.Option(help="Rounds of each run.")] = 20,
    shoppers: Annotated[int, typer.Option(help="Shoppers of each shop.")] = 100,
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 400,
) -> None:
    """Run each attack under each rule and write what came of it after each run."""
    shops = make_shops(shoppers, items)
    asked = {**_DEMO, **_MODEL, "rounds": rounds, "audit_canaries": 0, "seeded_noise": True}
    base = declared_settings(asked, shoppers * MERCHANTS, MERCHANTS)
    sold = np.sum([shop.past.item_counts() for shop in shops[:LIAR]], axis=0)
    item = int(np.argsort(sold, kind="stable")[items // 4])  # of the tail, and on sale
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        place = Path(cache)
        evaluators: list[ShopEvaluator] = []
        for attack in ATTACKS:
            for rule in RULES:
                began = time.monotonic()
                settings = base.model_copy(update={"aggregation": rule})
                run = run_one(shops, settings, attack, item, place)
                if not evaluators:
                    evaluators = make_evaluators(shops[:LIAR], run.basis, settings, place)
                    quality, share = measured(evaluators, None, item)
                    found.append({"attack": "frozen text", "ndcg@10": quality, "share": share})
                quality, share = measured(evaluators, run.adapter, item)
                lost = sum(record.failures for record in run.history)
                told = {"attack": attack, "rule": rule, "ndcg@10": quality, "share": share}
                found.append({**told, "refused": lost, "seconds": time.monotonic() - began})
                write_atomic(out, json.dumps(found, indent=1).encode())
                typer.echo(json.dumps(found[-1]))


if __name__ == "__main__":
    typer.run(main)
