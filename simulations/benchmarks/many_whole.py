"""A simulated federation of many small merchants: python -m ... MERCHANTS ROUNDS FOLDER."""

import sys
from pathlib import Path

from common.settings.run import RunSettings
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.runner import run_federation

SHOPPERS = 30  # of a merchant
ITEMS = 500
ROWS = (5, 15)  # of a shopper, fewest and most
LARGEST = 10_000  # shoppers that the marketplace makes for one of its own merchants


def run_many(merchants: int, rounds: int, folder: Path) -> None:
    """Deal made-up shoppers to merchants of one catalogue, and train together.

    Each has noise of its own. Nothing is evaluated: who trains is measured, not what comes of it.

    Args:
        merchants: How many.
        rounds: Of the run.
        folder: For all that is written: some 2 MB a merchant.
    """
    shoppers = merchants * SHOPPERS
    makers = -(-shoppers // LARGEST)
    each = -(-shoppers // makers)
    data = make_marketplace(
        MarketplaceSettings(
            merchants=makers,
            min_shoppers=each,
            max_shoppers=each,
            items=ITEMS,
            min_interactions=ROWS[0],
            max_interactions=ROWS[1],
        ),
        seed=0,
    ).data
    settings = RunSettings(rounds=rounds, min_merchants=merchants, noise="local")
    parts = partition_merchants(data, how="random", merchants=merchants, seed=0)
    write_federation([Shop.of(part) for part in parts], folder / "merchants", settings.plan())
    run_federation(folder / "merchants", settings, folder / "run", folder / "cache")


if __name__ == "__main__":
    run_many(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
