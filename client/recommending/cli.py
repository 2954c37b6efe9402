"""`fedtail client fit`, `recommend` and `benefit`: a shop model, lists from it, and a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from client.options import Cache, Device, Key, Model, Release, Shop
from common.errors import InputError

if TYPE_CHECKING:
    from common.catalogue import Item
    from common.release.verify import VerifiedRelease

app = typer.Typer()

RULES = "Rules: what may be recommended"
MODEL_FOLDER = "model"  # in the shop's folder


@app.command()
def fit(
    release: Release,
    key: Key,
    shop: Shop,
    model: Model = None,
    keep: Annotated[
        int, typer.Option(min=1, max=50, help="How many models stay, this one with them.")
    ] = 5,
    cache: Cache = None,
    _: Device = None,
) -> None:
    """Fit the shop's model once, for `recommend` and `serve` to read.

    Whoever reads the model meanwhile keeps the old one: the new one takes its place when it is
    whole. The last few models are kept, to go back to. Nothing of it leaves this machine. Where a
    release is new in its season alone, and data and code are as they were, the season is all that
    changes in the model.
    """
    from client.recommending.model_fit import fit_and_keep  # torch loads here, not before

    folder = model or shop / MODEL_FOLDER
    made = fit_and_keep(release, key, shop, folder, cache or shop / "node" / "cache", most=keep)
    print_ = Console().print
    print_(f"{folder}: {made.items} items, release {made.release}.", soft_wrap=True)
    if made.season_alone:
        print_("The season is new; all else is as it was fitted.", soft_wrap=True)
    if made.season_counts is not None:
        print_(
            f"The release's season counts {made.season_counts:.0%}: the rest is noise, or the days "
            "since it was taken.",
            soft_wrap=True,
        )
    print_(f"Model {made.digest}", soft_wrap=True)


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
    everybody: Annotated[
        bool, typer.Option("--all", help="A list for each shopper of the import, into --out.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --all: the file to write, a JSON line a shopper.")
    ] = None,
    model: Model = None,
    cache: Cache = None,
    _: Device = None,
) -> None:
    """Verify a release, then rank the shop's catalogue for a shopper or a history.

    Rules decide before the best are picked: the list has as many items as you ask for, or all
    that pass. Nothing of it leaves this machine. A shop model of this release, shop and code is
    read where there is one (`fit`); else the shop is fitted for this one list.
    """
    from client.recommending.everybody import write_lists
    from client.recommending.filters import Filters
    from client.recommending.model_history import fresh_model
    from client.recommending.output import explained_list, list_json, list_table
    from client.recommending.recommender import Recommender

    if sum((shopper is not None, bool(history), new_shopper, everybody)) != 1:
        raise InputError(
            "Name one of --shopper, --history, --new-shopper and --all, and not two of them.",
            field="history",
        )
    if everybody != (out is not None):
        raise InputError("Give --all and --out together.", field="out")
    rules = Filters(
        allow=allow or None,
        deny=deny or (),
        categories=category or None,
        not_categories=not_category or (),
        in_stock=None if stock is None else _stock(stock),
        keep_bought=keep_bought,
    )
    if filters is not None:
        rules = Filters.from_toml(filters).joined(rules)
    more = [] if new_items is None else _new_items(new_items)
    verified = _verified(release, key)
    fitted = None if more else fresh_model(verified, shop, model or shop / MODEL_FOLDER)
    if fitted is None:
        from client.recommending.model_fit import fit_shop_model  # torch loads here, not before
        from client.shop.dataset import load_merchant_data

        place, data = cache or shop / "node" / "cache", load_merchant_data(shop)
        fitted = fit_shop_model(verified, data, place, more, boosts=[tail_boost])
    recommender = Recommender(fitted, tail_boost)
    if out is not None:
        written = write_lists(recommender, top, rules, verified.manifest.version, out)
        Console().print(f"{out}: {written} lists", soft_wrap=True)
        return
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
    model: Model = None,
    cache: Cache = None,
    _: Device = None,
) -> None:
    """Join or stay solo: what a release brings to this shop, on the shop's own shoppers.

    Compares, on the validation period, popularity and the shop's own purchases, with and without
    their trend, with frozen text, a solo adapter if there is one, and the release, these alone and
    fused with what the shop has itself. It all happens on this machine; nothing is written but
    encodings of public text, and nothing is sent. A shop with too few purchases to be measured is
    shown what simulated shops got with so many orders. A release of a simulation on made-up or
    public shoppers also tells what joining brought to shops by their size.
    """
    from client.recommending.benefit_of_release import benefit_of  # torch loads here, not before
    from client.recommending.expected_benefit import (
        can_be_measured,
        count_orders,
        expected_json,
        expected_page,
        gain_json,
        gain_table,
        read_gain_by_size,
        shoppers_of,
    )
    from client.recommending.join_benefit_output import benefit_json, benefit_page
    from client.shop.dataset import load_merchant_data

    if (solo is None) != (solo_key is None):
        raise InputError("Give --solo and its --solo-key together.", field="solo")
    verified, data = _verified(release, key), load_merchant_data(shop)
    by_size, shoppers = read_gain_by_size(verified.files), shoppers_of(data)
    if not can_be_measured(data):
        orders = count_orders(data)
        if as_json:
            typer.echo(expected_json(orders, verified.manifest.version, by_size, shoppers))
        else:
            Console().print(expected_page(orders))
            if by_size is not None:
                Console().print(gain_table(by_size, shoppers))
        return
    alone = None if solo is None or solo_key is None else _verified(solo, solo_key)
    place, folder = cache or shop / "node" / "cache", model or shop / MODEL_FOLDER
    told = benefit_of(verified, shop, folder, place, alone)
    if as_json:
        typer.echo(
            benefit_json(
                told.benefit,
                told.release,
                took_part=told.took_part,
                by_size=gain_json(by_size, shoppers),
            )
        )
    else:
        Console().print(
            benefit_page(told.benefit, told.shop, told.release, took_part=told.took_part)
        )
        if by_size is not None:
            Console().print(gain_table(by_size, shoppers))


def _stock(path: Path) -> frozenset[str]:
    from client.recommending.stock import read_stock  # Polars loads here, not before

    return read_stock(path)


def _new_items(path: Path) -> "list[Item]":
    from client.recommending.new_items import read_new_items  # Polars loads here, not before

    return read_new_items(path)


def _verified(release: Path, key: Path) -> "VerifiedRelease":
    from common.identity.signing_key import PublicKey
    from common.release.verify import verify_release

    return verify_release(release, PublicKey.load(key))
