"""report.html: one page that tells what was run, who ranked best and what it cost.

The page is whole in itself: no request, no script, styles and figures inside. Titles and names come
from merchants' tables, so Jinja2 escapes all of them; only our own figures are inserted as markup.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markupsafe import Markup

from common.files import write_atomic
from common.pages import page_environment
from common.release.statement_page import SENTENCES, TRUST
from simulations.report import figures
from simulations.report.epsilon_figure import epsilon_figure
from simulations.report.size_figure import size_figure
from simulations.report.svg import Picture
from simulations.report.terminal import (
    MetricsByModel,
    best_models,
    gate_line,
    label_of,
    ordered_models,
    own_best_line,
    size_words,
)
from simulations.results.measures import (
    METRICS,
    MODEL_NOTES,
    Difference,
    Interval,
    Intervals,
    Metric,
    best_alone,
)
from simulations.results.schema import Results
from simulations.results.sections import Fairness, SizeGains

TEMPLATE: Final = "report.html.j2"
MAIN_METRICS: Final[tuple[Metric, ...]] = (
    "ndcg@10",
    "recall@10",
    "tail_recall@10",
    "head_recall@10",
    "cold_recall@10",
    "coverage@10",
)
BUCKET_METRICS: Final[tuple[Metric, ...]] = ("tail_recall@10", "cold_recall@10", "head_recall@10")
COMPARED_METRICS: Final[tuple[Metric, ...]] = ("ndcg@10", "tail_recall@10")
_HEROES: Final = ("fused", "adapter")  # what a merchant of a federation would use, the best first
_OPPONENTS: Final = ("local_ease", "own_alone", "frozen_text", "fused_frozen")  # without one

NOT_PROTECTED: Final = (
    *SENTENCES.values(),
    "A shopper who buys at several merchants is protected at each; what is learnt at each adds up.",
    "This page: a simulation sees all data, and measures accuracy on it without noise.",
)


@dataclass(frozen=True)
class Cell:
    """One value of a table: its text, its interval's text, and whether it is the best."""

    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class ComparedRow:
    """A model against a baseline, with one text and verdict for each compared metric."""

    model: str
    baseline: str
    cells: tuple[tuple[str, str, str], ...]


def write_report(results: Results, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_atomic(path, render_report(results).encode())


def render_report(results: Results) -> str:
    """Return the page as HTML."""
    environment = page_environment(__file__)
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["bytes"] = readable_bytes
    environment.filters["figure"] = _inserted
    environment.filters["power"] = _power
    return environment.get_template(TEMPLATE).render(
        results=results,
        lede=lede(results),
        findings=findings(results),
        tiles=tiles(results),
        metric_names=METRICS,
        main_metrics=MAIN_METRICS,
        table=_table(results.metrics, results.intervals),
        gate_line=gate_line(results),
        held_out=None
        if results.held_out is None
        else _table(results.held_out.metrics, results.held_out.intervals),
        held_out_compared=[]
        if results.held_out is None
        else list(_compared(results.held_out.intervals)),
        gains=[] if results.fairness is None else list(_gain_rows(results.fairness)),
        size_figure=size_figure(results.by_size),
        sizes=list(_size_rows(results.by_size)),
        own_best=None
        if results.fairness is None or results.fairness.own_best is None
        else own_best_line(results.fairness.own_best),
        epsilon_figure=None
        if results.epsilon_curve is None
        else epsilon_figure(results.epsilon_curve),
        notes=MODEL_NOTES,
        compared_metrics=COMPARED_METRICS,
        compared=list(_compared(results.intervals)),
        bucket_figures=[figures.metric_bars(results, metric) for metric in BUCKET_METRICS],
        round_figures=[
            figure
            for figure in (figures.accuracy_by_round(results), figures.epsilon_by_round(results))
            if figure is not None
        ],
        spread_figures=[
            figures.merchant_spread(results, one) for one in ("ndcg@10", "tail_recall@10")
        ],
        curve_figure=figures.popularity_tail(results.dataset.popularity_curve),
        trust=TRUST[results.privacy.dp_model],
        not_protected=NOT_PROTECTED,
        settings=list(flatten(results.settings)),
    )


def lede(results: Results) -> str:
    """Say in two sentences what was run, and on what."""
    data, merchants = results.dataset, len(results.merchants)
    shops = "One merchant" if merchants == 1 else f"{merchants} merchants"
    rounds = "1 round" if len(results.rounds) == 1 else f"{len(results.rounds)} rounds"
    did = f"trained one recommender together in {rounds}"
    if not results.rounds:
        did = "took the season of an earlier release anew, and trained nothing,"
    return (
        f"{shops} {did} on {data.name}: "
        f"{data.items:,} items, {data.interactions:,} purchases to train on, and {data.shoppers:,} "
        "shoppers, those of the test included. "
        f"Every model ranked the full catalogue for the same {data.cases:,} test shoppers."
    )


_VERDICTS: Final[Mapping[str, str]] = {
    "higher": "higher",
    "lower": "lower",
    "unclear": "not told apart",
}


def findings(results: Results) -> list[str]:
    """Say what the paired intervals allow to be said about the model that a merchant would use."""
    hero = _hero(results)
    found = []
    for baseline in dict.fromkeys((*_OPPONENTS, best_alone(results.metrics) or hero)):
        parts = [
            f"{METRICS[one.metric]} {_VERDICTS[one.verdict]}, {_signed(one.mean)} ({_ends(one)})"
            for one in results.intervals.differences
            if (one.model, one.baseline) == (hero, baseline)
            and one.metric in COMPARED_METRICS
            and one.mean is not None
        ]
        if parts:
            found.append(
                f"{label_of(hero)} against {_in_a_sentence(baseline)}: {'; '.join(parts)}."
            )
    return found


def tiles(results: Results) -> list[tuple[str, str, str]]:
    """Return the few numbers on top: name, value, and what to hold it against."""
    hero = _hero(results)
    shown = [
        (
            f"{METRICS[metric]}, {_in_a_sentence(hero)}",
            _number(results.metrics[hero][metric]),
            _beside(results, metric),
        )
        for metric in COMPARED_METRICS
    ]
    worst = results.privacy.worst_epsilon
    deltas = [one.delta for one in results.privacy.merchants.values() if one.delta is not None]
    shown.append(
        ("Privacy spent", "no guarantee", "no noise was added")
        if worst is None
        else ("Privacy spent, most", f"ε = {worst:.2f}", f"δ at most {_power(max(deltas))}")
    )
    sent = sum(one.bytes_up for one in results.rounds)
    heard = max(sum(one.participants for one in results.rounds), 1)
    each = ("Sent per merchant and round", readable_bytes(sent / heard))
    return [*shown, (*each, f"{readable_bytes(sent)} in all")] if results.rounds else shown


def flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names and texts."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(one) for one in value)
        else:
            yield f"{prefix}{name}", "not set" if value is None else str(value)


def readable_bytes(count: float) -> str:
    """Return a number of bytes in the largest unit that leaves at least one."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _hero(results: Results) -> str:
    return next(
        (model for model in _HEROES if model in results.metrics), next(iter(results.metrics))
    )


def _beside(results: Results, metric: Metric) -> str:
    """Return what a shop has alone: its purchases only, and the best of all."""
    return "; ".join(
        f"{_in_a_sentence(model)} {_number(results.metrics[model][metric])}"
        for model in dict.fromkeys(("local_ease", best_alone(results.metrics) or "fused_frozen"))
        if model in results.metrics
    )


def _table(
    metrics: MetricsByModel, intervals: Intervals
) -> list[tuple[str, str, dict[Metric, Cell]]]:
    """Return for each model its key, its label and a cell for each metric."""
    best = {metric: best_models(metrics, metric) for metric in next(iter(metrics.values()))}
    return [
        (
            model,
            label_of(model),
            {
                metric: Cell(
                    _number(value),
                    _interval(intervals, model, metric),
                    model in best[metric],
                )
                for metric, value in metrics[model].items()
            },
        )
        for model in ordered_models(metrics)
    ]


def _interval(intervals: Intervals, model: str, metric: Metric) -> str:
    interval = intervals.metrics.get(model, {}).get(metric)
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _compared(intervals: Intervals) -> Iterator[ComparedRow]:
    by_pair: dict[tuple[str, str], dict[Metric, Difference]] = {}
    for one in intervals.differences:
        by_pair.setdefault((one.model, one.baseline), {})[one.metric] = one
    for (model, baseline), by_metric in by_pair.items():
        cells = tuple(_difference(by_metric.get(metric)) for metric in COMPARED_METRICS)
        yield ComparedRow(label_of(model), label_of(baseline), cells)


def _gain_rows(fairness: Fairness) -> Iterator[tuple[str, ...]]:
    """Yield model, baseline, metric, how many are ahead, median, worst, its interval and name."""
    for one in fairness.gains:
        yield (
            label_of(one.model),
            label_of(one.baseline),
            METRICS[one.metric],
            f"{one.ahead} of {one.merchants}",
            _signed(one.median),
            _signed(one.worst.mean),
            _ends(one.worst),
            one.worst_merchant,
        )


def _size_rows(sizes: Sequence[SizeGains]) -> Iterator[tuple[str, ...]]:
    """Yield size, merchants, cases, best alone, joined model, and both gains with intervals."""
    for size in sizes:
        for model in dict.fromkeys(one.model for one in size.gains):
            found = {one.metric: one for one in size.gains if one.model == model}
            gains = [_difference(found.get(metric)) for metric in COMPARED_METRICS]
            yield (
                size_words(size),
                f"{size.merchants:,} ({size.smallest:,} to {size.largest:,})",
                f"{size.cases:,}",
                label_of(size.alone),
                label_of(model),
                *(text for mean, ends, _ in gains for text in (mean, ends)),
            )


def _difference(one: Difference | None) -> tuple[str, str, str]:
    if one is None or one.mean is None:
        return ("not measured", "", "unclear")
    return (_signed(one.mean), _ends(one), one.verdict)


def _ends(one: Interval) -> str:
    return f"{_signed(one.low)} to {_signed(one.high)}"


def _in_a_sentence(model: str) -> str:
    """Return a label with its first letter small, and EASE as it is."""
    label = label_of(model)
    return label if label.startswith("EASE") else label[:1].lower() + label[1:]


def _power(number: float) -> str:
    """Return a small number as a person writes it: 1.2 × 10⁻⁴."""
    digits, exponent = f"{number:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{raised}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def _inserted(picture: Picture) -> Markup:
    # Our own SVG: ElementTree escaped every name that came into it from outside.
    return Markup(picture.svg)  # noqa: S704 - made by simulations.report.svg, see above
