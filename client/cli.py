"""`fedtail client`: what a merchant runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client.options import Device, Shop
from client.privacy.cli import app as ledger_app
from client.recommending.cli import app as recommending
from client.serving.cli import app as serving
from common.errors import InputError

app = typer.Typer(
    help="The merchant's side: bring the shop in, and recommend with a release.",
    no_args_is_help=True,
)

app.add_typer(recommending)
app.add_typer(serving)
app.add_typer(ledger_app)  # without a name: its commands stand beside the others

Node = Annotated[Path, typer.Option(help="The node's folder.")]


@app.command("import")
def import_(
    out: Annotated[Path | None, typer.Option(help="Folder for the clean data set.")] = None,
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
    catalogue_only: Annotated[
        bool,
        typer.Option("--catalogue-only", help="Items and no purchase: a shop that opens today."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Show what an import would do, and write nothing.")
    ] = False,
) -> None:
    """Read a shop's catalogue and events, clean them, and say what was dropped and why."""
    from client.importing import shop_import  # Polars loads here, not before
    from client.importing.parts.reading_bar import reading_bar

    if source is None and database_url is None:
        raise InputError("Give the shop's tables: --source or --database-url.", field="source")
    if check:
        look = shop_import.look_at_shop(
            source,
            mapping,
            database_url=database_url,
            encoding=encoding,
            catalogue_only=catalogue_only,
        )
        Console().print(look)
        return
    if out is None:
        raise InputError("Give --out, the data set's folder, or --check.", field="out")
    with reading_bar(Console(stderr=True)) as watch:
        _, report = shop_import.import_shop(
            source,
            mapping,
            out,
            max_dropped_share=max_dropped_share,
            database_url=database_url,
            encoding=encoding,
            catalogue_only=catalogue_only,
            watch=watch,
        )
    Console().print(report)


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="A new folder for the node.")],
    invite: Annotated[Path, typer.Option(help="The operator's invite file.")],
    shop: Shop,
    address: Annotated[
        str, typer.Option(help="Where the node answers /health, on this machine only.")
    ] = "127.0.0.1:9094",
) -> None:
    """Make the node's key and settings from an invite, and the request for the operator."""
    from datetime import UTC, datetime

    from client.deployment.provisioning import init_node
    from common.identity.enrolment import Invite
    from common.identity.signing_key import PublicKey

    opened = Invite.load(invite)
    node = init_node(folder, opened, shop, datetime.now(UTC), address=address)
    key = PublicKey.from_pem(opened.enrolment_key.encode())
    print_ = Console().print
    print_(f"Compare with the operator, by voice: {key.key_id}", soft_wrap=True, highlight=False)
    print_(f"Then send the operator {node.request}. It holds no secret.", soft_wrap=True)


@app.command()
def start(folder: Node, _: Device = None) -> None:
    """Run the node until Ctrl-C: connect to the server, and train when it asks."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.shop_check import require_shop
    from client.deployment.supernode import run_node

    require_shop(NodeFolder(folder).config().data)
    run_node(NodeFolder(folder), lambda line: Console().print(line, soft_wrap=True))


@app.command()
def fetch(
    folder: Node,
    source: Annotated[
        str,
        typer.Option("--from", help="Address or folder of the releases, if not the node's own."),
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Take the latest also after you rolled back from it.")
    ] = False,
) -> None:
    """Fetch the operator's latest release, verify it and switch to it; else keep what is in use."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.release_download import fetch_release

    def say(line: str) -> None:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)

    fetched = fetch_release(NodeFolder(folder), source, say=say, again=again)
    Console().print(f"Verified: {fetched.place}", soft_wrap=True)
    own = fetched.own
    if own.charged or own.listed:
        said = f"All {own.charged} countersigned charges of this node are in its statement, and "
        unused = f"; {own.unused} were not used" if own.unused else ""
        Console().print(f"{said}{own.listed} of its contributions are in it{unused}.")


@app.command()
def rollback(
    folder: Node,
    to: Annotated[
        str | None, typer.Option(help="The version; else the newest before the one in use.")
    ] = None,
) -> None:
    """Go back to an older release that is kept; fetch leaves it so until there is a newer one."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.release_download import roll_back

    version = roll_back(NodeFolder(folder), to)
    Console().print(f"Release {version} is in use. `fetch --again` undoes it.", soft_wrap=True)


@app.command()
def trust(
    folder: Node,
    root: Annotated[
        Path, typer.Option(help="The operator's root.json.", exists=True, dir_okay=False)
    ],
    fingerprint: Annotated[str, typer.Option(help="Its 64 digits, as the operator read them out.")],
) -> None:
    """Take another root of trust for releases: where the old one is lost, or there was none."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.release_repository import pin_root

    node = NodeFolder(folder)
    node.config()  # a folder of another kind is said here
    pin_root(node, root.read_bytes(), fingerprint)
    Console().print("The node trusts it for releases from its next fetch on.")


@app.command()
def catalogue(
    shop: Shop,
    out: Annotated[Path, typer.Option(help="The file for the operator.")],
) -> None:
    """Write the shop's items for the operator: titles and texts, public by declaration."""
    from client.shop.dataset import load_merchant_data
    from common.catalogue import write_catalogue

    items = load_merchant_data(shop).catalogue
    write_catalogue(items, out)
    Console().print(f"{out}: {len(items)} items. No purchase is in it.", soft_wrap=True)


@app.command()
def rotate(
    folder: Node,
    done: Annotated[
        bool, typer.Option("--done", help="The operator has enrolled the new key: use it.")
    ] = False,
) -> None:
    """Ask for a new key; with --done, take it into use."""
    from datetime import UTC, datetime

    from client.deployment.provisioning import NodeFolder, finish_rotation, request_rotation

    node = NodeFolder(folder)
    if done:
        finish_rotation(node)
        Console().print("The node uses its new key from its next start on.")
    else:
        path = request_rotation(node, datetime.now(UTC))
        Console().print(f"Send the operator {path}. Then: rotate --done", soft_wrap=True)
