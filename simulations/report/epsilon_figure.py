"""Accuracy and membership inference against epsilon, drawn."""

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes

from simulations.report.svg import AMBER, GREY, LIGHT_TEAL, STYLE, TEAL, Picture, canvas, picture
from simulations.report.terminal import label_of
from simulations.results.measures import METRICS, SPREAD_METRICS, SpreadMetric
from simulations.results.sections import CurvePoint, EpsilonCurve

_LINES: Final = (  # model, the baseline that has no epsilon, colour, marker
    ("fused", "fused_frozen", TEAL, "o"),
    ("adapter", "frozen_text", LIGHT_TEAL, "D"),
)


def epsilon_figure(curve: EpsilonCurve) -> Picture:
    """Draw NDCG@10, tail recall@10 and the attack's advantage, one above the other.

    Epsilons stand at even steps, the largest on the left, as they were asked for.
    """
    points = curve.points
    with mpl.rc_context(STYLE):
        figure, _ = canvas(9.0, 7.2, rows=3)
        for axes, metric in zip(figure.axes, SPREAD_METRICS, strict=False):
            _accuracy(axes, curve, metric)
        _attack(figure.axes[2], points)
        figure.axes[2].set_xticks(range(len(points)), [_name(one) for one in points])
        figure.axes[2].set_xlabel("budget ε of a shopper at a merchant")
        return picture(figure, "epsilon-curve", "Accuracy and attack against ε", _told(points))


def _accuracy(axes: Axes, curve: EpsilonCurve, metric: SpreadMetric) -> None:
    """Draw both models over the points, and each one's frozen counterpart as a broken line."""
    for model, baseline, colour, marker in _LINES:
        values = [_value(one.metrics[model][metric]) for one in curve.points]
        axes.plot(values, marker=marker, color=colour, linewidth=2, label=label_of(model))
        level = curve.frozen[baseline][metric]
        if level is not None:
            axes.axhline(level, color=colour, linewidth=1.2, linestyle="--")
    axes.set_title(f"{METRICS[metric]} (broken lines: the same without training)")
    axes.grid(axis="y")
    axes.margins(x=0.06, y=0.2)
    if metric == "ndcg@10":
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _attack(axes: Axes, points: Sequence[CurvePoint]) -> None:
    told = [one.membership for one in points]
    axes.plot(
        [one.advantage for one in told], marker="s", color=AMBER, linewidth=2, label="advantage"
    )
    axes.plot([one.chance for one in told], color=GREY, linestyle="--", label="by chance, up to")
    axes.set_title("Membership inference: advantage of the best threshold on a shopper's loss")
    axes.set_ylim(0, 1.35 * max(max(one.advantage, one.chance) for one in told))
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _value(value: float | None) -> float:
    return float("nan") if value is None else value


def _name(point: CurvePoint) -> str:
    return "no noise" if point.epsilon is None else f"{point.epsilon:g}"


def _told(points: Sequence[CurvePoint]) -> str:
    parts = [
        f"{_name(one)}: adapter {_value(one.metrics['adapter']['ndcg@10']):.4f}, fused "
        f"{_value(one.metrics['fused']['ndcg@10']):.4f}, advantage {one.membership.advantage:.3f}"
        for one in points
    ]
    return f"NDCG@10 and the attack by ε. {'; '.join(parts)}."
