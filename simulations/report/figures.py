"""The report's figures: what is drawn, and the sentence that says the same in words.

Colours are told apart by lightness as well as hue, and each mark is also labelled or shaped.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from simulations.report.svg import (
    AMBER,
    GREY,
    INK,
    LIGHT_TEAL,
    RULE,
    STYLE,
    TEAL,
    Picture,
    canvas,
    picture,
)
from simulations.report.terminal import label_of, ordered_models
from simulations.results.measures import METRICS, Metric, SpreadMetric
from simulations.results.schema import PopularityCurve, Results

_ACCENT: Final[Mapping[str, str]] = {"fused": TEAL, "adapter": LIGHT_TEAL}


def metric_bars(results: Results, metric: Metric) -> Picture:
    """Draw one metric as a bar for each model, with its interval where there is one."""
    models = ordered_models(results.metrics)
    values = [results.metrics[model][metric] for model in models]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(3.8, 0.45 + 0.3 * len(models))
        for place, (model, value) in enumerate(zip(models, values, strict=True)):
            if value is not None:
                axes.barh(place, value, height=0.56, color=_ACCENT.get(model, GREY))
            high = _whisker(axes, results, model, metric, place) or value or 0.0
            text = "undefined" if value is None else f"{value:.4f}"
            axes.annotate(text, (high, place), (5, 0), textcoords="offset points", va="center")
        _label_rows(axes, [label_of(model) for model in models])
        axes.set_xlim(0, 1.28 * max([*_highs(results, metric), 1e-6]))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        title = METRICS[metric]
        told = "; ".join(
            f"{label_of(model)} " + ("undefined" if value is None else f"{value:.4f}")
            for model, value in zip(models, values, strict=True)
        )
        return picture(figure, f"bars-{metric}", title, f"{title} by model: {told}.")


def accuracy_by_round(results: Results) -> Picture | None:
    """Draw both validation metrics by round, or nothing if they were not measured.

    Each has its own scale, which need not start at zero: what counts is the way it goes.
    """
    ndcg = [(one.round, one.ndcg) for one in results.rounds if one.ndcg is not None]
    tail = [(one.round, one.tail_recall) for one in results.rounds if one.tail_recall is not None]
    measured = (("ndcg@10", TEAL, ndcg), ("tail_recall@10", AMBER, tail))
    lines = [(METRICS[metric], colour, points) for metric, colour, points in measured if points]
    if not lines:
        return None
    told = []
    with mpl.rc_context(STYLE):
        figure, _ = canvas(5.6, 1.7 + 1.15 * (len(lines) - 1), rows=len(lines))
        for axes, (name, colour, points) in zip(figure.axes, lines, strict=True):
            rounds, values = zip(*points, strict=True)
            axes.plot(rounds, values, color=colour, linewidth=2)
            axes.plot(rounds[-1:], values[-1:], "o", color=colour, clip_on=False)
            axes.set_title(f"{name}, last {values[-1]:.4f}", color=colour, fontsize=10.5)
            axes.margins(y=0.18)
            _time_axes(axes, ticks=3)
            told.append(
                f"{name} from {values[0]:.4f} in round {rounds[0]} to {values[-1]:.4f} in round "
                f"{rounds[-1]}"
            )
        for axes in figure.axes[:-1]:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
        told_all = "; ".join(told)
        return picture(figure, "accuracy", "Accuracy on the validation period", f"{told_all}.")


def epsilon_by_round(results: Results) -> Picture | None:
    """Draw the largest epsilon of any merchant by round, or nothing without a guarantee."""
    points = [(one.round, one.epsilon) for one in results.rounds if one.epsilon is not None]
    if not points:
        return None
    rounds, spent = zip(*points, strict=True)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(5.6, 2.85)
        axes.fill_between(rounds, spent, step="post", color=LIGHT_TEAL, alpha=0.16, linewidth=0)
        axes.step(rounds, spent, where="post", color=TEAL, linewidth=2)
        axes.plot(rounds[-1:], spent[-1:], "o", color=TEAL)
        axes.annotate(
            f"ε = {spent[-1]:.2f}",
            (rounds[-1], spent[-1]),
            (0, 9),
            textcoords="offset points",
            ha="right",
            color=TEAL,
        )
        axes.set_ylim(0, 1.22 * max(*spent, 1e-6))
        _time_axes(axes, ticks=5)
        told = f"ε grows from {spent[0]:.2f} in round {rounds[0]} to {spent[-1]:.2f}."
        return picture(figure, "epsilon", "ε spent, largest of any merchant", told)


_MOST_MERCHANTS: Final = 64
_SPREAD: Final = (  # model, colour, marker, filled, size
    ("adapter", LIGHT_TEAL, "D", True, 6),
    ("fused", TEAL, "o", True, 8),
    ("local_ease", AMBER, "o", False, 10),  # a ring, drawn last, so that it hides nothing
)


def merchant_spread(results: Results, metric: SpreadMetric) -> Picture:
    """Draw each merchant as a row with a mark for local EASE, the adapter and the fused model."""
    merchants = sorted(
        results.merchants,
        key=lambda one: one.metrics.get("fused", {}).get("ndcg@10") or 0.0,
        reverse=True,
    )
    if len(merchants) > _MOST_MERCHANTS:  # those served best and worst: more are not told apart
        half = _MOST_MERCHANTS // 2
        merchants = merchants[:half] + merchants[-half:]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(5.6, 1.1 + 0.32 * len(merchants))
        for place, merchant in enumerate(merchants):
            values = {
                model: value
                for model, *_ in _SPREAD
                if (value := merchant.metrics.get(model, {}).get(metric)) is not None
            }
            if values:
                axes.hlines(place, min(values.values()), max(values.values()), color=RULE, lw=3)
            for model, colour, marker, filled, size in _SPREAD:
                if model in values:
                    face = colour if filled else "none"
                    axes.plot(
                        values[model],
                        place,
                        marker,
                        markersize=size,
                        markerfacecolor=face,
                        markeredgecolor=colour,
                        markeredgewidth=1.6,
                    )
        _label_rows(axes, [merchant.name for merchant in merchants])
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        _spread_legend(figure)
        title = f"{METRICS[metric]} at each merchant"
        return picture(figure, f"spread-{metric}", title, _tell_spread(results, metric))


def popularity_tail(curve: PopularityCurve) -> Picture:
    """Draw how often each item sold, on a logarithmic scale, with the tail shaded."""
    items = curve.ranks[-1]
    head_end = curve.head_items + 0.5
    with mpl.rc_context(STYLE):
        figure, axes = canvas(12.4, 4.0)
        axes.axvspan(head_end, items + 0.5, color=LIGHT_TEAL, alpha=0.13, linewidth=0)
        axes.fill_between(curve.ranks, curve.counts, step="mid", color=TEAL, alpha=0.16, lw=0)
        axes.step(curve.ranks, curve.counts, where="mid", color=TEAL, linewidth=1.8)
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
        axes.set_xlim(0.5, items + 0.5)
        top = 2.2 * max(curve.counts[0], 1)
        axes.set_ylim(0, top)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.minorticks_off()
        axes.set_xlabel("items, most sold first")
        axes.set_ylabel("sales in training")
        share = curve.head_share
        head = "head" if share is None else f"head: {share:.0%} of sales"
        tail = (
            "tail"
            if share is None
            else f"tail: {items - curve.head_items:,} items, " + (f"{1 - share:.0%} of sales")
        )
        axes.annotate(head, (0.5, top), (8, -8), textcoords="offset points", va="top")
        axes.annotate(
            tail, (head_end, top), (10, -8), textcoords="offset points", va="top", color=TEAL
        )
        if curve.cold_items:
            axes.annotate(
                f"{curve.cold_items:,} without a sale",
                (items, 0),
                (-10, 8),
                textcoords="offset points",
                ha="right",
                color=AMBER,
            )
        told = (
            f"{items:,} items; the most sold one sold {curve.counts[0]:,} times. {head}; {tail}. "
            f"{curve.cold_items:,} items had no sale in training."
        )
        return picture(figure, "popularity", "Sales of each item, logarithmic scale", told)


def _whisker(axes: Axes, results: Results, model: str, metric: Metric, place: int) -> float | None:
    """Draw a model's interval and return its upper end."""
    interval = results.intervals.metrics.get(model, {}).get(metric)
    if interval is None or interval.low is None or interval.high is None:
        return None
    axes.hlines(place, interval.low, interval.high, color="white", linewidth=3.6)
    axes.hlines(place, interval.low, interval.high, color=INK, linewidth=1.4)
    return interval.high


def _highs(results: Results, metric: Metric) -> list[float]:
    values = [row[metric] for row in results.metrics.values()]
    ends = [row[metric].high for row in results.intervals.metrics.values() if metric in row]
    return [value for value in (*values, *ends) if value is not None]


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows from top to bottom."""
    short = [textwrap.shorten(name, 26, placeholder="…") or name[:26] for name in names]
    axes.set_yticks(range(len(names)), short, color=INK)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)


def _time_axes(axes: Axes, ticks: int) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _spread_legend(figure: Figure) -> None:
    marks = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=colour if filled else "none",
            markeredgecolor=colour,
            markeredgewidth=1.6,
            label=label_of(model),
        )
        for model, colour, marker, filled, size in _SPREAD
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, handletextpad=0.2)


def _tell_spread(results: Results, metric: SpreadMetric) -> str:
    rows = []
    for merchant in results.merchants:
        values = [
            f"{label_of(model)} {value:.4f}"
            for model, *_ in _SPREAD
            if (value := merchant.metrics.get(model, {}).get(metric)) is not None
        ]
        rows.append(f"{merchant.name}: {', '.join(values)}")
    return "; ".join(rows) + "."
