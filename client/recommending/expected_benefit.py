"""What a shop that cannot be judged yet may expect: what simulated shops got with so many orders.

The numbers come with the package. `simulations/results_page/orders_curve.py` measured them on real
data, on merchants that had no part in the release; `fedtail client benefit` shows them to a shop
that has too few purchases to be measured on its own.

A release may carry the gain by size of the simulation that made it. It is there only where the
shoppers it was measured on are made up or public by declaration.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from client.shop.dataset import MerchantData
from client.shop.splitting import MIN_SHOPPERS, evaluation_cases, split_interactions
from common.errors import ReleaseError
from common.record import Record, first_problem

CURVES_FILE = "orders_curves.json"  # beside this module
GAIN_FILE: Final = "gain-by-size.json"  # in a release's folder
_NATURE: Final = {"simulated": "made-up shops", "public": "shops of public data"}


class Share(Record):
    """A mean over shoppers, its 95% interval, and the lowest and highest of the shops.

    Attributes:
        mean: Over the shoppers of all shops.
        low: Of a bootstrap over these shoppers: it answers for other shoppers of the same shops.
        high: Likewise.
        worst_shop: The lowest mean of a shop.
        best_shop: The highest.
    """

    mean: float
    low: float
    high: float
    worst_shop: float
    best_shop: float


class ExpectedBenefit(Record):
    """What shops got that knew so many orders.

    Attributes:
        orders: How many the shop learnt from; 0 is a shop that opens today.
        found: Of what a shopper then bought, the share that a list of ten held; with the release.
        found_in_tail: The same of items outside the best-selling fifth.
        best_sellers_found: The same as `found` for a list of the shop's best sellers.
        own_model_found: The same for the shop's own EASE.
        own_model_found_in_tail: As `found_in_tail`, for the shop's own EASE.
    """

    orders: int = Field(ge=0)
    found: Share
    found_in_tail: Share
    best_sellers_found: Share
    own_model_found: Share
    own_model_found_in_tail: Share


class OrdersCurve(Record):
    """One data set's curve.

    Attributes:
        data: Its name, as in docs/ref-results.md.
        shops: How many simulated shops, all without a part in the release.
        shoppers: Who were ranked for, a shopper of two seeds' shops counted twice.
        items: In the catalogue.
        merchants: How many trained the release.
        epsilon: Of each of these.
        points: By number of orders, the fewest first.
    """

    data: str
    shops: int = Field(ge=1)
    shoppers: int = Field(ge=1)
    items: int = Field(ge=1)
    merchants: int = Field(ge=1)
    epsilon: float = Field(gt=0)
    points: tuple[ExpectedBenefit, ...] = Field(min_length=1)

    def at(self, orders: int) -> ExpectedBenefit:
        """Return the last point with at most so many orders: nothing is read between two points."""
        reached = [point for point in self.points if point.orders <= orders]
        return reached[-1] if reached else self.points[0]


class _Curves(Record):
    curves: tuple[OrdersCurve, ...]


@cache
def expected_by_orders() -> tuple[OrdersCurve, ...]:
    """Return what shops got by how many orders they had, a curve for each data set.

    No shop is promised any of it: another catalogue's titles may tell more, or less.
    """
    content = (files("client.recommending") / CURVES_FILE).read_bytes()
    return _Curves.model_validate_json(content).curves


def can_be_measured(data: MerchantData) -> bool:
    """Whether two shoppers or more bought something new in the shop's validation period."""
    split = split_interactions(data.interactions, data.split_rule)
    return len(evaluation_cases(split.train, split.valid)) >= MIN_SHOPPERS


def count_orders(data: MerchantData) -> int:
    """Return how many orders the shop's data has."""
    rows = data.interactions
    return len(np.unique(np.stack([rows.shopper, rows.basket]), axis=1).T)


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
        table.add_row(*cells, _gain_cell(one.ndcg), _gain_cell(one.tail_recall))
    return table


def gain_json(found: GainBySize | None, shoppers: int) -> dict[str, Any] | None:
    """Return the same for a program; null where the release says nothing of it."""
    if found is None:
        return None
    whole: dict[str, Any] = json.loads(found.model_dump_json())
    return {"shoppers": shoppers, "nearest_size": found.at(shoppers).size, **whole}


def _gain_cell(gain: Gain) -> str:
    if gain.mean is None:
        return "undefined"
    ends = (
        ""
        if gain.low is None or gain.high is None
        else f"\n[dim]{gain.low:+.4f} to {gain.high:+.4f}[/dim]"
    )
    return f"{gain.mean:+.4f}{ends}"


def expected_json(
    orders: int, release: str, by_size: GainBySize | None = None, shoppers: int = 0
) -> str:
    """Return what `expected_page` shows, as JSON, and what the release says of shops by size."""
    curves = [curve.model_dump(mode="json") for curve in expected_by_orders()]
    document = {
        "release": release,
        "verdict": "cannot tell",
        "orders": orders,
        "expected": curves,
        "by_size": gain_json(by_size, shoppers),
    }
    return json.dumps(document, indent=2, allow_nan=False)


def curves_json(curves: Sequence[OrdersCurve]) -> bytes:
    """Return the package's file of curves."""
    return _Curves(curves=tuple(curves)).model_dump_json(indent=1).encode() + b"\n"


def expected_page(orders: int) -> RenderableType:
    """Return tables of the curves, for a shop that has so many orders and cannot be judged yet."""
    verdict = (
        f"[bold]Verdict: cannot tell yet[/bold]. {orders:,} orders are too few to measure a "
        "release on this shop's own shoppers: two must have bought again in the validation period, "
        "and fifty for a verdict.\n\n"
        "What simulated shops got that had no part in the release, by how many orders they had. "
        "Of what a shopper bought next, the share that was in a list of ten:"
    )
    parts: list[RenderableType] = [verdict]
    for curve in expected_by_orders():
        parts += ["", _curve_table(curve)]
    parts.append(
        "\n[dim]95% intervals over shoppers; in the second lines the worst and the best shop. The "
        "shopper's own purchases were told with each request. Other titles may tell more or "
        "less: it promises nothing.[/dim]"
    )
    return Group(*parts)


def _curve_table(curve: OrdersCurve) -> Table:
    title = (
        f"{curve.data}: {curve.shops} shops, {curve.shoppers:,} shoppers, {curve.items:,} items; "
        f"release of {curve.merchants} others at ε = {curve.epsilon:g}"
    )
    table = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.add_column("orders", justify="right")
    for heading in ("with the release", "in the tail", "own EASE", "in the tail", "best sellers"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in curve.points:
        shares = (
            point.found,
            point.found_in_tail,
            point.own_model_found,
            point.own_model_found_in_tail,
            point.best_sellers_found,
        )
        table.add_row(f"{point.orders:,}", *map(_cell, shares))
    return table


def _cell(share: Share) -> str:
    return (
        f"{share.mean:.1%} ({share.low:.1%}–{share.high:.1%})\n"
        f"[dim]{share.worst_shop:.1%} to {share.best_shop:.1%}[/dim]"
    )
