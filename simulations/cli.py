"""`fedtail simulate`: a whole federation on one machine."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.options import Device

HELP = """
Simulate a federation of merchants on this machine, from data to signed release and report.

Without --data it runs on a synthetic marketplace: made-up shops whose true preferences are known.
With --data it imports a real shop's tables (or a folder that `fedtail client import` made) and
divides them into merchants. Every merchant gets a folder, a privacy ledger and a policy of its
own; noise, clipping and accounting are those of a deployed node.

A stopped run goes on where it stopped: give the same command again. With --refresh-of RUN nothing
is trained: the season of an earlier simulation of the same merchants is taken anew, on their
ledgers, for a release with RUN's adapter. Give RUN's own options for data and merchants.

    fedtail simulate --out out/demo
    fedtail simulate --data shop/ --merchants 8 --rounds 40 --epsilon 4 --out out/shop
    fedtail simulate --data shop/ --out out/shop --set rank=8 --set history_decay=0.8
    fedtail simulate --data shop/ --refresh-of out/shop --out out/shop-again --epsilon 0.3
"""


def simulate(
    out: Annotated[
        Path | None, typer.Option(help="Folder for results, report and release.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A real shop: folder or file.")] = None,
    public_data: Annotated[
        bool,
        typer.Option(
            "--public-data",
            help="Say that --data is public: the release may then tell metrics of its shoppers.",
        ),
    ] = False,
    marketplace: Annotated[
        bool, typer.Option("--marketplace", help="The synthetic marketplace (the default).")
    ] = False,
    mapping: Annotated[
        str | None, typer.Option(help="Mapping of --data: a ready-made name or a TOML file.")
    ] = None,
    merchants: Annotated[
        int | None, typer.Option(help="How many merchants train. [default: 4]")
    ] = None,
    held_out_merchants: Annotated[
        int | None,
        typer.Option(help="How many more never train and are judged on the release. [default: 0]"),
    ] = None,
    public_holdout: Annotated[
        str | None,
        typer.Option(
            help="Public data, a folder or file, on which a release must beat the frozen model, "
            "or none. [default: none with --data, else further made-up shoppers]",
        ),
    ] = None,
    epsilon_curve: Annotated[
        str | None,
        typer.Option(
            help="Repeat the training at these budgets, such as inf,8,4,2,1: accuracy and "
            "membership inference against epsilon."
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of training. [default: 40]")] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Budget of the whole run for one shopper. [default: 1, or 4 with local noise]"
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="local, or distributed (5 merchants or more: only their sum is seen); central and "
            "none protect nobody. [default: distributed, or local with fewer merchants]"
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="column, kinds (of goods, by text), dirichlet (over categories) or random. "
            "[default: column or random]"
        ),
    ] = None,
    kinds: Annotated[
        int | None, typer.Option(help="Kinds of goods for --partition kinds. [default: 8]")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="equal or zipf, for random and kinds. [default: zipf for the marketplace]"
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Dirichlet's concentration.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the partition and the training.")] = None,
    seeded_noise: Annotated[
        bool, typer.Option("--seeded-noise", help="Also seed the noise. Protects nobody: a test.")
    ] = False,
    experiment: Annotated[
        Path | None, typer.Option(help="A TOML file with these options and [settings].")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any run setting as name=value; repeatable.")
    ] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="Item id or title for the example list; repeatable.")
    ] = None,
    refresh_of: Annotated[
        Path | None,
        typer.Option(help="Take the season of this earlier simulation anew, and train nothing."),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto", help="Choose what is not set from declared facts; shoppers are not asked."
        ),
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Leave out solo adapters and baselines.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            help="How many of these extra trainings go on at once. [default: one a core, to 4]"
        ),
    ] = None,
    _: Device = None,
    validation_only: Annotated[
        bool,
        typer.Option(
            "--validation-only",
            help="Judge on the validation period, without the test: to try settings.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Empty --out first; ledgers are kept as text.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard files to OUT/tensorboard.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print warnings and results, and no progress.")
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="List every run setting and stop.")
    ] = False,
) -> None:
    """Simulate a federation of merchants on this machine."""
    console = Console()
    if settings:
        console.print(settings_table())
        return
    from common.errors import InputError

    if out is None:
        raise InputError(
            "--out is missing: the folder for results, report and release.", field="out"
        )
    if data is not None and marketplace:
        raise InputError("Give --data or --marketplace, not both.", field="data")
    asked: dict[str, Any] = {
        "data": data,
        "mapping": mapping,
        "merchants": merchants,
        "held_out_merchants": held_out_merchants,
        "public_holdout": public_holdout,
        "epsilon_curve": None if epsilon_curve is None else _numbers(epsilon_curve),
        "partition": partition,
        "alpha": alpha,
        "kinds": kinds,
        "sizes": sizes,
        "partition_seed": seed,
        "history": tuple(history) if history else None,
        "processes": processes,
        "validation_only": validation_only or None,
        "public_data": public_data or None,
        "auto": auto or None,
        "refresh_of": refresh_of,
    }
    run: dict[str, Any] = {"rounds": rounds, "epsilon": epsilon, "noise": noise, "seed": seed}
    run["seeded_noise"] = seeded_noise or None
    _run(
        console,
        out,
        experiment,
        asked,
        {**run, **_named(set_ or [])},
        fast=fast,
        overwrite=overwrite,
        tensorboard=tensorboard,
        quiet=quiet,
    )


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished simulation.")],
    pdf: Annotated[
        Path | None, typer.Option(help="Write two pages for a board to this file, as PDF.")
    ] = None,
) -> None:
    """Write a finished run's report again from its results.json, or two pages for a board.

    RUN is a folder that `fedtail simulate` wrote. Without --pdf it is report.html that is written.
    """
    from simulations.results.schema import load_results

    results = load_results(run / "results.json")
    if pdf is None:
        from simulations.report.html import write_report  # matplotlib loads here, not before

        pdf = run / "report.html"
        write_report(results, pdf)
    else:
        from simulations.report.board_pdf import write_board_pdf

        write_board_pdf(results, pdf)
    Console().print(f"{pdf}", highlight=False, soft_wrap=True)


def _run(
    console: Console,
    out: Path,
    experiment: Path | None,
    asked: dict[str, Any],
    settings: dict[str, Any],
    *,
    fast: bool,
    overwrite: bool,
    tensorboard: bool,
    quiet: bool,
) -> None:
    from common.errors import ReleaseError
    from simulations.options import SimulationOptions, experiment_options
    from simulations.pipeline.progress import Screen
    from simulations.pipeline.simulate import Simulation  # torch loads here, not before

    options = experiment_options(experiment) if experiment else {}
    given = {name: value for name, value in asked.items() if value is not None}
    chosen = {name: value for name, value in settings.items() if value is not None}
    merged = {**options, **given, "settings": {**options.get("settings", {}), **chosen}}
    if fast or merged.get("refresh_of"):
        merged |= {"solo": False, "baselines": False}
    if tensorboard:
        merged["tensorboard"] = True
    simulation = SimulationOptions(out=out, overwrite=overwrite, **merged)
    if simulation.data is None:
        console.print("Data: the synthetic marketplace, made up. For a real shop: --data FOLDER")
    cache = Path(os.environ.get("FEDTAIL_CACHE") or Path.home() / ".cache" / "fedtail")
    with Screen(console, quiet=quiet) as screen:
        results = Simulation(simulation, screen, cache).run()
    show(console, results, out)
    if results.gate is not None and not results.gate.passed:
        raise ReleaseError(f"No release: {results.gate.reason}.", field="gate")


def show(console: Console, results: Any, out: Path) -> None:
    """Print what a run came to."""
    from client.node.settings import merchant_folders
    from common.audit.layout import PUBLIC_KEY
    from simulations.federation.refresh import merchants_of
    from simulations.report.terminal import (
        comparison_table,
        gains_table,
        gate_line,
        held_out_table,
        neighbours_table,
        own_best_line,
        privacy_table,
        size_table,
    )

    console.print(comparison_table(results))
    console.print(privacy_table(results))
    if results.privacy.run is not None:
        console.print(neighbours_table(results))
    if results.fairness is not None:
        console.print(gains_table(results.fairness))
    if results.by_size:
        console.print(size_table(results.by_size))
    if results.fairness is not None and results.fairness.own_best is not None:
        console.print(own_best_line(results.fairness.own_best), highlight=False)
    if results.held_out is not None:
        console.print(held_out_table(results))
    console.print(examples_table(results))
    if results.dataset.synthetic:
        console.print("These shops are synthetic. For a real shop: fedtail simulate --data FOLDER")
    console.print(f"Release gate: {gate_line(results)}", highlight=False)
    for name in ("report.html", "results.json", *(("release",) if results.release else ())):
        console.print(f"{name:<13} {out / name}", highlight=False)
    key, program = out / PUBLIC_KEY, _program()
    check = f"{program} audit run {out} --key {key}"
    console.print(f"{'check it':<13} {check}", highlight=False, soft_wrap=True)
    if results.release:
        shop = merchant_folders(merchants_of(out))[0]
        page = f"{program} client open --release {out / 'release'} --key {key} --shop {shop}"
        console.print(f"{'look at it':<13} {page}", highlight=False, soft_wrap=True)


def _program() -> str:
    """Return how this program was called, so that a command works as it is printed."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "fedtail" and not called.is_absolute() else "fedtail"


def examples_table(results: Any) -> Table:
    """Return the example recommendations: a history, and what is recommended for it."""
    table = Table(title="Example recommendations", box=None, pad_edge=False)
    table.add_column("bought")
    table.add_column("recommended (bucket)")
    for example in results.examples:
        bought = "\n".join(escape(title) for title in example.history)
        found = "\n".join(
            f"{escape(one.title)} [dim]({one.bucket})[/dim]" for one in example.recommendations[:3]
        )
        table.add_row(bought, found, end_section=True)
    return table


def settings_table() -> Table:
    """Return every run setting with its default and meaning."""
    from common.settings.run import RunSettings  # its accountants take seconds to import

    table = Table(title="Run settings: --set NAME=VALUE, or [settings] in an experiment file")
    for heading in ("setting", "default", "meaning"):
        table.add_column(heading)
    for name, field in RunSettings.model_fields.items():
        table.add_row(name, str(field.default), field.description or "")
    return table


def _numbers(text: str) -> tuple[float, ...]:
    from common.errors import SettingsError

    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise SettingsError(
            f"--epsilon-curve {text!r} is not a list of numbers, such as inf,8,4,2,1.",
            field="epsilon_curve",
        ) from None


def _named(pairs: list[str]) -> dict[str, str]:
    from common.errors import InputError

    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--set {pair!r} is not NAME=VALUE.", field="set")
        named[name.strip()] = value.strip()
    return named
