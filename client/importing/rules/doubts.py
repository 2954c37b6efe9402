"""What looks wrong and cannot be known to be: said at import, and nothing is changed by it."""

import polars as pl

from client.importing.quality_report import Doubt
from client.importing.rules.ids import differing_by_form
from client.shop.dataset import MerchantData
from client.shop.splitting import require_enough, split_interactions
from common.errors import InputError

_C1 = "[\x80-\x84\x86-\x9f]"  # U+0085 is a line end of some mainframes
_SHARED = r"(?i)^(?:guest|anonymous|anon|walk-?in|no-?reply|noreply|test)(?:@.*)?$"
_LARGE_SHARE = 0.2  # of all purchases, past which one shopper is hardly one person
_FEW = 20  # purchases below which a share says nothing


def doubts(
    raw_items: pl.DataFrame, items: pl.DataFrame, events: pl.DataFrame, data: MerchantData
) -> list[Doubt]:
    """Return what to look at in an import.

    Args:
        raw_items: item_id, title and text as they were read.
        items: The same, clean.
        events: The clean events.
        data: What they became.
    """
    found = [_controls(raw_items), _too_few(data), *_accounts(events)]
    for what, ids in (("shopper", events["shopper_id"]), ("item", items["item_id"])):
        count, examples = differing_by_form(ids)
        text = (
            f"{count} {what} ids differ from another only by case, leading zeros, spaces or marks. "
            "They were kept apart; if they are one, write them alike."
        )
        found.append(Doubt(text, tuple(examples)) if count else None)
    return [doubt for doubt in found if doubt is not None]


def _controls(items: pl.DataFrame) -> Doubt | None:
    bad = items.select(pl.any_horizontal(pl.col("title", "text").str.contains(_C1))).to_series()
    count = int(bad.fill_null(value=False).sum())
    if not count:
        return None
    return Doubt(
        f"{count} rows of items hold control characters of the C1 range, as text of cp1252 does "
        'when it is read as latin-1: dashes, quotes and € were lost. Set encoding = "cp1252".'
    )


def _too_few(data: MerchantData) -> Doubt | None:
    try:
        require_enough(split_interactions(data.interactions, data.split_rule))
    except InputError as error:
        return Doubt(f"A run will be refused. {error}")
    return None


def _accounts(events: pl.DataFrame) -> list[Doubt | None]:
    """Ids that stand for many people: as one shopper, all of them share one privacy unit."""
    counts = events.group_by("shopper_id").agg(pl.len().alias("rows"))
    counts = counts.with_columns(pl.col("shopper_id").cast(pl.String))
    named = counts.filter(pl.col("shopper_id").str.contains(_SHARED))["shopper_id"].sort()
    large = counts.filter(pl.col("rows") > max(_FEW, _LARGE_SHARE * events.height))["shopper_id"]
    text = "look like accounts that many people share, such as guests; leave their rows out."
    return [
        Doubt(f"{len(named)} shopper ids {text}", tuple(map(repr, named[:3])))
        if len(named)
        else None,
        Doubt(
            f"{len(large)} shopper ids have more than {_LARGE_SHARE:.0%} of all purchases each, "
            "which is much for one person.",
            tuple(map(repr, large.sort()[:3])),
        )
        if len(large) and counts.height > 1
        else None,
    ]
