"""`fedtail client`: what a merchant runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="The merchant's side: bring the shop in, and recommend with a release.",
    no_args_is_help=True,
)


@app.command("import")
def import_(
    out: Annotated[Path, typer.Option(help="Folder for the clean data set.")],
    source: Annotated[
        Path | None, typer.Option(help="Folder or file: CSV, TSV, Parquet, JSON Lines, also .gz.")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="FEDTAIL_DATABASE_URL",
            help="A database instead; a password is safer in the variable than here.",
        ),
    ] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Ready-made mapping's name, or a TOML file. Else detected.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as gb18030.")] = None,
    max_dropped_share: Annotated[
        float, typer.Option(help="Fail if more than this share of a table's rows is dropped.")
    ] = 0.35,
) -> None:
    """Read a shop's catalogue and events, clean them, and say what was dropped and why."""
    from client.importing import import_shop  # Polars loads here, not before
    from common.errors import InputError

    if source is None and database_url is None:
        raise InputError("Give the shop's tables: --source or --database-url.", field="source")
    _, report = import_shop(
        source,
        mapping,
        out,
        database_url=database_url,
        encoding=encoding,
        max_dropped_share=max_dropped_share,
    )
    Console().print(report)


@app.command()
def recover(
    shop: Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")],
    journal: Annotated[Path, typer.Option(help="The server's journal, from the operator.")],
    key: Annotated[str, typer.Option(help="The journal's public key in hex, from the operator.")],
    merchant: Annotated[
        str | None, typer.Option(help="The name in the federation; else the folder's.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The folder of the ledger; else `node` in the shop's.")
    ] = None,
) -> None:
    """Charge what a ledger lacks that went back, so that the node may train again."""
    from client.budget import fingerprint
    from client.dataset import load_merchant_data
    from client.recovery import recover as recover_ledger
    from client.work import LEDGER_FILE
    from common.privacy.journal import load_journal
    from common.privacy.ledger import Ledger

    entries = load_journal(journal, key)
    data, path = load_merchant_data(shop), (state or shop / "node") / LEDGER_FILE
    name = merchant or shop.resolve().name
    ledger = Ledger.rebind(path, name, fingerprint(data.interactions, data.catalogue, path))
    written = recover_ledger(ledger, entries)
    for entry in written:
        typer.echo(
            f"entry {entry.number}: {entry.steps} step(s) at q = {entry.sample_rate:g}, "
            f"sigma = {entry.noise_multiplier:g}"
        )
    typer.echo("The ledger is whole." if written else "The ledger lacks nothing.")


@app.command()
def recommend(
    release: Annotated[Path, typer.Option(help="The release's folder.")],
    key: Annotated[Path, typer.Option(help="The operator's public key, from a way you trust.")],
    shop: Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")],
    shopper: Annotated[str | None, typer.Option(help="A shopper's id.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(help="An item's id or title; repeat it, the latest purchase last."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many items.")] = 10,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for encodings; else within the shop's folder.")
    ] = None,
) -> None:
    """Verify a release, then rank the shop's catalogue for a shopper or a history."""
    from client.dataset import load_merchant_data  # torch loads here, not before
    from client.recommending import Recommender
    from common.errors import InputError
    from common.release.signing import PublicKey
    from common.release.verifying import verify_release

    if (shopper is None) == (not history):
        raise InputError("Name a --shopper or a --history, and not both.", field="history")
    verified = verify_release(release, PublicKey.load(key))
    recommender = Recommender(verified, load_merchant_data(shop), cache or shop / "node" / "cache")
    if shopper is not None:
        found = recommender.for_shopper(shopper, top)
    else:
        found = recommender.for_history(history or [], top)
    table = Table(title=f"Release {verified.manifest.version}, verified")
    for heading in ("", "item", "title", "score", "shop", "text"):
        table.add_column(
            heading, justify="right" if heading in {"score", "shop", "text"} else "left"
        )
    for place, one in enumerate(found, 1):
        numbers = (f"{value:.2f}" for value in (one.score, one.from_shop, one.from_text))
        table.add_row(str(place), one.item.item_id, one.item.title, *numbers)
    Console().print(table)


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="A new folder for the node.")],
    invite: Annotated[Path, typer.Option(help="The operator's invite file.")],
    shop: Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")],
    address: Annotated[
        str, typer.Option(help="Where the node answers /health, on this machine only.")
    ] = "127.0.0.1:9094",
) -> None:
    """Make the node's key and settings from an invite, and the request for the operator."""
    from datetime import UTC, datetime

    from client.provisioning import init_node
    from common.enrolment import Invite
    from common.release.signing import PublicKey

    opened = Invite.load(invite)
    node = init_node(folder, opened, shop, datetime.now(UTC), address=address)
    key = PublicKey.from_pem(opened.enrolment_key.encode())
    print_ = Console().print
    print_(f"Compare with the operator, by voice: {key.key_id[:32]}")
    print_(f"Then send the operator {node.request}. It holds no secret.", soft_wrap=True)


@app.command()
def start(folder: Annotated[Path, typer.Option(help="The node's folder.")]) -> None:
    """Run the node until Ctrl-C: connect to the server, and train when it asks."""
    from client.provisioning import NodeFolder
    from client.starting import run_node

    run_node(NodeFolder(folder), lambda line: Console().print(line, soft_wrap=True))


@app.command()
def fetch(folder: Annotated[Path, typer.Option(help="The node's folder.")]) -> None:
    """Fetch the operator's latest release, verify it and keep it in the node's folder."""
    from client.fetching import fetch_release
    from client.provisioning import NodeFolder

    place, _ = fetch_release(NodeFolder(folder))
    Console().print(f"Verified: {place}", soft_wrap=True)


@app.command()
def catalogue(
    shop: Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")],
    out: Annotated[Path, typer.Option(help="The file for the operator.")],
) -> None:
    """Write the shop's items for the operator: titles and texts, public by declaration."""
    from client.dataset import load_merchant_data
    from common.catalogue_file import write_catalogue

    items = load_merchant_data(shop).catalogue
    write_catalogue(items, out)
    Console().print(f"{out}: {len(items)} items. No purchase is in it.", soft_wrap=True)


@app.command()
def rotate(
    folder: Annotated[Path, typer.Option(help="The node's folder.")],
    done: Annotated[
        bool, typer.Option("--done", help="The operator has enrolled the new key: use it.")
    ] = False,
) -> None:
    """Ask for a new key; with --done, take it into use."""
    from datetime import UTC, datetime

    from client.provisioning import NodeFolder, finish_rotation, request_rotation

    node = NodeFolder(folder)
    if done:
        finish_rotation(node)
        Console().print("The node uses its new key from its next start on.")
    else:
        path = request_rotation(node, datetime.now(UTC))
        Console().print(f"Send the operator {path}. Then: rotate --done", soft_wrap=True)
