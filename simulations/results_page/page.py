"""docs/ref-results.md, made from extracts of runs: `make results`.

python -m simulations.results_page.page [RUN ...] keeps an extract of each run folder, then writes
the page.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

from common.errors import FedtailError
from common.files import write_atomic
from simulations.report.terminal import ordered_models
from simulations.results.measures import METRICS, SPREAD_METRICS
from simulations.results.schema import load_results
from simulations.results_page.extracts import SHOWN, Extract, extract, read_extracts, write_extract
from simulations.results_page.seeds import Group, SeedMean, grouped
from simulations.results_page.sizes import SIZE_HEADINGS, own_best_told, size_rows
from simulations.results_page.targets import SEEDS, Target, judge, read_targets, shown_difference

DOCS: Final = Path(__file__).parents[2] / "docs"
EXTRACTS: Final = DOCS / "results"
PAGE: Final = DOCS / "ref-results.md"
TARGETS: Final = "targets.toml"

SETTINGS: Final = (  # told of every group, whatever the defaults are today
    "rounds",
    "sample_rate",
    "steps_per_round",
    "max_grad_norm",
    "delta",
    "size_bracket",
    "base_model",
    "lora",
    "lora_modules",
    "last_layers",
    "rank",
    "output_rank",
    "whitening_power",
    "sif_smoothing",
    "lexical_weight",
    "objective",
    "temperature",
    "popularity_strength",
    "negatives",
    "history_decay",
    "optimiser",
    "learning_rate",
    "tau",
    "schedule",
)
INTRODUCTION: Final = """# Results

Made by `make results` from the extracts in `docs/results/`, one a run. Only the remarks under
a data set's name are written by hand. `make results RUNS="out/a out/b"` adds runs.

A number is the mean over seeds; a seed changes the draws, the noise and, but where merchants are a
column, the deal of shoppers. In brackets: the mean of the seeds' 95% intervals, each by bootstrap
over test cases, paired for differences. It answers for other shoppers and these seeds, so look at
how many seeds agree. A shopper is a person at one merchant: who buys at two is two shoppers, whom
the bootstrap takes as independent. Bold: best. [ref-metrics.md](ref-metrics.md) defines each
metric, [ref-results-schema.md](ref-results-schema.md#models) each model.

Targets were written down before the runs on this page, but not before every look at the data:
pilots had judged on the test periods, and so had earlier runs on Online Retail. After that
`fused_frozen` and `fused` were given EASE that reads titles, the sales trend and a score for what
never sold, and every text part weights its tokens by how rare they are; a target holds for what
bears the name today.
"""


def results_page(extracts: Sequence[Extract], targets: Sequence[Target], remarks: Path) -> str:
    """Return the page as Markdown.

    Args:
        extracts: Of any number of runs.
        targets: What was asked before.
        remarks: Folder whose `DATASET.txt` stands under a data set's heading.
    """
    parts = [INTRODUCTION]
    heading = ""
    for group in grouped(extracts):
        data = group.first.data
        if data.name != heading:
            heading = data.name
            parts.append(_heading(group, remarks / f"{heading}.txt"))
        parts.extend(_section(group, targets))
    return "\n".join(parts).rstrip() + "\n"


def _heading(group: Group, remarks: Path) -> str:
    data = group.first.data
    nature = "Synthetic: made up by a program. " if data.synthetic else ""
    told = (
        f"## {data.name}\n\n{nature}{data.items:,} items; {data.split}; {data.cases:,} test cases "
        "in the first run below.\n"
    )
    return told + (f"\n{remarks.read_text(encoding='utf-8')}" if remarks.exists() else "")


def _section(group: Group, targets: Sequence[Target]) -> Iterator[str]:
    """Yield the parts of one group."""
    one = group.first
    budget = "no noise" if one.dp_model == "none" else f"ε = {one.settings['epsilon']:g}"
    noise = "" if one.dp_model == "none" else f", noise `{one.dp_model}`"
    seeds = ", ".join(str(run.seed) for run in group.runs)
    yield (
        f"### {one.settings['merchants']} merchants ({one.data.partition}), {budget}{noise}\n\n"
        f"{one.data.interactions:,} purchases to train on; {one.data.shoppers:,} shoppers, those "
        f"of the test period included. Seeds {seeds}.\n"
    )
    yield f"```sh\n{_command(group)}\n```\n"
    yield _models(group)
    yield _differences(group)
    yield from _merchants(group)
    yield from _sizes(group)
    yield from _held_out(group)
    yield from _curve(group)
    yield from _gate(group)
    yield from _targets(group, targets)
    yield _setup(group)


def _command(group: Group) -> str:
    """Return what was run, but for settings that are told below."""
    one = group.first
    where = "--marketplace" if one.data.synthetic else f"--data {one.data.name}"
    more = "" if one.held_out is None else f" --held-out-merchants {one.held_out.merchants}"
    if one.gate is not None and not one.data.synthetic:
        more += f" --public-holdout {one.gate.holdout}"
    if one.epsilon_curve is not None:
        budgets = (one.epsilon for one in one.epsilon_curve.points)
        more += f" --epsilon-curve {','.join('inf' if b is None else f'{b:g}' for b in budgets)}"
    if not {"solo_adapter", "adapter_no_noise"} & set(one.metrics):
        more += " --fast"
    return (
        f"fedtail simulate {where} --merchants {one.settings['merchants']} --partition "
        f"{one.data.partition}{more} --rounds {one.settings['rounds']} --epsilon "
        f"{one.settings['epsilon']:g} --noise {one.dp_model} --seed {one.seed} --out out/run"
    )


def _models(group: Group) -> str:
    cells = {
        model: {metric: group.metric(model, metric) for metric in SHOWN} for model in group.models
    }
    best = {
        metric: max(
            (mean for row in cells.values() if (mean := row[metric].mean) is not None),
            default=None,
        )
        for metric in SHOWN
    }
    rows = [
        [f"`{model}`", *(_cell(row[metric], best=best[metric]) for metric in SHOWN)]
        for model, row in cells.items()
    ]
    return _table(["model", *(METRICS[metric] for metric in SHOWN)], rows)


def _cell(found: SeedMean, *, best: float | None) -> str:
    if found.mean is None:
        return "undefined"
    value = f"{found.mean:.4f}"
    value = f"**{value}**" if found.mean == best else value
    if found.low is None or found.high is None:
        return value
    return f"{value} ({found.low:.4f} to {found.high:.4f})"


def _differences(group: Group, *, held_out: bool = False) -> str:
    rows = []
    for model, baseline in group.pairs(held_out=held_out):
        row = [f"`{model}` − `{baseline}`"]
        for metric in SPREAD_METRICS:
            found = group.difference(model, baseline, metric, held_out=held_out)
            side = "above" if (found.mean or 0.0) > 0 else "below"
            clear = f"{found.clear} of {found.seeds} clearly {side}" if found.seeds else ""
            row += [shown_difference(found), clear]
        rows.append(row)
    headings = ["difference"]
    for metric in SPREAD_METRICS:
        headings += [METRICS[metric], "seeds"]
    return _table(headings, rows)


def _merchants(group: Group) -> Iterator[str]:
    """Yield what merchants gain, if it was measured: over seeds the mean of the medians."""
    known = [run.fairness for run in group.runs if run.fairness is not None]
    if not known:
        return
    rows = []
    for first in known[0].gains:
        key = (first.model, first.baseline, first.metric)
        gains = [
            one
            for run in known
            for one in run.gains
            if (one.model, one.baseline, one.metric) == key
        ]
        medians = [one.median for one in gains if one.median is not None]
        worst = [(one.worst.mean, one.worst) for one in gains if one.worst.mean is not None]
        rows.append(
            [
                f"`{first.model}` − `{first.baseline}`",
                METRICS[first.metric],
                f"{sum(one.ahead for one in gains)} of {sum(one.merchants for one in gains)}",
                f"{sum(medians) / len(medians):+.4f}",
                f"{sum(mean for mean, _ in worst) / len(worst):+.4f}",
                shown_difference(min(worst, key=itemgetter(0))[1]),
            ]
        )
    yield "Merchant by merchant, each counted once; ahead over all seeds:\n"
    headings = [
        "difference",
        "metric",
        "ahead at",
        "median",
        "worst, mean of seeds",
        "worst of all",
    ]
    yield _table(headings, rows)
    yield _spreads(group)


def _sizes(group: Group) -> Iterator[str]:
    """Yield what joining brings by size in each run, and at whom it does harm."""
    if rows := size_rows(group):
        yield "By size of merchant, minus the best alone at that size, chosen on the same test:\n"
        yield _table(SIZE_HEADINGS, rows)
    yield from own_best_told(group)


def _spreads(group: Group) -> str:
    """Return each model's mean and worst merchant, over seeds."""
    rows = []
    for model in group.models:
        row = [f"`{model}`"]
        for metric in SPREAD_METRICS:
            found = [
                one
                for run in group.runs
                if run.fairness is not None
                for one in run.fairness.spreads
                if (one.model, one.metric) == (model, metric)
            ]
            for values in ([one.mean for one in found], [one.worst for one in found]):
                known = [value for value in values if value is not None]
                row.append(f"{sum(known) / len(known):.4f}" if known else "undefined")
        rows.append(row)
    headings = ["model"]
    for metric in SPREAD_METRICS:
        headings += [f"{METRICS[metric]}, mean merchant", "worst merchant"]
    return _table(headings, rows)


def _held_out(group: Group) -> Iterator[str]:
    held = [run.held_out for run in group.runs if run.held_out is not None]
    if not held:
        return
    cases = sum(one.cases for one in held)
    yield (
        f"Merchants that never trained, {held[0].merchants} a run, {cases:,} test cases over all "
        "runs:\n"
    )
    rows = [
        [
            f"`{model}`",
            *(_cell(group.metric(model, metric, held_out=True), best=None) for metric in SHOWN),
        ]
        for model in ordered_models(held[0].metrics)
    ]
    yield _table(["model", *(METRICS[metric] for metric in SHOWN)], rows)
    yield _differences(group, held_out=True)


def _curve(group: Group) -> Iterator[str]:
    """Yield the curve of each run that has one."""
    for run in group.runs:
        curve = run.epsilon_curve
        if curve is None:
            continue
        yield (
            f"Against ε, seed {run.seed}: trained again at each, {curve.held_back:.0%} of each "
            "merchant's shoppers left out; the attack is a threshold on a shopper's loss.\n"
        )
        rows = []
        for point in curve.points:
            told = point.membership
            budget = "no noise" if point.epsilon is None else f"{point.epsilon:g}"
            accuracy = [
                "undefined" if value is None else f"{value:.4f}"
                for model in ("adapter", "fused")
                for metric in SPREAD_METRICS
                for value in [point.metrics[model][metric]]
            ]
            attack = [
                f"{told.auc:.3f} ({told.low:.3f} to {told.high:.3f})",
                f"{told.advantage:.3f}",
                f"{told.chance:.3f}",
                f"{told.bound:.3f}",
            ]
            rows.append([budget, *accuracy, *attack])
        headings = [
            "ε",
            *(f"`{m}` {METRICS[k]}" for m in ("adapter", "fused") for k in SPREAD_METRICS),
        ]
        yield _table([*headings, "attack's AUC", "advantage", "by chance, up to", "bound"], rows)


def _gate(group: Group) -> Iterator[str]:
    for run in group.runs:
        if run.gate is not None:
            verdict = "passed" if run.gate.passed else "refused"
            yield f"Release gate, seed {run.seed}: {verdict}. {run.gate.reason}.\n"


def _targets(group: Group, targets: Sequence[Target]) -> Iterator[str]:
    asked = [one for one in targets if one.fits(group)]
    if not asked:
        return
    seeds = len(group.runs)
    few = "" if seeds >= SEEDS else f" They ask for {SEEDS} seeds; runs here: {seeds}."
    yield f"Targets, written down before these runs.{few}\n"
    rows = [[*judge(one, group)] for one in asked]
    marked = [[told, value, f"**{v}**" if v == "missed" else v] for told, value, v in rows]
    yield _table(["target", "measured", "verdict"], marked)


def _setup(group: Group) -> str:
    """Return settings, versions and commits of a group."""
    one = group.first
    settings = ", ".join(
        f"{name} {one.settings[name]}" for name in SETTINGS if name in one.settings
    )
    spent = [run.epsilon for run in group.runs if run.epsilon is not None]
    audits = [run.audit for run in group.runs if run.audit is not None]
    versions = {
        f"Python {run.environment.python}, torch {run.environment.torch}, Flower "
        f"{run.environment.flwr}, Opacus {run.environment.opacus}, {run.environment.platform}, "
        f"{run.environment.cores} cores"
        for run in group.runs
    }
    rows = [
        ["settings", settings],
        ["ε spent, most of any merchant", f"{max(spent):.2f}" if spent else "no guarantee"],
        ["audited lower bound, largest", f"{max(audits):.2f}" if audits else "not audited"],
        ["commit", ", ".join(sorted({f"`{run.environment.commit}`" for run in group.runs}))],
        ["environment", "; ".join(sorted(versions))],
        ["seconds a run", ", ".join(f"{run.seconds:.0f}" for run in group.runs)],
    ]
    return _table(["set-up", "value"], rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def make_page(folder: Path = EXTRACTS) -> str:
    """Return the page from the extracts, targets and remarks of a folder.

    Raises:
        InputError: if one of them cannot be read.
    """
    return results_page(read_extracts(folder), read_targets(folder / TARGETS), folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep extracts of the runs that are named, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.results_page.page", description=__doc__
    )
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished simulations")
    parser.add_argument("--extracts", type=Path, default=EXTRACTS, help="where extracts are kept")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written")
    asked = parser.parse_args(arguments)
    try:
        for run in asked.runs:
            kept = write_extract(extract(load_results(run / "results.json")), asked.extracts)
            sys.stdout.write(f"{run}: {kept.name}\n")
        write_atomic(asked.page, make_page(asked.extracts).encode())
    except FedtailError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"written: {asked.page}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
