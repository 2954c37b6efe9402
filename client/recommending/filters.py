"""What may be recommended: filters decide before the best are picked, so a list is never short.

A filter that is applied to a finished list leaves holes in it. Here each rule narrows the items
that can be picked at all; the list then has as many as were asked for, or all that are left.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.catalogue import Catalogue
from common.errors import InputError
from common.settings.run import read_toml

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Filters:
    """A merchant's rules. An item must pass all of them; the default lets all unbought items pass.

    Attributes:
        allow: Ids of the only items that may be recommended; None allows all.
        deny: Ids never recommended; this wins over `allow`.
        categories: The only categories; None allows all.
        not_categories: Categories never recommended.
        in_stock: Ids of the items there are; None if stock does not matter.
        keep_bought: Whether what the shopper bought may be recommended again.
    """

    allow: Collection[str] | None = None
    deny: Collection[str] = ()
    categories: Collection[str] | None = None
    not_categories: Collection[str] = ()
    in_stock: Collection[str] | None = None
    keep_bought: bool = False

    def public(self, catalogue: Catalogue) -> Mask:
        """Return the items that pass every rule but the shopper's own: bool [items].

        Raises:
            InputError: if a rule names an item or category that the catalogue does not have.
        """
        kept = np.ones(len(catalogue), dtype=bool)
        if self.allow is not None:
            kept &= _with_ids(catalogue, self.allow, "allow")
        kept &= ~_with_ids(catalogue, self.deny, "deny")
        if self.categories is not None:
            kept &= _in_categories(catalogue, self.categories, "categories")
        kept &= ~_in_categories(catalogue, self.not_categories, "not_categories")
        if self.in_stock is not None:
            kept &= _stocked(catalogue, self.in_stock)
        return kept

    def eligible(self, catalogue: Catalogue, bought: NDArray[np.integer]) -> Mask:
        """Return the items that may be recommended to who bought `bought` (indices): bool [items].

        Raises:
            InputError: as `public`.
        """
        kept = self.public(catalogue)
        if not self.keep_bought:
            kept[bought] = False
        return kept

    @classmethod
    def from_toml(cls, path: Path) -> "Filters":
        """Read a file of filters; docs/how-to-recommend.md has an example.

        `stock` names a table beside the file; all other keys are the attributes' own.

        Raises:
            InputError: if it cannot be read, a key is unknown, or a value is of the wrong kind.
        """
        table = read_toml(path)
        known = {one.name for one in fields(cls)} - {"in_stock"} | {"stock"}
        for key, value in table.items():
            if key not in known:
                raise InputError(
                    f"{path.name}: there is no filter {key!r}; known are "
                    f"{', '.join(sorted(known))}.",
                    field=key,
                )
            _check_kind(path, key, value)
        stock = table.pop("stock", None)
        if stock is not None:
            # Polars loads here, not before: most lists ask for no stock.
            from client.recommending.stock import read_stock  # noqa: PLC0415 -- see above

            table["in_stock"] = read_stock(path.parent / stock)
        return cls(**table)

    def joined(self, more: "Filters") -> "Filters":
        """Return the rules of both: an item must pass all of them.

        Buying again is allowed if either allows it.
        """
        return Filters(
            allow=_both(self.allow, more.allow),
            deny={*self.deny, *more.deny},
            categories=_both(self.categories, more.categories),
            not_categories={*self.not_categories, *more.not_categories},
            in_stock=_both(self.in_stock, more.in_stock),
            keep_bought=self.keep_bought or more.keep_bought,
        )


def best_eligible(scores: NDArray[np.floating], eligible: Mask, top: int) -> NDArray[np.int64]:
    """Return the `top` best of the eligible items, or all there are: int64 [at most top].

    Scores are compared as float32; equal ones go to the lower index, which is the lower id: the
    order of `common.evaluation.metrics.rank_top_k`.

    Raises:
        InputError: if a score is not finite, the two differ in length, or `top` is below 1.
    """
    if scores.shape != eligible.shape:
        raise InputError(
            f"There are {len(scores)} scores and {len(eligible)} items.", field="scores"
        )
    if top < 1:
        raise InputError(f"top is {top}; it must be at least 1.", field="top")
    with np.errstate(over="ignore"):  # a float64 too large for float32 is caught as infinite
        descending = -scores.astype(np.float32)
    if not np.isfinite(descending).all():
        raise InputError("A score is not a finite float32 number.", field="scores")
    descending[~eligible] = np.inf
    top = min(top, int(eligible.sum()))
    if not top:
        return np.empty(0, np.int64)
    last = np.partition(descending, top - 1)[top - 1]
    among = np.flatnonzero(descending <= last)  # more than `top` only where the last are equal
    return among[np.argsort(descending[among], kind="stable")[:top]]


def _check_kind(path: Path, key: str, value: Any) -> None:
    kinds: Mapping[str, tuple[type, str]] = {
        "keep_bought": (bool, "true or false"),
        "stock": (str, "the name of a table beside this file"),
    }
    kind, needed = kinds.get(key, (list, 'a list of texts, such as ["one", "two"]'))
    right = isinstance(value, kind)
    if right and kind is list:
        right = all(isinstance(one, str) for one in value)
    if not right:
        raise InputError(
            f"{path.name}: {key}: a {type(value).__name__} was given; {needed} is needed.",
            field=key,
        )


def _with_ids(catalogue: Catalogue, ids: Collection[str], field: str) -> Mask:
    unknown = sorted(one for one in ids if one not in catalogue)
    if unknown:
        raise InputError(
            f"{field}: the catalogue of {len(catalogue)} items has no item_id {unknown[0]!r}"
            f"{f' and {len(unknown) - 1} more of them' if len(unknown) > 1 else ''}.",
            field=field,
        )
    chosen = np.zeros(len(catalogue), dtype=bool)
    chosen[[catalogue.index_of(one) for one in ids]] = True
    return chosen


def _in_categories(catalogue: Catalogue, wanted: Collection[str], field: str) -> Mask:
    if not wanted:
        return np.zeros(len(catalogue), dtype=bool)
    places = catalogue.places_by_category
    known = set(places)
    unknown = sorted(set(wanted) - known)
    if unknown:
        named = ", ".join(repr(one) for one in sorted(known - {""})[:8])
        raise InputError(
            f"{field}: no item has the category {unknown[0]!r}; "
            f"{f'there are {named}' if named else 'the catalogue names no categories'}.",
            field=field,
        )
    chosen = np.zeros(len(catalogue), dtype=bool)
    for one in wanted:
        chosen[places[one]] = True
    return chosen


def _stocked(catalogue: Catalogue, ids: Collection[str]) -> Mask:
    """Return what is in stock. A shop's stock may hold more than its catalogue, but not only."""
    stocked = np.zeros(len(catalogue), dtype=bool)
    stocked[[catalogue.index_of(one) for one in ids if one in catalogue]] = True
    if ids and not stocked.any():
        raise InputError(
            f"stock: none of its {len(ids)} item_ids in stock is in the catalogue; are they the "
            "ids of the imported items?",
            field="stock",
        )
    return stocked


def _both(one: Collection[str] | None, other: Collection[str] | None) -> Collection[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return set(one) & set(other)
