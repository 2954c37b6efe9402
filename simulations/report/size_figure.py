"""What joining brings against a merchant's size, drawn."""

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes

from simulations.report.svg import AMBER, GREY, LIGHT_TEAL, STYLE, TEAL, Picture, canvas, picture
from simulations.report.terminal import label_of, size_words
from simulations.results.measures import METRICS, SPREAD_METRICS, Difference, SpreadMetric
from simulations.results.sections import SizeGains

_LOOKS: Final = {
    "fused": (TEAL, "o"),
    "adapter": (LIGHT_TEAL, "D"),
    "fused_season": (AMBER, "^"),
}
_OTHER: Final = (GREY, "s")
_APART: Final = 0.12  # between the marks of one size


def size_figure(sizes: Sequence[SizeGains]) -> Picture | None:
    """Draw the gain over the best alone by size, overall and in the tail; None without a size.

    A mark is a mean over the test shoppers of all merchants of about that size, the line its paired
    95% interval.
    """
    if not sizes:
        return None
    with mpl.rc_context(STYLE):
        figure, _ = canvas(9.0, 5.4, rows=len(SPREAD_METRICS))
        for axes, metric in zip(figure.axes, SPREAD_METRICS, strict=True):
            _gains(axes, sizes, metric)
        last = figure.axes[-1]
        last.set_xticks(range(len(sizes)), [size_words(one) for one in sizes])
        last.set_xlabel("shoppers of a merchant, about")
        figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
        return picture(figure, "gain-by-size", "What joining brings, by size", _told(sizes))


def _gains(axes: Axes, sizes: Sequence[SizeGains], metric: SpreadMetric) -> None:
    models = joined_models(sizes)
    axes.axhline(0, color=GREY, linewidth=1.2, linestyle="--")
    for number, model in enumerate(models):
        colour, marker = _LOOKS.get(model, _OTHER)
        shift = _APART * (number - (len(models) - 1) / 2)
        found = [(place + shift, gain_of(one, model, metric)) for place, one in enumerate(sizes)]
        known = [(x, one) for x, one in found if one is not None and one.mean is not None]
        axes.plot(
            [x for x, _ in known], [one.mean or 0.0 for _, one in known],
            marker, color=colour, markersize=7, label=label_of(model),
        )  # fmt: skip
        for x, one in known:
            if one.low is not None and one.high is not None:
                axes.vlines(x, one.low, one.high, color=colour, linewidth=1.6)
    axes.set_title(f"{METRICS[metric]}, minus the best alone at that size")
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.grid(axis="y")


def joined_models(sizes: Sequence[SizeGains]) -> list[str]:
    """Return the joined models, in the order of the first size."""
    return list(dict.fromkeys(one.model for size in sizes for one in size.gains))


def gain_of(size: SizeGains, model: str, metric: SpreadMetric) -> Difference | None:
    """Return what a model brings at a size, None where it was not measured."""
    found = (one for one in size.gains if (one.model, one.metric) == (model, metric))
    return next(found, None)


def _told(sizes: Sequence[SizeGains]) -> str:
    parts = []
    for size in sizes:
        gains = [
            f"{label_of(one.model)} {one.mean:+.4f}"
            for one in size.gains
            if one.metric == "ndcg@10" and one.mean is not None
        ]
        shops = "1 merchant" if size.merchants == 1 else f"{size.merchants} merchants"
        against = label_of(size.alone)
        parts.append(f"{shops} of about {size_words(size)}: {', '.join(gains)} over {against}")
    return f"NDCG@10 minus the best alone. {'; '.join(parts)}."
