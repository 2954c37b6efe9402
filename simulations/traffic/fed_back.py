"""Does a round that is trained on fed-back events find more of the tail than one without?

A federation of young shops, whose tables begin eight weeks before a day. For four weeks after it
purchases reach the service as events: what shoppers bought of its lists, by their preferences, and
what they bought anyway. Then the shops are imported again, which takes the purchases from the
store, and the federation trains again. Both models are asked for what the same shoppers buy in the
weeks after that, and neither may list what was bought already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.importing.feedback import FedBack, with_feedback
from client.importing.shop_import import import_shop
from client.ranking.fusion import FusedRanker
from client.recommending.shop_model import ShopModel
from client.serving.feedback.daily_rows import DAY
from client.serving.messages import MOST_EVENTS
from client.shop.dataset import MerchantData
from client.shop.histories import Histories, histories
from client.shop.splitting import SplitRule, evaluation_cases
from common.catalogue import Buckets, popularity_buckets
from common.evaluation.scorecard import evaluate_scores
from common.settings.run import RunSettings
from simulations.data.marketplace import Marketplace, make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import ShopEvaluator, make_evaluators
from simulations.federation.comparisons import Trainer
from simulations.federation.runner import Watch
from simulations.options import declared_settings
from simulations.traffic.over_http import RunningShop, four_weeks, running_shop
from simulations.traffic.visits import DAYS, draw_visits, when
from simulations.traffic.world import SOURCE, click_chances

MERCHANTS = 2
SETTINGS = MarketplaceSettings(
    merchants=MERCHANTS, min_shoppers=500, max_shoppers=500, items=500, cold_share=0.0
)
TABLES = 56 * DAY
# As the demo's: chosen for the marketplace, where a real shop has the defaults.
TRAINING = {
    "rounds": 20,
    "sif_smoothing": 0.0,
    "whitening_power": 0.8,
    "lexical_weight": 0.0,
    "rank": 8,
    "output_rank": 144,
    "learning_rate": 0.003,
    "popularity_strength": 0.2,
}
VISITS = 4.0
TAIL = "tail_recall@10"
MODELS = ("text", "served")


@dataclass(frozen=True)
class Gain:
    """Mean recall@10 of the tail over all shoppers, by model: the text alone, and what is served.

    Attributes:
        without: Trained and fitted on the tables alone.
        fed_back: On the tables and what came back.
        purchases: How many came back.
    """

    without: Mapping[str, float]
    fed_back: Mapping[str, float]
    purchases: int


@dataclass(frozen=True, eq=False)
class _Trained:
    """A federation that has trained: each shop with its text scorer and its served ranker."""

    shops: Sequence[Shop]
    evaluators: Sequence[ShopEvaluator]
    rankers: Sequence[FusedRanker]

    def model(self, place: int) -> ShopModel:
        """Return a shop's model as it is served."""
        shop, ranker = self.shops[place], self.rankers[place]
        tail = popularity_buckets(ranker.sales).tail
        return ShopModel(shop.name, SOURCE, shop.data.catalogue, ranker, tail, {}, shop.past)

    def score(self, place: int, model: str, history: Histories) -> NDArray[np.float32]:
        ranker = self.rankers[place]
        return (ranker.text if model == "text" else ranker).score(history)


def measure_gain(seed: int, folder: Path, cache: Path) -> Gain:
    """Run one federation before and after four weeks of traffic, in `folder`."""
    market = make_marketplace(SETTINGS, seed=seed)
    parts = partition_merchants(market.data, how="column", merchants=MERCHANTS, seed=seed)
    test = market.data.split_rule.test_from
    opening = test - DAYS * DAY
    rule = SplitRule("time", opening - DAYS * DAY, test)
    tables = [folder / f"tables-{place}" for place in range(MERCHANTS)]
    places = [folder / f"shop-{place}" for place in range(MERCHANTS)]
    for part, table in zip(parts, tables, strict=True):
        _write_tables(part, table, opening)

    def shops() -> list[Shop]:
        found = []
        for part, table, place in zip(parts, tables, places, strict=True):
            imported, _ = import_shop(table, None, place, name=part.name)
            later = replace(with_feedback(imported, _rows(part, test)), split_rule=rule)
            found.append(Shop.of(replace(later, catalogue_declared=True)))
        return found

    before = _train(shops(), folder / "before", cache, seed)
    clicks = click_chances(market)
    for number, part in enumerate(parts):
        random = np.random.default_rng((seed, number))
        with running_shop(before.model(number), places[number], opening) as running:
            _trade(running, market, clicks, random)
            _tell(running, _rows(part, opening, test))
    after = _train(shops(), folder / "after", cache, seed)
    came = sum(
        len(new.past) - len(old.past) for new, old in zip(after.shops, before.shops, strict=True)
    )
    buckets = [popularity_buckets(shop.past.item_counts()) for shop in before.shops]
    without, fed_back = (
        {model: _recall(one, after, buckets, model) for model in MODELS} for one in (before, after)
    )
    return Gain(without, fed_back, came)


def _train(shops: Sequence[Shop], folder: Path, cache: Path, seed: int) -> _Trained:
    shoppers = sum(shop.node_data.shopper_count for shop in shops)
    settings: RunSettings = declared_settings({"seed": seed, **TRAINING}, shoppers, len(shops))
    run = Trainer(folder, cache, settings).federated(shops, Watch())
    evaluators = make_evaluators(shops, run.basis, settings, cache)
    rankers = [one.fused(one.text(run.adapter), run.season) for one in evaluators]
    return _Trained(shops, evaluators, rankers)


def _trade(
    running: RunningShop,
    market: Marketplace,
    clicks: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    """Serve a shop's shoppers for four weeks, by `clicks` of the whole marketplace."""
    model = running.service.live.snapshot.model
    names, items = model.purchases.shopper_ids, model.catalogue.items
    everybody = {name: row for row, name in enumerate(market.data.interactions.shopper_ids)}
    rows = [everybody[name] for name in names]
    columns = [market.data.catalogue.index_of(one.item_id) for one in items]
    visits = draw_visits(len(names), VISITS, random, running.now)
    four_weeks(running, visits, clicks[np.ix_(rows, columns)], names, random)


def _tell(running: RunningShop, bought: Sequence[FedBack]) -> None:
    """Tell the service what shoppers bought without a list."""
    for start in range(0, len(bought), MOST_EVENTS):
        events = [
            {
                "event_id": f"own-{number}",
                "type": "purchase",
                "item_id": one.item_id,
                "time": when(one.time),
                "shopper_id": one.shopper_id,
                "order_id": one.order_id,
            }
            for number, one in enumerate(bought[start : start + MOST_EVENTS], start)
        ]
        running.client.post("/v1/events", json={"events": events}).raise_for_status()


def _recall(trained: _Trained, judged: _Trained, buckets: Sequence[Buckets], model: str) -> float:
    """Return the mean recall@10 of tail items over the shoppers of all shops.

    What is to be found, and what may not be listed, is that of `judged` for every model.
    """
    found = []
    for place, shop in enumerate(judged.shops):
        cases = evaluation_cases(shop.past, shop.split.test)
        past = trained.shops[place].past
        known = histories(past, cases.shoppers)

        def score(rows: slice, place: int = place, known: Histories = known) -> NDArray[np.float32]:
            return trained.score(place, model, known.take(rows))

        card = evaluate_scores(score, cases.seen, cases.relevant, buckets[place])
        found.append(card.per_shopper[TAIL])
    return float(np.nanmean(np.concatenate(found)))


def _rows(part: MerchantData, since: int, until: int | None = None) -> list[FedBack]:
    """Return the purchases of a period, each basket an order."""
    rows, items = part.interactions, part.catalogue.items
    wanted = rows.time >= since
    if until is not None:
        wanted &= rows.time < until
    return [
        FedBack(
            rows.shopper_ids[shopper],
            items[item].item_id,
            int(moment),
            f"{rows.shopper_ids[shopper]}-{basket}",
        )
        for shopper, item, moment, basket in zip(
            rows.shopper[wanted].tolist(),
            rows.item[wanted].tolist(),
            rows.time[wanted].tolist(),
            rows.basket[wanted].tolist(),
            strict=True,
        )
    ]


def _write_tables(part: MerchantData, folder: Path, until: int) -> None:
    """Write a shop's tables as they stand on a day: its first `TABLES` of trade."""
    folder.mkdir(parents=True)
    items = "".join(f"{one.item_id},{one.title}\n" for one in part.catalogue.items)
    (folder / "items.csv").write_text("item_id,title\n" + items)
    sold = "".join(
        f"{one.shopper_id},{one.item_id},{when(one.time)},{one.order_id}\n"
        for one in _rows(part, until - TABLES, until)
    )
    (folder / "events.csv").write_text("shopper_id,item_id,time,order_id\n" + sold)
