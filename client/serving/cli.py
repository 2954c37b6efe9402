"""`fedtail client serve`, `keys` and `replay`: the service, who may ask it, and its receipts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.options import Cache, Device, Key, Model, Release, Shop
from common.errors import FedtailError

if TYPE_CHECKING:
    from client.serving.run import Serving

app = typer.Typer()
keys = typer.Typer(help="Keys of the service.", no_args_is_help=True)
app.add_typer(keys, name="keys")

MODEL_FOLDER = "model"  # in the shop's folder
KEYS_FILE = "keys.json"  # in `node` of the shop's folder
EVENTS_FILE = "events.db"  # there too

StoreAddress = Annotated[
    str | None,
    typer.Option(
        envvar="FEDTAIL_STORE",
        help="SQLAlchemy's address of the events; else a SQLite file in the shop's folder.",
    ),
]


@app.command()
def serve(
    release: Release,
    key: Key,
    shop: Shop,
    model: Model = None,
    store: StoreAddress = None,
    host: Annotated[str, typer.Option(help="Beyond this machine only with TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8080,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for TLS.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file, for TLS.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second for each key.")] = 200.0,
    burst: Annotated[int, typer.Option(min=1, help="Requests of a key at once.")] = 400,
    arm_release: Annotated[
        list[Path] | None, typer.Option(help="Another release, for an experiment; repeat it.")
    ] = None,
    cache: Cache = None,
    _: Device = None,
) -> None:
    """Serve recommendations and the page over HTTP, and take events, until Ctrl-C.

    A model that `fit` puts into the folder meanwhile takes over without a request lost.
    """
    from client.serving.http.gate import Rate
    from client.serving.run import run_service

    serving = replace(
        _serving(release, key, shop, model, store, cache),
        host=host,
        port=port,
        certificate=certificate,
        private_key=private_key,
        rate=Rate(rate, burst),
        arm_releases=tuple(arm_release or ()),
    )
    run_service(serving, lambda line: Console().print(line, soft_wrap=True))


@app.command("open")
def open_(
    release: Release,
    key: Key,
    shop: Shop,
    model: Model = None,
    store: StoreAddress = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The first port to try; others follow.")
    ] = 8080,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is a screen.")] = True,
    cache: Cache = None,
    _: Device = None,
) -> None:
    """Open the page of a shop: fit the model if that is due, serve on this machine, sign in.

    As `serve` on 127.0.0.1; the printed address lets one browser in without a key.
    """
    from client.serving.opening import open_page

    serving = replace(_serving(release, key, shop, model, store, cache), port=port)
    open_page(serving, lambda line: Console().print(line, soft_wrap=True), browser=browser)


@app.command()
def replay(
    recommendation_id: Annotated[str, typer.Argument(help="Of a list that was served.")],
    shop: Shop,
    model: Model = None,
    store: StoreAddress = None,
) -> None:
    """Make a served list again: its release, its inputs, the exact parts, and whether it is same.

    RECOMMENDATION_ID is what came with the list.

    The model must be the one that served it.
    """
    from client.serving.feedback.store import Store
    from client.serving.replay import replay as make_again

    opened = Store(store or _events(shop))
    try:
        found = make_again(opened, recommendation_id, model or shop / MODEL_FOLDER)
    finally:
        opened.close()
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    if not found["same"]:
        raise FedtailError("The list is not the one that was served.")


@keys.command("new")
def new_key(
    shop: Shop,
    name: Annotated[str, typer.Option(help="Whose it is, for `list`.")],
    scope: Annotated[list[str], typer.Option(help="serve, events or admin; repeat it.")],
) -> None:
    """Make a key and print it. It is shown this once; its hash is kept."""
    from client.serving.keys import Keys

    typer.echo(Keys(_keys(shop)).new(name, scope))


@keys.command("list")
def list_keys(shop: Shop) -> None:
    """Show ids, names and scopes of the keys that are valid."""
    from client.serving.keys import Keys

    table = Table("id", "name", "scopes", "made")
    for one in Keys(_keys(shop)).all():
        table.add_row(one.key_id, one.name, ", ".join(one.scopes), one.created)
    Console().print(table)


@keys.command("revoke")
def revoke_key(
    shop: Shop, key_id: Annotated[str, typer.Option(help="As `list` shows it.")]
) -> None:
    """Take a key out: a running service refuses it from its next request on."""
    from client.serving.keys import Keys

    Keys(_keys(shop)).revoke(key_id)


def _serving(
    release: Path, key: Path, shop: Path, model: Path | None, store: str | None, cache: Path | None
) -> "Serving":
    """Return where a service of this shop finds its things."""
    from client.serving.run import Serving

    return Serving(
        release=release,
        key=key,
        shop=shop,
        model=model or shop / MODEL_FOLDER,
        store=store or _events(shop),
        keys=_keys(shop),
        cache=cache or shop / "node" / "cache",
    )


def _keys(shop: Path) -> Path:
    return shop / "node" / KEYS_FILE


def _events(shop: Path) -> str:
    return f"sqlite:///{(shop / 'node' / EVENTS_FILE).resolve()}"
