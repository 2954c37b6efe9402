"""The commands of `fedtail client` for the ledger: what is spent, left, lost and put away."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.errors import InputError

app = typer.Typer()

Shop = Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")]
Merchant = Annotated[
    str | None, typer.Option(help="The name in the federation; else the folder's.")
]
State = Annotated[
    Path | None, typer.Option(help="The folder of the ledger; else `node` in the shop's.")
]


@app.command()
def recover(
    shop: Shop,
    journal: Annotated[Path, typer.Option(help="The server's journal, from the operator.")],
    key: Annotated[str, typer.Option(help="The journal's public key in hex, from the operator.")],
    merchant: Merchant = None,
    state: State = None,
) -> None:
    """Charge what a ledger lacks that rolled back, so that the node may train again."""
    from client.privacy.budget import open_ledger
    from client.privacy.recovery import recover as recover_ledger
    from common.privacy.ledger.journal import load_journal

    entries = load_journal(journal, key)
    if not shop.is_dir():
        raise InputError(f"There is no folder {shop}.", field="shop")
    ledger = open_ledger(_ledger(shop, state), merchant or shop.resolve().name)
    written = recover_ledger(ledger, entries)
    for entry in written:
        typer.echo(
            f"entry {entry.number}: {entry.steps} step(s) at q = {entry.sample_rate:g}, "
            f"sigma = {entry.noise_multiplier:g}"
        )
    typer.echo("The ledger is whole." if written else "The ledger lacks nothing.")


@app.command("export-ledger")
def export_ledger(
    shop: Shop,
    out: Annotated[Path, typer.Option(help="The file to write, such as NAME.jsonl.")],
    state: State = None,
) -> None:
    """Write the ledger as text for an auditor: every entry and signature, and no secret."""
    from common.files import write_atomic
    from common.privacy.ledger.export import export_ledger as as_text
    from common.privacy.ledger.export import read_ledger

    content = as_text(_ledger(shop, state))
    write_atomic(out, content)
    entries = read_ledger(content)
    check = f"fedtail audit ledger {out}"
    if entries:
        check += f" --signer {entries[-1].signer}"
    Console().print(f"{out}: {len(entries)} entries. Check: {check}", soft_wrap=True)


@app.command("retire-ledger")
def retire_ledger(
    merchant: Annotated[str, typer.Argument(help="The name on the ledger, to be sure.")],
    shop: Shop,
    reason: Annotated[str, typer.Option(help="Why; it is signed and stays on record.")],
    yes: Annotated[
        bool,
        typer.Option(
            "--yes-what-was-spent-is-forgotten",
            help="What was spent on these shoppers will not count any more.",
        ),
    ] = False,
    state: State = None,
) -> None:
    """Close a ledger for good and put it away: the next one starts with the whole budget.

    MERCHANT is the name on the ledger, to be sure that it is that one.

    For shoppers who are others than before. Nothing is deleted, and a server that has countersigned
    the old ledger refuses the new one until it has charged the same.
    """
    from client.privacy.retirement import retire, retired_path

    if not yes:
        raise InputError(
            "A new ledger forgets what was spent on shoppers who are still there; if that is meant,"
            " say --yes-what-was-spent-is-forgotten.",
            field="yes",
        )
    path = _ledger(shop, state)
    folder = retire(path, merchant, reason)
    Console().print(f"Retired to {folder}; on record in {retired_path(path)}.", soft_wrap=True)


@app.command()
def budget(
    shop: Shop,
    rounds: Annotated[
        int, typer.Option(min=0, help="Of the run that is asked about; 0: a refresh.")
    ] = 40,
    sample_rate: Annotated[float, typer.Option(help="Its chance of a shopper in a step.")] = 0.25,
    epsilon: Annotated[float, typer.Option(help="What it should cost.")] = 4.0,
    merchant: Merchant = None,
    state: State = None,
) -> None:
    """Say what the shop's ledger has spent, what is left, and which run would still fit."""
    from client.privacy.budget import advice, counted_events, open_ledger
    from client.privacy.policy import read_policy
    from common.privacy.accounting.accountants import account
    from common.privacy.ledger.entry import spent_events
    from common.settings.run import RunSettings

    if not shop.is_dir():
        raise InputError(f"There is no folder {shop}.", field="shop")
    policy, path = read_policy(shop), _ledger(shop, state)
    name = merchant or shop.resolve().name
    entries = open_ledger(path, name).entries() if path.exists() else ()
    spent = spent_events(entries)
    values: dict[str, Any] = {"rounds": rounds, "sample_rate": sample_rate, "epsilon": epsilon}
    values |= {"season_ends": datetime.now(UTC).date().isoformat()} if policy.allow_season else {}
    if not rounds:
        if not (policy.allow_season and policy.allow_refresh):
            typer.echo("The policy allows no refresh.")
            return
        values |= {"refresh_of": "0" * 64, "audit_canaries": 0}  # of any release
    plan = RunSettings.from_flat({**values, "delta": policy.delta}).plan()
    report = account(spent, policy.delta)
    typer.echo(
        f"{len(entries)} entries on the ledger. Epsilon {report.pld:.3f} by PLD, {report.prv:.3f} "
        f"by PRV, {report.rdp:.3f} by RDP at delta {policy.delta:.3g}; ceiling "
        f"{policy.max_epsilon:.4g}."
    )
    if policy.budget_days:
        typer.echo(f"The ceiling counts the last {policy.budget_days} days.")
    typer.echo(advice(counted_events(entries, policy), plan, policy))


def _ledger(shop: Path, state: Path | None) -> Path:
    from client.privacy.budget import LEDGER_FILE

    return (state or shop / "node") / LEDGER_FILE
