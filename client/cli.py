"""`fedtail client`: what a merchant runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from client.privacy.cli import app as ledger_app
from common.errors import InputError

if TYPE_CHECKING:
    from common.release.verify import VerifiedRelease

app = typer.Typer(
    help="The merchant's side: bring the shop in, and recommend with a release.",
    no_args_is_help=True,
)

app.add_typer(ledger_app)  # without a name: its commands stand beside the others

RULES = "Rules: what may be recommended"

Release = Annotated[Path, typer.Option(help="The release's folder.")]
Key = Annotated[Path, typer.Option(help="The operator's public key, from a way you trust.")]
Shop = Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder for encodings; else within the shop's folder.")
]
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
    check: Annotated[
        bool, typer.Option("--check", help="Show what an import would do, and write nothing.")
    ] = False,
) -> None:
    """Read a shop's catalogue and events, clean them, and say what was dropped and why."""
    from client.importing import shop_import  # Polars loads here, not before

    if source is None and database_url is None:
        raise InputError("Give the shop's tables: --source or --database-url.", field="source")
    place = {"database_url": database_url, "encoding": encoding}
    if check:
        Console().print(shop_import.look_at_shop(source, mapping, **place))
        return
    if out is None:
        raise InputError("Give --out, the data set's folder, or --check.", field="out")
    _, report = shop_import.import_shop(
        source, mapping, out, max_dropped_share=max_dropped_share, **place
    )
    Console().print(report)


@app.command()
def recommend(
    release: Release,
    key: Key,
    shop: Shop,
    shopper: Annotated[str | None, typer.Option(help="A shopper's id.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(help="An item's id or title; repeat it, the latest purchase last."),
    ] = None,
    new_shopper: Annotated[
        bool, typer.Option("--new-shopper", help="Somebody of whom nothing is known yet.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many items.")] = 10,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why: each score's parts, and the chief reason.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with all parts of each score.")
    ] = False,
    new_items: Annotated[
        Path | None,
        typer.Option(
            help="Table of items newer than the import: item_id, title, [text, category]."
        ),
    ] = None,
    filters: Annotated[
        Path | None, typer.Option(help="TOML file with the rules below.", rich_help_panel=RULES)
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Only these items: an id; repeat it.", rich_help_panel=RULES),
    ] = None,
    deny: Annotated[
        list[str] | None,
        typer.Option(help="Never this item: an id; repeat it.", rich_help_panel=RULES),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Only this category; repeat it for more.", rich_help_panel=RULES),
    ] = None,
    not_category: Annotated[
        list[str] | None,
        typer.Option(help="Never this category; repeat it for more.", rich_help_panel=RULES),
    ] = None,
    stock: Annotated[
        Path | None,
        typer.Option(
            help="Table with item_id and quantity; what is not there is left out.",
            rich_help_panel=RULES,
        ),
    ] = None,
    keep_bought: Annotated[
        bool,
        typer.Option("--keep-bought", help="Also what was bought before.", rich_help_panel=RULES),
    ] = False,
    tail_boost: Annotated[
        float,
        typer.Option(
            min=0, max=2, help="0 favours the head, 2 the tail; `benefit` shows what it costs."
        ),
    ] = 1.0,
    cache: Cache = None,
) -> None:
    """Verify a release, then rank the shop's catalogue for a shopper or a history.

    Rules decide before the best are picked: the list has as many items as you ask for, or all
    that pass. Nothing of it leaves this machine.
    """
    from client.recommending.filters import Filters, read_stock
    from client.recommending.new_items import read_new_items
    from client.recommending.output import explained_list, list_json, list_table
    from client.recommending.recommender import Recommender
    from client.shop.dataset import load_merchant_data  # torch loads here, not before

    if sum((shopper is not None, bool(history), new_shopper)) != 1:
        raise InputError(
            "Name one of --shopper, --history and --new-shopper, and not two of them.",
            field="history",
        )
    rules = Filters(
        allow=allow or None,
        deny=deny or (),
        categories=category or None,
        not_categories=not_category or (),
        in_stock=None if stock is None else read_stock(stock),
        keep_bought=keep_bought,
    )
    if filters is not None:
        rules = Filters.from_toml(filters).joined(rules)
    more = [] if new_items is None else read_new_items(new_items)
    verified, data = _verified(release, key), load_merchant_data(shop)
    recommender = Recommender(verified, data, cache or shop / "node" / "cache", more, tail_boost)
    if shopper is not None:
        found = recommender.for_shopper(shopper, top, rules)
    else:
        found = recommender.for_history(history or [], top, rules)
    version = verified.manifest.version
    if as_json:
        typer.echo(list_json(found, recommender.catalogue, version))
        return
    title = f"Release {version}, verified"
    Console().print(
        explained_list(found, recommender.catalogue, title) if explain else list_table(found, title)
    )
    if len(found) < top:
        Console().print(f"Only {len(found)} item(s) pass the rules; {top} were asked for.")


@app.command()
def benefit(
    release: Release,
    key: Key,
    shop: Shop,
    solo: Annotated[
        Path | None, typer.Option(help="A release that this shop trained alone, to compare with.")
    ] = None,
    solo_key: Annotated[Path | None, typer.Option(help="The public key of that release.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every metric.")] = False,
    cache: Cache = None,
) -> None:
    """Join or stay solo: what a release brings to this shop, on the shop's own shoppers.

    Compares, on the validation period, popularity and the shop's own purchases, with and without
    their trend, with frozen text, a solo adapter if there is one, and the release, these alone and
    fused with what the shop has itself. It all happens on this machine; nothing is written but
    encodings of public text, and nothing is sent.
    """
    from client.ranking.released_vectors import released_vectors
    from client.recommending.join_benefit import measure_benefit  # torch loads here, not before
    from client.recommending.join_benefit_output import benefit_json, benefit_page
    from client.shop.dataset import load_merchant_data

    if (solo is None) != (solo_key is None):
        raise InputError("Give --solo and its --solo-key together.", field="solo")
    verified, data = _verified(release, key), load_merchant_data(shop)
    place = cache or shop / "node" / "cache"
    alone = None
    if solo is not None and solo_key is not None:
        alone = released_vectors(_verified(solo, solo_key), data.catalogue, place)
    joined = released_vectors(verified, data.catalogue, place)
    found = measure_benefit(data, joined, alone)
    version = verified.manifest.version
    took_part = data.catalogue.digest in verified.manifest.catalogues.values()
    if as_json:
        typer.echo(benefit_json(found, version, took_part=took_part))
    else:
        Console().print(benefit_page(found, data.name, version, took_part=took_part))


def _verified(release: Path, key: Path) -> "VerifiedRelease":
    from common.identity.signing_key import PublicKey
    from common.release.verify import verify_release

    return verify_release(release, PublicKey.load(key))


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
    print_(f"Compare with the operator, by voice: {key.key_id[:32]}")
    print_(f"Then send the operator {node.request}. It holds no secret.", soft_wrap=True)


@app.command()
def start(folder: Node) -> None:
    """Run the node until Ctrl-C: connect to the server, and train when it asks."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.shop_check import require_shop
    from client.deployment.supernode import run_node

    require_shop(NodeFolder(folder).config().data)
    run_node(NodeFolder(folder), lambda line: Console().print(line, soft_wrap=True))


@app.command()
def fetch(folder: Node) -> None:
    """Fetch the operator's latest release, verify it and keep it in the node's folder."""
    from client.deployment.provisioning import NodeFolder
    from client.deployment.release_download import fetch_release

    fetched = fetch_release(NodeFolder(folder))
    Console().print(f"Verified: {fetched.place}", soft_wrap=True)
    own = fetched.own
    if own.charged or own.listed:
        said = f"All {own.charged} countersigned charges of this node are in its statement, and "
        unused = f"; {own.unused} were not used" if own.unused else ""
        Console().print(f"{said}{own.listed} of its contributions are in it{unused}.")


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
