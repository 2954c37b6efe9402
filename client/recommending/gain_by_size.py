"""What joining brought to simulated shops by their size: a file that a release may carry.

It is there only where the shoppers it was measured on are made up or public by declaration.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError
from rich.markup import escape
from rich.table import Table

from client.shop.dataset import MerchantData
from common.errors import ReleaseError
from common.record import Record, first_problem

GAIN_FILE: Final = "gain-by-size.json"  # in a release's folder
_NATURE: Final = {"simulated": "made-up shops", "public": "shops of public data"}


class Gain(Record):
    """A difference of means over test shoppers, and its paired 95% interval; null is undefined."""

    mean: float | None
    low: float | None
    high: float | None


class SizeGain(Record):
    """What joining brought to shops of about one size.

    Attributes:
        size: About how many shoppers they had: 10, 30, 100, 300, 1,000, ...
        merchants: How many shops they were.
        cases: Their test shoppers.
        alone: The best that these shops have without others, of several on the same test.
        ndcg: NDCG@10 of the release, fused, minus that.
        tail_recall: Tail recall@10 likewise.
    """

    size: int = Field(ge=1)
    merchants: int = Field(ge=1)
    cases: int = Field(ge=0)
    alone: str = Field(max_length=60)
    ndcg: Gain
    tail_recall: Gain


class GainBySize(Record):
    """The file.

    Attributes:
        measured_on: Made-up shoppers, or such as are public by declaration.
        sizes: The smallest first.
    """

    measured_on: Literal["simulated", "public"]
    sizes: tuple[SizeGain, ...] = Field(min_length=1)

    def at(self, shoppers: int) -> SizeGain:
        """Return the size that is nearest to so many shoppers, by ratio."""
        return min(self.sizes, key=lambda one: abs(math.log(max(shoppers, 1) / one.size)))


def read_gain_by_size(files: Mapping[str, bytes]) -> GainBySize | None:
    """Return what a verified release's files say of it; None where it says nothing.

    Raises:
        ReleaseError: if the file is not one of this version.
    """
    if GAIN_FILE not in files:
        return None
    try:
        return GainBySize.model_validate_json(files[GAIN_FILE])
    except ValidationError as error:
        raise ReleaseError(
            f"{GAIN_FILE} of the release is not one of this version: {first_problem(error)}.",
            field="release",
        ) from None


def shoppers_of(data: MerchantData) -> int:
    """Return how many shoppers have bought anything."""
    return int((data.interactions.matrix().getnnz(axis=1) > 0).sum())


def gain_table(found: GainBySize, shoppers: int) -> Table:
    """Return what joining brought by size, the shop's own size marked."""
    mine = found.at(shoppers)
    table = Table(
        title=f"What joining brought by size, to {_NATURE[found.measured_on]}",
        caption=f"In the simulation that made this release. This shop has {shoppers:,} shoppers. "
        "Minus the best that shops of the size had alone, on the same test; 95% intervals. "
        "Yours may gain more or less.",
        box=None, pad_edge=False, title_justify="left", title_style="bold",
        caption_justify="left",
    )  # fmt: skip
    for heading in ("shoppers", "shops"):
        table.add_column(heading, justify="right")
    table.add_column("best alone")
    for heading in ("NDCG@10", "tail recall@10"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.sizes:
        mark = "→ " if one is mine else ""
        cells = (f"{mark}about {one.size:,}", f"{one.merchants:,}", escape(one.alone))
        table.add_row(*cells, _cell(one.ndcg), _cell(one.tail_recall))
    return table


def gain_json(found: GainBySize | None, shoppers: int) -> dict[str, Any] | None:
    """Return the same for a program; null where the release says nothing of it."""
    if found is None:
        return None
    whole: dict[str, Any] = json.loads(found.model_dump_json())
    return {"shoppers": shoppers, "nearest_size": found.at(shoppers).size, **whole}


def _cell(gain: Gain) -> str:
    if gain.mean is None:
        return "undefined"
    ends = (
        ""
        if gain.low is None or gain.high is None
        else f"\n[dim]{gain.low:+.4f} to {gain.high:+.4f}[/dim]"
    )
    return f"{gain.mean:+.4f}{ends}"
