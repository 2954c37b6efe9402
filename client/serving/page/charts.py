"""Geometry of the page's figures, which its templates draw as SVG: points, no colours, no words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from client.serving.page.reach import Bin

_LEAST = 1e-9  # below it a scale would tell nothing


@dataclass(frozen=True)
class Bar:
    """A column of the sales curve, in units of the view box, and its cell below the axis."""

    x: float
    y: float
    width: float
    height: float
    bucket: str
    reached: float


@dataclass(frozen=True)
class SalesCurve:
    """The sales curve: columns from head to tail, and lines of the vertical scale.

    Attributes:
        width: Of the view box.
        height: Of the columns' part.
        bars: The columns.
        lines: (y, sales) of the lines; the scale is of square roots.
    """

    width: float
    height: float
    bars: tuple[Bar, ...]
    lines: tuple[tuple[float, float], ...]


def sales_curve(bins: Sequence[Bin], width: float = 720.0, height: float = 180.0) -> SalesCurve:
    """Return the columns of `bins`, as wide as they have items."""
    top = max((one.sales for one in bins), default=0.0) or 1.0
    total = sum(one.items for one in bins) or 1
    bars, x = [], 0.0
    for one in bins:
        wide = width * one.items / total
        tall = height * math.sqrt(one.sales / top)
        gap = min(2.0, wide / 4)
        bars.append(Bar(x, height - tall, wide - gap, tall, one.bucket, one.reached))
        x += wide
    lines = [(height - height * math.sqrt(value / top), value) for value in _round_values(top)]
    return SalesCurve(width, height, tuple(bars), tuple(lines))


@dataclass(frozen=True)
class Whisker:
    """An interval on a horizontal scale from 0 to 100, and its middle."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Scale:
    """A horizontal scale from 0 to `top`; `ticks` are values on it."""

    top: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return where a value stands, from 0 to 100."""
        return 100 * min(max(value / self.top, 0.0), 1.0)

    def whisker(self, low: float, middle: float, high: float) -> Whisker:
        """Return an interval's places."""
        return Whisker(self.at(low), self.at(middle), self.at(high))


def scale_to(values: Sequence[float]) -> Scale:
    """Return a scale whose ticks are round and whose end is at least the largest value."""
    most = max((one for one in values if math.isfinite(one)), default=0.0)
    if most < _LEAST:
        return Scale(1.0, (0.0, 0.5, 1.0))
    step = _round_step(most / 4)
    count = math.ceil(most / step - 1e-9)
    return Scale(step * count, tuple(step * place for place in range(count + 1)))


def _round_step(least: float) -> float:
    unit = 10.0 ** math.floor(math.log10(least))
    return next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= least - 1e-12)


def _round_values(top: float) -> list[float]:
    """Return up to four round numbers below `top`, spread on a scale of square roots."""
    found: list[float] = []
    for share in (0.04, 0.2, 0.5, 0.9):
        if top * share >= 1:
            unit = 10.0 ** math.floor(math.log10(top * share))
            value = math.floor(top * share / unit) * unit
            if value not in found:
                found.append(value)
    return found
