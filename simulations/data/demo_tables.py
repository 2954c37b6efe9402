"""Tables of three made-up shops, as a merchant's own system exports them: for the tutorial."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.shop.dataset import MerchantData
from common.errors import InputError
from common.files import write_atomic
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants

SHOPS = ("a", "b", "c")
SIZE = MarketplaceSettings(merchants=3, min_shoppers=80, max_shoppers=110, items=240)
_EXPERIMENT = """\
catalogues = ["shop-a.jsonl", "shop-b.jsonl", "shop-c.jsonl"]

[settings]
rounds = 5
size_bracket = 50
min_merchants = 3
"""


def write_demo(out: Path, seed: int = 0) -> list[Path]:
    """Write `tables-a`, `-b` and `-c` with items and purchases, and `first.toml`, into `out`.

    Raises:
        InputError: if one of them is there already.
    """
    made = [out / f"tables-{name}" for name in SHOPS]
    experiment = out / "first.toml"
    for path in (*made, experiment):
        if path.exists():
            raise InputError(f"{path} is there already; name another folder.", field="out")
    data = make_marketplace(SIZE, seed=seed).data
    for folder, part in zip(
        made, partition_merchants(data, how="column", seed=seed, merchants=3), strict=True
    ):
        write_atomic(folder / "items.csv", _items(part))
        write_atomic(folder / "purchases.csv", _purchases(part))
    write_atomic(experiment, _EXPERIMENT.encode())
    return [*made, experiment]


def _items(data: MerchantData) -> bytes:
    rows = [(item.item_id, item.title) for item in data.catalogue.items]
    return _csv(("item_id", "title"), rows)


def _purchases(data: MerchantData) -> bytes:
    events = data.interactions
    rows = [
        (
            events.shopper_ids[shopper],
            data.catalogue.items[item].item_id,
            datetime.fromtimestamp(time / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        )
        for shopper, item, time in zip(events.shopper, events.item, events.time, strict=True)
    ]
    return _csv(("shopper_id", "item_id", "time"), rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
