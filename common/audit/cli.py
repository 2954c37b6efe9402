"""`fedtail audit`: what an auditor runs, offline, on files that somebody exported."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.audit.findings import Check, Report

HELP = """
Check what was claimed about privacy, from exported files, trusting nobody.

Works offline and needs no torch. Exit code 0: nothing is wrong. 1: something is, and each finding
names the file, the entry and the field. 2: the command was not understood. 3: nothing is wrong, but
the key came with the files, so that somebody may have made up all of them: give the one you trust.
"""

FAILED, NOT_AUTHENTICATED = 1, 3  # exit codes
_KEY_OPTION = {"ledger": "--signer", "release": "--key", "run": "--key"}

app = typer.Typer(help=HELP, no_args_is_help=True)

_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the report as JSON and HTML; else beside what is audited."),
]
_STYLES = {"passed": "green", "noted": "yellow", "skipped": "yellow", "failed": "bold red"}
_WORDS = {"passed": "passed", "noted": "note", "skipped": "not made", "failed": "FAILED"}


_Parent = Annotated[
    Path | None,
    typer.Option(help="Of a refresh: the folder of the release whose adapter it keeps."),
]


@app.command()
def ledger(
    file: Path,
    journal: Annotated[
        Path | None, typer.Option(help="A server's journal, to hold the ledger against.")
    ] = None,
    signer: Annotated[
        str | None,
        typer.Option(
            help="The node's public key in hex, from a way you trust; else the one in the file, "
            "and exit code 3."
        ),
    ] = None,
    delta: Annotated[float, typer.Option(help="At which ε is computed.")] = 1e-5,
    out: _Out = None,
) -> None:
    """Check a merchant's ledger: chain, numbering, signatures; what all of it has spent.

    FILE is what `fedtail client export-ledger` wrote.
    """
    from common.audit.audits import audit_ledger

    report = audit_ledger(file, delta=delta, journal=journal, signer=signer)
    _finish(report, out or file.parent)


@app.command()
def release(
    folder: Path,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The operator's public key, from a way you trust; else operator.pub beside the "
            "folder, and exit code 3."
        ),
    ] = None,
    parent: _Parent = None,
    out: _Out = None,
) -> None:
    """Check a release: signature, files, statement, and the lower bounds from its canaries.

    FOLDER is the release's own.
    """
    from common.audit.audits import audit_release

    _finish(audit_release(folder, key, parent), out or folder.parent)


@app.command()
def run(
    folder: Path,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The operator's public key, from a way you trust; else operator.pub in the "
            "folder, and exit code 3."
        ),
    ] = None,
    parent: _Parent = None,
    out: _Out = None,
) -> None:
    """Check a whole run: release, journal and ledgers against each other, every number again.

    FOLDER holds release/, operator.pub, journal.jsonl and ledgers/*.jsonl, as `fedtail simulate`
    leaves them; of a refresh also parent/, unless --parent names it.
    """
    from common.audit.audits import audit_run

    _finish(audit_run(folder, key, parent), out or folder)


def _finish(report: "Report", out: Path) -> None:
    """Print the summary, write the reports and leave with the exit code."""
    from common.audit.page import render_page
    from common.errors import InputError
    from common.files import write_atomic

    console = Console()
    files = {
        f"audit-{report.kind}.json": report.model_dump_json(indent=1).encode() + b"\n",
        f"audit-{report.kind}.html": render_page(report).encode(),
    }
    show(console, report)
    try:
        for name, content in files.items():
            write_atomic(out / name, content)
            console.print(f"{name:<20} {out / name}", highlight=False, soft_wrap=True)
    except OSError as error:
        raise InputError(
            f"The report cannot be written to {out}: {error.strerror}. Give --out.", field="out"
        ) from error
    if not report.passed:
        sys.exit(FAILED if report.verdict == "failed" else NOT_AUTHENTICATED)


def show(console: Console, report: "Report") -> None:
    """Print the checks, the numbers, what is wrong and the verdict, in this order."""
    checks = Table(title=f"Audit of the {report.kind} {report.target}", title_justify="left")
    for heading in ("check", "result", "what was looked at"):
        checks.add_column(heading)
    for name in dict.fromkeys(one.name for one in report.checks):
        alike = [one for one in report.checks if one.name == name]
        worst = max(alike, key=lambda one: list(_WORDS).index(one.status)).status
        checks.add_row(Text(name), Text(_WORDS[worst], style=_STYLES[worst]), _looked_at(alike))
    console.print(checks)
    if report.merchants:
        console.print(_numbers(report))
    for name, key in report.keys.items():
        console.print(_plain(f"key  {name}: {key}", "dim"), soft_wrap=True)
    wrong = [finding for check in report.checks for finding in check.findings]
    for finding in wrong:
        console.print(Text.assemble(("WRONG ", "bold red"), _plain(str(finding))), soft_wrap=True)
    if wrong:
        console.print(Text(f"Failed: {len(wrong)} finding(s).", style="bold red"))
    else:
        notes = sum(one.status == "noted" for one in report.checks)
        more = f" Read the notes: {notes}." if notes else ""
        if report.passed:
            console.print(Text(f"Passed: nothing is wrong.{more}", style="bold green"))
            return
        said = (
            "Not authenticated: the files fit each other, but the key that they are checked with "
            f"came with them. Give the one you trust: {_KEY_OPTION[report.kind]}.{more}"
        )
        console.print(Text(said, style="bold yellow"), soft_wrap=True)


def _plain(text: str, style: str = "") -> Text:
    """Return a text as it may go to a terminal: names may hold codes that move the cursor."""
    kept = "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)
    return Text(kept, style=style)


def _looked_at(alike: "Sequence[Check]") -> Text:
    """Return what one check looked at; of many merchants, how many passed and what of the rest."""
    if len(alike) == 1:
        return _plain(alike[0].detail)
    others = [one for one in alike if one.status != "passed"]
    lines = [f"{len(alike) - len(others)} of {len(alike)} merchants"]
    lines += [f"{one.subject}: {one.detail or _WORDS[one.status]}" for one in others]
    return _plain("\n".join(lines))


def _numbers(report: "Report") -> Table:
    """Return the claim beside what was computed, one row a merchant."""
    table = Table(title="ε by merchant", title_justify="left", caption_justify="left")
    first, second = (report.accountants[name][:3] for name in ("first", "second"))
    headings = ("merchant", "claimed", first, second, "RDP", "lower bound", "δ", "entries")
    table.caption = " and ".join(report.accountants.values())
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "merchant" else "right")
    for one in report.merchants:
        values = (one.claimed, one.pld, one.second, one.rdp, one.lower)
        table.add_row(
            _plain(one.name),
            *("-" if value is None else f"{value:.3f}" for value in values),
            "-" if one.delta is None else f"{one.delta:.1e}",
            "-" if one.entries is None else str(one.entries),
        )
    return table
