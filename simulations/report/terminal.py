"""What a run prints in the terminal when it is done: who ranked how well, and what it cost."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from simulations.results.measures import (
    LOWER_IS_BETTER,
    MODELS,
    Interval,
    Intervals,
    Metric,
    Number,
    SpreadMetric,
)
from simulations.results.schema import Results
from simulations.results.sections import Fairness

SHOWN: tuple[Metric, ...] = (
    "ndcg@10",
    "tail_recall@10",
    "head_recall@10",
    "cold_recall@10",
    "coverage@10",
)
_HEADINGS: Mapping[Metric, str] = {"ndcg@10": "overall\nNDCG@10", "coverage@10": "cover-\nage@10"}
_SHORT: Mapping[SpreadMetric, str] = {"ndcg@10": "NDCG", "tail_recall@10": "tail"}
MetricsByModel = Mapping[str, Mapping[Metric, Number]]
_ACCOUNTANTS = ("pld", "prv", "rdp")


def comparison_table(results: Results) -> Table:
    """Return models × overall, tail, head, cold and coverage, intervals below, best in bold."""
    nature = "synthetic" if results.dataset.synthetic else "real"
    title = f"{results.dataset.name} ({nature} data, {results.dataset.cases:,} test cases)"
    return _models_table(title, results.metrics, results.intervals)


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
    return _models_table(title, held.metrics, held.intervals)


def _models_table(title: str, metrics: MetricsByModel, intervals: Intervals) -> Table:
    table = Table(
        title=title,
        caption=f"Below a value: its {intervals.confidence:.0%} interval. Bold: best.",
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
    for name, one in results.privacy.merchants.items():
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
    costs |= {f"ledger of {name}": one.ledger for name, one in results.privacy.merchants.items()}
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
