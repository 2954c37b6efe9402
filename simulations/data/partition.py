"""Divide one data set into merchants: by column, kind, Dirichlet over categories, or at random."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from common.errors import InputError, SettingsError

PartitionKind = Literal["column", "dirichlet", "kinds", "random"]
Sizes = Literal["equal", "zipf"]
MIN_SHOPPERS = 10  # below this neither a plan nor a paired comparison means anything
DIRICHLET_DRAWS = 100  # redraw this often until every merchant has MIN_SHOPPERS
NO_NAME = "no name"


def partition_merchants(
    data: MerchantData,
    *,
    how: PartitionKind,
    merchants: int,
    seed: int,
    alpha: float = 0.5,
    sizes: Sizes = "equal",
    kinds: NDArray[np.integer] | None = None,
) -> list[MerchantData]:
    """Divide `data` into `merchants` parts; no row is lost or made, and the seed decides all.

    random: whole shoppers are dealt into parts of equal size, give or take one, or of Zipf sizes.

    kinds: a merchant is one kind of goods, whose items are its catalogue, and a part of those who
    bought of it, dealt like `random`. Merchants are spread over kinds evenly, the kinds with more
    buyers first. Somebody who bought of two kinds is a shopper at two merchants, who share nothing
    of it: ids are each merchant's own.

    dirichlet: whole shoppers are dealt by their dominant category, the one with most of their
    rows. Each category is divided in proportions drawn from a symmetric Dirichlet (Hsu, Qi and
    Brown 2019); a draw that leaves a merchant below 10 shoppers is thrown away, up to 100 times.
    Where items have no category, their merchant stands for it.

    column: by the items' merchant where items name one, and each part keeps only its items; else
    by the events' merchant, and each part keeps the whole catalogue. More names than merchants are
    grouped, largest first into the group with fewest rows. Somebody who bought at two merchants is
    a shopper at each, and baskets are numbered anew.

    Args:
        data: A data set not yet divided.
        how: One of the four.
        merchants: How many parts, 1 or more.
        seed: Of the deal, 0 or more; `column` does not use it.
        alpha: Dirichlet concentration, above 0; the smaller, the less alike the merchants.
        sizes: Of `random` and `kinds`: equal, or by Zipf's law, the n-th largest with 1/n of the
            largest's shoppers, over the 10 that each has.
        kinds: int [items], 0 to k - 1, what `kinds` divides by.

    Raises:
        SettingsError: if `how`, `merchants`, `seed` or `alpha` is out of bounds, or `sizes` is
            asked of a partition whose data says the sizes.
        InputError: if the data have no column or category to divide by, fewer names than
            merchants, or a merchant would have fewer than 10 shoppers.
    """
    _check_settings(how, merchants, seed, alpha)
    if sizes != "equal" and how in {"column", "dirichlet"}:
        raise SettingsError(
            f"sizes {sizes} need the partition random or kinds; with {how} the data says how large "
            "a merchant is.",
            field="sizes",
        )
    if how == "column":
        return _by_column(data, merchants)
    if how == "kinds":
        return _by_kind(data, merchants, np.random.default_rng(seed), sizes, kinds)
    shoppers = data.interactions.shopper_count
    if shoppers < merchants * MIN_SHOPPERS:
        raise InputError(
            f"{shoppers} shoppers cannot be dealt to {merchants} merchants; each needs at least "
            f"{MIN_SHOPPERS}.",
            field="merchants",
        )
    random = np.random.default_rng(seed)
    if how == "random":
        dealt = _deal_at_random(shoppers, merchants, random, sizes)
    else:
        dealt = _deal_by_category(data, merchants, alpha, random)
    return [
        replace(
            data,
            name=f"Merchant {place + 1}",
            interactions=data.interactions.only_shoppers(np.flatnonzero(dealt == place)),
            event_merchant=None,
            merchant_names=(),
        )
        for place in range(merchants)
    ]


def _check_settings(how: str, merchants: int, seed: int, alpha: float) -> None:
    if how not in get_args(PartitionKind):
        raise SettingsError(
            f"The partition is {how!r}; it must be column, dirichlet, kinds or random.", field="how"
        )
    if merchants < 1:
        raise SettingsError(f"merchants is {merchants}; it must be 1 or more.", field="merchants")
    if seed < 0:
        raise SettingsError(f"The seed is {seed}; it must be 0 or more.", field="seed")
    if not 0 < alpha < np.inf:
        raise SettingsError(f"alpha is {alpha}; it must be above 0 and finite.", field="alpha")


def _deal_at_random(
    shoppers: int, merchants: int, random: np.random.Generator, sizes: Sizes = "equal"
) -> NDArray[np.int64]:
    """Return each shopper's merchant [shoppers]."""
    if sizes == "equal":
        return random.permutation(np.arange(shoppers) % merchants)
    return random.permutation(np.repeat(np.arange(merchants), zipf_sizes(shoppers, merchants)))


def zipf_sizes(shoppers: int, merchants: int) -> NDArray[np.int64]:
    """Return sizes that fall as 1, 1/2, 1/3, ... over MIN_SHOPPERS and add up: int64 [merchants].

    `shoppers` must be at least MIN_SHOPPERS a merchant.
    """
    shares = 1 / np.arange(1, merchants + 1)
    ends = np.rint(np.cumsum(shares / shares.sum()) * (shoppers - MIN_SHOPPERS * merchants))
    found = np.diff(ends, prepend=0).astype(np.int64) + MIN_SHOPPERS
    return np.sort(found)[::-1]  # rounding may have put one above the one before


def _by_kind(
    data: MerchantData,
    merchants: int,
    random: np.random.Generator,
    sizes: Sizes,
    kinds: NDArray[np.integer] | None,
) -> list[MerchantData]:
    """Divide by kinds of goods, and each kind by shoppers."""
    if kinds is None or len(kinds) != len(data.catalogue):
        raise InputError("Each item needs a kind to divide by.", field="kinds")
    kind_of_row, count = kinds[data.interactions.item], int(kinds.max()) + 1
    buyers = [np.unique(data.interactions.shopper[kind_of_row == one]) for one in range(count)]
    if merchants < count:
        raise InputError(
            f"{merchants} merchants cannot have {count} kinds of goods, one each at least.",
            field="merchants",
        )
    order = sorted(range(count), key=lambda one: -len(buyers[one]))
    parts = []
    for one in range(count):
        shops = merchants // count + (order.index(one) < merchants % count)
        if len(buyers[one]) < shops * MIN_SHOPPERS:
            raise InputError(
                f"Kind {one + 1} has {len(buyers[one])} shoppers for {shops} merchants; each needs "
                f"at least {MIN_SHOPPERS}. Ask for fewer merchants or kinds.",
                field="kinds",
            )
        shop_of = np.full(data.interactions.shopper_count, -1)
        shop_of[buyers[one]] = _deal_at_random(len(buyers[one]), shops, random, sizes)
        items = np.flatnonzero(kinds == one)
        parts += [
            _part(
                data,
                f"Kind {one + 1}, shop {place + 1}",
                (kind_of_row == one) & (shop_of[data.interactions.shopper] == place),
                items,
            )
            for place in range(shops)
        ]
    return parts


def _deal_by_category(
    data: MerchantData, merchants: int, alpha: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return each shopper's merchant [shoppers], drawn again until none is too small."""
    dominant = _dominant_categories(data)
    largest = 0
    for _ in range(DIRICHLET_DRAWS):
        dealt = np.empty(len(dominant), dtype=np.int64)
        for category in np.unique(dominant):
            members = random.permutation(np.flatnonzero(dominant == category))
            shares = random.dirichlet(np.full(merchants, alpha))
            cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
            for place, group in enumerate(np.split(members, cuts)):
                dealt[group] = place
        smallest = int(np.bincount(dealt, minlength=merchants).min())
        if smallest >= MIN_SHOPPERS:
            return dealt
        largest = max(largest, smallest)
    raise InputError(
        f"{DIRICHLET_DRAWS} Dirichlet draws with alpha {alpha} over {len(np.unique(dominant))} "
        f"categories left a merchant of {merchants} with at most {largest} shoppers; "
        f"{MIN_SHOPPERS} are needed. Ask for fewer merchants or a larger alpha.",
        field="alpha",
    )


def _dominant_categories(data: MerchantData) -> NDArray[np.int64]:
    """Return the category with most of a shopper's rows, the first by name on a tie: [shoppers].

    A shopper without a row gets -1, a group of its own.
    """
    names = [item.category for item in data.catalogue.items]
    if not any(names):
        names = [item.merchant for item in data.catalogue.items]
    if not any(names):
        raise InputError(
            f"None of the {len(names)} items has a category or a merchant to divide by; use "
            "random.",
            field="category",
        )
    values, category = np.unique(names, return_inverse=True)
    rows = data.interactions
    cell = rows.shopper.astype(np.int64) * len(values) + category[rows.item]
    cells, counts = np.unique(cell, return_counts=True)
    shopper, value = np.divmod(cells, len(values))
    order = np.lexsort((-value, counts, shopper))  # the last row of a shopper is its largest count
    dominant = np.full(rows.shopper_count, -1, dtype=np.int64)
    dominant[shopper[order]] = value[order]
    return dominant


@dataclass(frozen=True)
class _Group:
    """Column values that become one merchant, largest first."""

    values: tuple[int, ...]
    rows: int


def _by_column(data: MerchantData, merchants: int) -> list[MerchantData]:
    """Divide by the items' merchant, else by the events'."""
    of_item = [item.merchant for item in data.catalogue.items]
    by_item = any(of_item)
    names: Sequence[str]
    if by_item:
        names = sorted(set(of_item))
        value_of_item = np.searchsorted(names, of_item)
        value_of_row = value_of_item[data.interactions.item]
    elif data.event_merchant is not None:
        names, value_of_row = data.merchant_names, data.event_merchant.astype(np.int64)
    else:
        raise InputError(
            f"Neither the {len(of_item)} items nor the events of {data.name} name a merchant; use "
            "random or dirichlet.",
            field="merchant",
        )
    counts = np.bincount(value_of_row, minlength=len(names))
    groups = _group_values(counts, merchants, data.name)
    parts = []
    for group in groups:
        kept = np.isin(value_of_row, group.values)
        items = np.flatnonzero(np.isin(value_of_item, group.values)) if by_item else None
        name = _group_name([names[one] for one in group.values])
        parts.append(_part(data, name, kept, items))
    return parts


def _group_values(counts: NDArray[np.int64], merchants: int, name: str) -> list[_Group]:
    """Put values into groups of about equal rows: the largest left to the smallest group."""
    sold = np.flatnonzero(counts)
    if len(sold) < merchants:
        raise InputError(
            f"The merchant column of {name} has {len(sold)} names with interactions; {merchants} "
            "merchants need as many. Ask for fewer merchants, or use random or dirichlet.",
            field="merchants",
        )
    groups = [_Group((), 0) for _ in range(merchants)]
    for value in np.argsort(-counts, kind="stable"):
        # Names nobody bought from come last, and would else all fall into one group.
        load = [group.rows if counts[value] else len(group.values) for group in groups]
        place = load.index(min(load))
        rows = groups[place].rows + int(counts[value])
        groups[place] = _Group((*groups[place].values, int(value)), rows)
    return groups


def _group_name(names: Sequence[str]) -> str:
    """Return the largest name and how many more there are: "PC", "PC and Wii", "PC and 3 more"."""
    first, *others = [name or NO_NAME for name in names]
    if not others:
        return first
    return f"{first} and {others[0]}" if len(others) == 1 else f"{first} and {len(others)} more"


def _part(
    data: MerchantData, name: str, kept: NDArray[np.bool_], items: NDArray[np.int64] | None
) -> MerchantData:
    """Return the merchant `name` with the rows `kept` and the items at `items`, None for all."""
    rows = data.interactions.where(kept)
    shoppers = np.unique(rows.shopper)
    if len(shoppers) < MIN_SHOPPERS:
        raise InputError(
            f"Merchant {name!r} would have {len(shoppers)} shoppers; at least {MIN_SHOPPERS} are "
            "needed. Ask for fewer merchants.",
            field="merchants",
        )
    rows = _renumber_baskets(rows.only_shoppers(shoppers))
    catalogue = data.catalogue
    if items is not None:
        catalogue = catalogue.take(items)
        rows = replace(
            rows, item_count=len(items), item=np.searchsorted(items, rows.item).astype(np.int32)
        )
    return replace(
        data,
        name=name,
        catalogue=catalogue,
        interactions=rows,
        event_merchant=None,
        merchant_names=(),
    )


def _renumber_baskets(rows: Interactions) -> Interactions:
    """Close the gaps that removed rows left: baskets count from 0 for each shopper again."""
    new_shopper = np.diff(rows.shopper, prepend=-1) != 0
    new_basket = new_shopper | (np.diff(rows.basket, prepend=-1) != 0)
    number = np.cumsum(new_basket) - 1
    first = np.maximum.accumulate(np.where(new_shopper, number, 0))
    return replace(rows, basket=(number - first).astype(np.int32))
