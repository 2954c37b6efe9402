"""The journal's view as tables for a terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.console import RenderableType
from rich.table import Column, Table

from server.monitoring.journal_page import in_kilobytes
from server.monitoring.journal_view import JournalView, RoundView, RunView


def journal_tables(view: JournalView) -> Iterator[RenderableType]:
    """Yield what `fedtail server journal` prints."""
    yield f"{view.entries} entries, all checked. The journal's key: {view.signer}"
    for run in view.runs:
        yield _run(run)
        if run.unfinished:
            rounds = ", ".join(str(number) for number in run.unfinished)
            yield f"Charged for and not finished: round {rounds}."
    merchants = Table(
        Column("merchant", overflow="fold"),
        *("rounds", "entries", "steps", "ε spent", "at δ", "head", "key"),
        title="Merchants, by their last ledger head",
        box=SIMPLE,
    )
    for one in view.merchants:
        counts = (str(number) for number in (one.rounds, one.entries, one.steps))
        spent = (f"{one.epsilon:.2f}", f"{one.delta:.0e}")
        merchants.add_row(one.name, *counts, *spent, one.head[:8], one.key[:8])
    yield merchants
    if view.refusals:
        refusals = Table("time", "merchant", "reason", title="Refused", box=SIMPLE)
        for refusal in view.refusals:
            refusals.add_row(refusal.time, refusal.merchant, refusal.reason)
        yield refusals
    if view.releases:
        releases = Table("version", "created", "merchants", title="Releases", box=SIMPLE)
        for release in view.releases:
            releases.add_row(release.version, release.created, ", ".join(release.merchants))
        yield releases


def _run(run: RunView) -> Table:
    starts = "started once" if run.started == 1 else f"started {run.started} times"
    released = f"; release {run.release}" if run.release else ""
    table = Table(
        *("round", "closed (UTC)", "merchants", "failed", "seconds", "sent", "received", "ε"),
        title=f"{run.name}: {len(run.rounds)} of {run.planned} rounds, {starts}{released}",
        caption=run.plan,
        box=SIMPLE,
    )
    for one in run.rounds:
        table.add_row(*_cells(one))
    return table


def _cells(one: RoundView) -> tuple[str, ...]:
    return (
        str(one.round_number),
        one.time[:19].replace("T", " "),
        str(len(one.merchants)),
        "" if one.failures is None else str(one.failures),
        "" if one.seconds is None else f"{one.seconds:.1f}",
        in_kilobytes(one.bytes_down),
        in_kilobytes(one.bytes_up),
        "" if one.epsilon is None else f"{one.epsilon:.2f}",
    )
