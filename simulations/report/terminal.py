"""What a run prints in the terminal when it is done: who ranked how well, and what it cost."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from simulations.results.measures import (
    LOWER_IS_BETTER,
    MODELS,
    Difference,
    Interval,
    Intervals,
    Metric,
    Number,
    SpreadMetric,
    best_alone,
)
from simulations.results.schema import Results
from simulations.results.sections import Fairness, OwnBest, SizeGains

SHOWN: tuple[Metric, ...] = (
    "ndcg@10",
    "tail_recall@10",
    "head_recall@10",
    "cold_recall@10",
    "coverage@10",
)
_HEADINGS: Mapping[Metric, str] = {"ndcg@10": "overall\nNDCG@10", "coverage@10": "cover-\nage@10"}
_SHORT: Mapping[SpreadMetric, str] = {"ndcg@10": "NDCG", "tail_recall@10": "tail"}
_HEADINGS_OF_GAIN: Mapping[SpreadMetric, str] = {
    "ndcg@10": "NDCG@10",
    "tail_recall@10": "tail recall@10",
}
MetricsByModel = Mapping[str, Mapping[Metric, Number]]
_ACCOUNTANTS = ("pld", "prv", "rdp")
MOST_ROWS = 12  # of a table with a row a merchant; the report has them all


def comparison_table(results: Results) -> Table:
    """Return models × overall, tail, head, cold and coverage, intervals below, best in bold."""
    nature = "synthetic" if results.dataset.synthetic else "real"
    title = f"{results.dataset.name} ({nature} data, {results.dataset.cases:,} test cases)"
    return _models_table(title, results.metrics, results.intervals, best_alone(results.metrics))


def held_out_table(results: Results) -> Table:
    """Return the same for the merchants that never trained.

    Raises:
        ValueError: if there are none.
    """
    held = results.held_out
    if held is None:
        raise ValueError("there are no held-out merchants")
    cases = sum(one.cases for one in held.merchants)
    count = len(held.merchants)
    merchants = "One merchant" if count == 1 else f"{count} merchants"
    title = f"{merchants} that never trained ({cases:,} test cases)"
    return _models_table(title, held.metrics, held.intervals, best_alone(held.metrics))


def _models_table(
    title: str, metrics: MetricsByModel, intervals: Intervals, alone: str | None
) -> Table:
    told = "" if alone is None else f" Best that a merchant has alone: {label_of(alone)}."
    table = Table(
        title=title,
        caption=f"Below a value: its {intervals.confidence:.0%} interval. Bold: best.{told}",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("model", no_wrap=True)
    for metric in SHOWN:
        bucket = metric.removesuffix("_recall@10")
        table.add_column(
            _HEADINGS.get(metric, f"{bucket}\nrecall@10"), justify="right", no_wrap=True
        )
    best = {metric: best_models(metrics, metric) for metric in SHOWN}
    for model in ordered_models(metrics):
        of_model = intervals.metrics.get(model, {})
        cells = [
            _cell(metrics[model][metric], of_model.get(metric), bold=model in best[metric])
            for metric in SHOWN
        ]
        table.add_row(Text(label_of(model)), *cells)
    return table


def gains_table(fairness: Fairness) -> Table:
    """Return what each merchant gains: ahead at how many, the median and the worst."""
    table = Table(
        title="Merchant by merchant: NDCG@10 and tail recall@10",
        caption="Below the worst merchant's difference: its 95% interval.",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for heading in ("model", "minus", "of"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ahead", "median", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in fairness.gains:
        ends = f"{_signed(one.worst.low)} to {_signed(one.worst.high)}".replace("0.", ".")
        table.add_row(
            label_of(one.model),
            label_of(one.baseline),
            _SHORT[one.metric],
            f"{one.ahead} of {one.merchants}",
            _signed(one.median),
            Text(_signed(one.worst.mean)).append(f"\n{ends}", style="dim"),
        )
    return table


def size_table(sizes: Sequence[SizeGains]) -> Table:
    """Return what joining brings by size: each joined model minus the best alone at that size."""
    table = Table(
        title="What joining brings, by a merchant's size: minus its best alone",
        caption="In each size: the best alone by NDCG@10 on this test. Below: 95% intervals.",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for heading in ("shoppers,\nabout", "shops"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("joined, minus the best alone")
    for metric in _SHORT:
        table.add_column(_HEADINGS_OF_GAIN[metric], justify="right", no_wrap=True)
    for size in sizes:
        table.add_row(size_words(size), f"{size.merchants}", f"minus {label_of(size.alone)}:")
        for model in dict.fromkeys(one.model for one in size.gains):
            found = {one.metric: one for one in size.gains if one.model == model}
            cells = (_gain_cell(found.get(metric), size) for metric in _SHORT)
            table.add_row("", "", f"  {label_of(model)}", *cells)
    return table


def size_words(size: SizeGains) -> str:
    """Return a size as a person reads it."""
    return f"{size.size:,}"


def own_best_line(found: OwnBest) -> str:
    """Say for how many merchants the joined model is clearly worse than their own best."""
    many = f"merchants with {found.min_cases} test shoppers or more"
    if not found.merchants or found.worst is None:
        return f"There are no {many}, so none is held against its own best alone."
    return (
        f"Of {found.merchants} {many}, each against its own best alone: {found.better} clearly "
        f"better, {found.worse} clearly worse with {label_of(found.model)}; the worst "
        f"{_signed(found.worst.mean)} ({_signed(found.worst.low)} to {_signed(found.worst.high)})."
    )


def _gain_cell(one: Difference | None, size: SizeGains) -> Text:
    if one is None or one.mean is None:
        return Text("undefined", style="dim")
    base = size.metrics.get(size.alone, {}).get(cast(SpreadMetric, one.metric))
    share = f" {one.mean / base:+.0%}" if base else ""
    cell = Text(f"{_signed(one.mean)}{share}")
    if one.low is not None and one.high is not None:
        ends = f"{_signed(one.low)} to {_signed(one.high)}".replace("0.", ".")
        cell.append(f"\n{ends}", style="dim")
    return cell


def gate_line(results: Results) -> str:
    """Say whether a release was judged, on what, and what came of it."""
    gate = results.gate
    if gate is None:
        return "no public hold-out: not gated"
    verdict = "passed" if gate.passed else "refused, nothing is published"
    return f"{verdict}, on {gate.cases:,} shoppers of {gate.holdout}. {gate.reason}."


def privacy_table(results: Results) -> Table:
    """Return what each merchant's shoppers were charged, by each accountant, and the audit."""
    table = Table(
        title=f"Privacy: {results.privacy.unit}; noise {results.privacy.dp_model}",
        caption="pld and prv should agree; the ledger gates on rdp, the looser bound. audit: what "
        "canaries prove (95%) was spent at least; well above ε it is an alarm.",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("merchant")
    for heading in ("ε", "audit", "δ", *_ACCOUNTANTS, "σ", "q", "steps"):
        table.add_column(heading, justify="right")
    for name, one in islice(results.privacy.merchants.items(), MOST_ROWS):
        counted = [getattr(one.accountants, accountant) for accountant in _ACCOUNTANTS]
        table.add_row(
            Text(name),
            Text("none" if one.epsilon is None else f"{one.epsilon:.2f}", style="bold"),
            "none" if one.audit is None else f"≥ {one.audit.epsilon:.2f}",
            "none" if one.delta is None else f"{one.delta:.1e}",
            *("" if value is None else f"{value:.2f}" for value in counted),
            f"{one.noise_multiplier:.2f}",
            f"{one.sample_rate:g}",
            str(one.steps),
        )
    if (more := len(results.privacy.merchants) - MOST_ROWS) > 0:
        table.add_row(f"{more} more: the report")
    return table


def neighbours_table(results: Results) -> Table:
    """Return ε for a shopper added or removed and for one replaced: of this run, and of a life."""
    table = Table(
        title="ε by what may differ: a shopper added or removed, or replaced by another",
        caption="This run by PLD, as it was planned beforehand. A ledger by the filter, which "
        "holds also where later runs were chosen after seeing earlier ones.",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("ε of")
    for heading in ("added or removed", "replaced"):
        table.add_column(heading, justify="right")
    costs = {"this run": results.privacy.run}
    shown = islice(results.privacy.merchants.items(), MOST_ROWS)
    costs |= {f"ledger of {name}": one.ledger for name, one in shown}
    for name, cost in costs.items():
        if cost is not None:
            table.add_row(Text(name), f"{cost.add_or_remove:.2f}", f"{cost.replace_one:.2f}")
    return table


def ordered_models(metrics: MetricsByModel) -> list[str]:
    """Return the models in the order of `MODELS`, then the others as they were written."""
    known = [model for model in MODELS if model in metrics]
    return known + [model for model in metrics if model not in MODELS]


def label_of(model: str) -> str:
    """Return a model's name as a person reads it."""
    return MODELS.get(model, model.replace("_", " ").capitalize())


def best_models(metrics: MetricsByModel, metric: Metric) -> set[str]:
    """Return the models whose value is best; several if they tie, none if it says nothing.

    Coverage, Gini and APLT tell how a list is spread, not whether it is right, but each has a
    better end all the same.
    """
    values = {model: value for model, row in metrics.items() if (value := row[metric]) is not None}
    if len(values) < 2:
        return set()
    best = (min if metric in LOWER_IS_BETTER else max)(values.values())
    return {model for model, value in values.items() if value == best}


def _cell(value: float | None, interval: Interval | None, *, bold: bool) -> Text:
    if value is None:
        return Text("undefined", style="dim")
    cell = Text().append(f"{value:.4f}", style="bold" if bold else "")
    if interval is not None and interval.low is not None and interval.high is not None:
        ends = (f"{end:.4f}".replace("0.", ".", 1) for end in (interval.low, interval.high))
        cell.append(f"\n{'–'.join(ends)}", style="dim")
    return cell


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}"
