"""What joining brings, as a person reads it and as a program does."""

import json
import math
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from client.recommending.join_benefit import DECIDING, MODELS, VERDICT_LEVEL, Benefit
from common.evaluation.bootstrap import Interval

COLUMNS = {
    "ndcg@10": "NDCG@10",
    "tail_recall@10": "tail recall@10",
    "head_recall@10": "head recall@10",
    "cold_recall@10": "cold recall@10",
}
_LEGEND = (
    "Fused: with the shop's own EASE, which reads titles too, and its sales trend. In the second "
    "lines: 95% intervals, of differences paired over shoppers."
)
NAMES = {"ndcg@10": "overall (NDCG@10)", "tail_recall@10": "in the tail (recall@10)"}


def benefit_page(benefit: Benefit, shop: str, release: str, *, took_part: bool) -> RenderableType:
    """Return tables and the verdict.

    Args:
        benefit: What was measured.
        shop: The shop's name.
        release: The release's version.
        took_part: Whether the shop's own catalogue is among those the release was trained with.
    """
    parts: list[RenderableType] = [
        _means(benefit, f"{escape(shop)}: validation period, {benefit.shoppers} shoppers"),
        "",
        _differences(benefit),
        _tail_boosts(benefit),
        f"[dim]{_LEGEND}[/dim]\n",
    ]
    if benefit.clicks:
        parts.append(_clicks(benefit))
    verdict = f"\n[bold]Verdict: {benefit.verdict}[/bold], with release {release}.\n"
    return Group(*parts, verdict + _reasons(benefit) + "\n\n" + _fine_print(benefit, took_part))


def _table(title: str, first: str, headings: Iterable[str] = COLUMNS.values()) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    table = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _means(benefit: Benefit, title: str) -> Table:
    table = _table(title, "model")
    for model in benefit.scorecards:
        found = (benefit.mean(model, metric) for metric in COLUMNS)
        table.add_row(MODELS[model], *map(_cell, found))
    return table


def _differences(benefit: Benefit) -> Table:
    table = _table(f"{MODELS['fused']}, minus", "model")
    for model in benefit.scorecards:
        if model != "fused":
            found = (benefit.difference(model, metric) for metric in COLUMNS)
            table.add_row(MODELS[model], *(_cell(one, "+") for one in found))
    return table


def _tail_boosts(benefit: Benefit) -> Table:
    table = _table(f"{MODELS['fused']}, with --tail-boost from head (0) to tail (2)", "tail boost")
    for boost, scorecard in benefit.tail_boosts.items():
        means = scorecard.means()
        table.add_row(f"{boost:g}", *(_short(means[metric]) for metric in COLUMNS))
    return table


def _clicks(benefit: Benefit) -> Table:
    headings = (
        "pairs",
        "bought",
        "precision",
        "recall",
        "F1",
        "AUC",
        "ECE",
        "Brier skill",
    )
    title = f"{MODELS['fused']} as a click chance, of each shopper and item it had not bought"
    table = _table(title, "items", headings)
    for name, view in benefit.clicks.items():
        clicks, trust = view.metrics, view.reliability
        table.add_row(
            name,
            f"{trust.pairs:,}",
            f"{trust.rate:.3%}",
            *(f"{one:.3f}" for one in (clicks.precision, clicks.recall, clicks.f1, clicks.auc)),
            f"{trust.ece:.3%}",
            f"{trust.skill:.3f}",
        )
    return table


def _reasons(benefit: Benefit) -> str:
    solo = dict.fromkeys(benefit.solo_models)
    names = " or ".join(MODELS[name] for name in solo)
    opponents = {f"the best without others ({names})": benefit.gains}
    if list(solo) != ["frozen_fused"]:
        opponents[MODELS["frozen_fused"]] = benefit.gains_over_frozen
    lines = []
    for opponent, gains in opponents.items():
        lines.append(f"{MODELS['fused']}, against {opponent}:")
        for metric in DECIDING:
            gain = gains[metric]
            said = "better" if gain.low > 0 else "worse" if gain.high < 0 else "no clear difference"
            numbers = f"{_short(gain.mean, '+')} ({_ends(gain, '+')})"
            lines.append(f"  {NAMES[metric]}: {numbers}, {said}")
    return "\n".join(lines)


def _fine_print(benefit: Benefit, took_part: bool) -> str:
    trained = (
        "This shop's catalogue is among those the release was trained with: its node has seen "
        "these purchases too, and epsilon bounds how much that can help. To judge on purchases "
        "that no training saw, import the shop again later, with validation after the training."
        if took_part
        else "No catalogue of the release is this shop's: its purchases were in no training, "
        "unless its catalogue has changed since."
    )
    return (
        f"It rests on {benefit.shoppers} shoppers, {benefit.tail_shoppers} of whom bought a tail "
        "item. Each was evaluated with models whose EASE's strength, decay, fusion weights and "
        "click curve were fitted on the other half of the shoppers. The verdict's intervals have "
        f"{VERDICT_LEVEL:.1%} each, so that both hold together at 95%. {trained} Nothing was sent."
    )


def _cell(interval: Interval, sign: str = "") -> str:
    return f"{_short(interval.mean, sign)}\n[dim]{_ends(interval, sign)}[/dim]"


def _ends(interval: Interval, sign: str = "") -> str:
    return f"{_short(interval.low, sign)}, {_short(interval.high, sign)}"


def _short(value: float, sign: str = "") -> str:
    """Return four digits without the zero before the point; a dash where undefined."""
    return "–" if math.isnan(value) else f"{value:{sign}.4f}".replace("0.", ".", 1)


def benefit_json(
    benefit: Benefit, release: str, *, took_part: bool, by_size: dict[str, Any] | None = None
) -> str:
    """Return all of it as JSON; what is undefined is null.

    `by_size` is what the release says of shops by size, as by `gain_json`.
    """
    metrics = [name for name in benefit.solo.per_shopper if not name.startswith("aplt")]
    document = {
        "release": release,
        "verdict": benefit.verdict,
        "shoppers": benefit.shoppers,
        "tail_shoppers": benefit.tail_shoppers,
        "took_part": took_part,
        "solo_models": benefit.solo_models,
        "gains": {metric: _plain(gain) for metric, gain in benefit.gains.items()},
        "gains_over_frozen": {
            metric: _plain(gain) for metric, gain in benefit.gains_over_frozen.items()
        },
        "models": {
            model: {metric: _plain(benefit.mean(model, metric)) for metric in metrics}
            for model in benefit.scorecards
        },
        "fused_minus": {
            model: {metric: _plain(benefit.difference(model, metric)) for metric in metrics}
            for model in benefit.scorecards
            if model != "fused"
        },
        "tail_boost": {
            f"{boost:g}": _numbers({metric: scorecard.means()[metric] for metric in metrics})
            for boost, scorecard in benefit.tail_boosts.items()
        },
        "clicks": {
            name: _numbers({**vars(view.metrics), **vars(view.reliability)})
            for name, view in benefit.clicks.items()
        },
        "by_size": by_size,
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _plain(interval: Interval) -> dict[str, float | None]:
    return _numbers(vars(interval))


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
