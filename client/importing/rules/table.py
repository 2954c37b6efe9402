"""The cleaning rules as tables, each run by one loop that counts what a rule does."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import polars as pl

from client.importing import cleaning, labels_and_reviews
from client.importing.coded import baskets
from client.importing.coded.ids import OddIds
from client.importing.mapping import CleanRules, EventTypes
from client.importing.quality_report import Tally
from client.importing.rules import ids, orders

TEXT_COLUMNS = ["title", "text", "category", "merchant"]
_READ = ["item_id", *TEXT_COLUMNS]


@dataclass(frozen=True)
class Rule:
    """One step of cleaning.

    Attributes:
        name: As the quality report has it.
        does: `drop` loses rows, `leave_out` leaves out what the mapping asks to, `merge` folds
            rows that say the same, `change` alters cells, `quiet` prepares and counts nothing.
        apply: Takes a frame and returns one.
        when: Whether the rule is run at all.
    """

    name: str
    does: Literal["drop", "leave_out", "merge", "change", "quiet"]
    apply: Callable[[pl.DataFrame], pl.DataFrame]
    when: bool = True


def run_rules(frame: pl.DataFrame, rules: Iterable[Rule], tally: Tally) -> pl.DataFrame:
    """Apply each rule to what the one before it left, and count."""
    for rule in rules:
        if rule.when:
            after = rule.apply(frame)
            if rule.does != "quiet":
                getattr(tally, rule.does)(rule.name, frame, after)
            idle = rule.does == "drop" and after.shape == frame.shape
            frame = frame if idle else after  # nothing dropped: no second copy is kept
    return frame


@dataclass(frozen=True)
class Bounds:
    """What rows are held against.

    Attributes:
        rules: Of the mapping.
        item_ids: The catalogue's, for events; else None.
        latest: The latest possible time, microseconds since 1970 UTC.
        timed: Whether events have a clock time.
        value_is_quantity: Whether the value is to be the quantity once cleaned.
        fractions: Id columns with true fractions.
        types: The event types, if the mapping has them.
        items_from_events: Whether the items' rows are the events', some of which name no item.
    """

    rules: CleanRules
    item_ids: pl.Series | None = None
    latest: int = 0
    timed: bool = True
    value_is_quantity: bool = False
    fractions: Collection[str] = ()
    types: EventTypes | None = None
    items_from_events: bool = False

    @property
    def known(self) -> pl.Series:
        """The catalogue's ids; none before the catalogue is clean."""
        return pl.Series(dtype=pl.String) if self.item_ids is None else self.item_ids


def id_rules(columns: Sequence[str], bounds: Bounds, table: str) -> list[Rule]:
    """Return the rules that give each id one spelling."""
    canonical = bounds.rules.ids == "canonical"
    odd = OddIds()

    def whole(frame: pl.DataFrame) -> pl.DataFrame:
        ids.require_whole_ids(frame, columns, table, odd)
        return frame

    return [
        Rule("tidy_ids", "change", partial(cleaning.tidy_ids, columns=columns, odd=odd)),
        Rule(
            "null_words",
            "change",
            partial(ids.drop_null_words, columns=columns, odd=odd),
            canonical,
        ),
        Rule(
            "canonical_ids",
            "change",
            partial(ids.canonical_ids, columns=columns, fractions=bounds.fractions, odd=odd),
            canonical,
        ),
        Rule("whole_ids", "quiet", whole, canonical),
    ]


def item_rules(bounds: Bounds) -> list[Rule]:
    """Return the rules of the catalogue's table."""
    code = bounds.rules.product_code
    words = TEXT_COLUMNS
    return [
        Rule(
            "blank_rows",
            "leave_out" if bounds.items_from_events else "drop",
            partial(cleaning.drop_blank_rows, columns=_READ),
        ),
        Rule("equal_rows", "quiet", cleaning.weigh_repeated_rows),
        *id_rules(["item_id"], bounds, "items"),
        Rule("no_variant", "leave_out", cleaning.drop_not_variants),
        Rule(
            "missing_ids",
            "leave_out" if bounds.items_from_events else "drop",
            partial(cleaning.drop_missing_ids, columns=["item_id"]),
        ),
        Rule("hidden", "leave_out", cleaning.drop_hidden),
        Rule(
            "non_product_codes",
            "drop",
            partial(cleaning.drop_non_products, product_code=code or ""),
            code is not None,
        ),
        *text_rules(words, bounds.rules.max_text_length),
        Rule("missing_text", "drop", cleaning.drop_missing_text),
        Rule("title_from_text", "change", cleaning.title_from_text),
        Rule("same_item", "merge", cleaning.merge_same_item),
    ]


def text_rules(columns: list[str], max_length: int) -> list[Rule]:
    """Return the text rules, in the order in which each leaves the next nothing to undo."""
    return [
        Rule(name, "change", partial(rule, columns=columns))
        for name, rule in cleaning.TEXT_RULES
    ] + [Rule("text_length", "change", partial(cleaning.cut_text, columns=columns,
                                              max_length=max_length))]  # fmt: skip


def event_rules(
    columns: Collection[str], labels: pl.DataFrame | None, bounds: Bounds
) -> list[Rule]:
    """Return the rules of the events' table, which has `columns`."""
    labelled = labels is not None and "value" in labels.columns
    people = ["shopper_id", "item_id"]
    names = [*people, *(name for name in ("order_id",) if name in columns)]
    what = "time" if bounds.timed else "position"
    return [
        Rule("blank_rows", "drop", cleaning.drop_blank_events),
        Rule("order_cells", "change", orders.fill_order_cells, "order_id" in columns),
        *id_rules(names, bounds, "events"),
        *_type_rules(bounds.types),
        Rule("missing_ids", "drop", partial(cleaning.drop_missing_ids, columns=people)),
        Rule("exact_duplicates", "drop", baskets.drop_exact_duplicates),
        Rule("cancelled_orders", "drop", cleaning.drop_cancelled, "cancelled" in columns),
        *_product_rules(columns, bounds.rules),
        Rule(f"malformed_{what}", "drop", partial(cleaning.drop_unreadable, column="time")),
        Rule(
            "impossible_time",
            "drop",
            partial(cleaning.drop_impossible_times, now=bounds.latest),
            bounds.timed,
        ),
        Rule("price", "quiet", lambda f: f.drop("price", strict=False)),  # read for the last time
        Rule("unknown_items", "drop", partial(cleaning.drop_unknown_items, item_ids=bounds.known)),
        *_quantity_rules(columns, bounds.rules),
        Rule(
            "value",
            "quiet",
            lambda f: f.with_columns(pl.col("quantity").alias("value")),
            bounds.value_is_quantity,
        ),
        Rule("quantity", "quiet", lambda f: f.drop("quantity", strict=False)),
        *([] if labels is None or not labelled else _labelling(labels)),
        Rule(
            "missing_value",
            "drop",
            lambda f: cleaning.drop_unreadable(f, "value") if "value" in f.columns else f,
            labelled or bounds.value_is_quantity or "value" in columns,
        ),
        Rule(
            "white_space",
            "change",
            partial(cleaning.fold_spaces, columns=["merchant"]),
            "merchant" in columns,
        ),
        Rule("baskets", "quiet", baskets.number_baskets),
        Rule("same_basket_item", "merge", baskets.merge_basket_rows),
    ]


def _type_rules(types: EventTypes | None) -> list[Rule]:
    if types is None:
        return []
    return [
        Rule("other_event_types", "leave_out", partial(orders.known_types, types=types)),
        Rule("refunds", "leave_out", orders.drop_refunded),
        Rule("weights", "quiet", partial(orders.weigh_types, types=types)),
    ]


def _product_rules(columns: Collection[str], rules: CleanRules) -> list[Rule]:
    code = rules.product_code
    products = partial(cleaning.drop_non_products, product_code=code or "")
    return [Rule("non_product_codes", "drop", products, code is not None)] + [
        Rule(f"non_positive_{name}", "drop", partial(cleaning.drop_not_positive, column=name))
        for name in ("quantity", "price")
        if name in columns
    ]


def _quantity_rules(columns: Collection[str], rules: CleanRules) -> list[Rule]:
    if "quantity" not in columns or rules.outlier_quantity == "keep":
        return []
    if rules.outlier_quantity == "drop":
        return [Rule("outlier_quantity", "drop", cleaning.drop_outlier_quantities)]
    return [Rule("outlier_quantity", "change", cleaning.cap_outlier_quantities)]


def _labelling(labels: pl.DataFrame) -> list[Rule]:
    def with_value(frame: pl.DataFrame) -> pl.DataFrame:
        return frame if "value" in frame.columns else frame.with_columns(value=pl.lit(1.0))

    return [
        Rule("value", "quiet", with_value),
        Rule("labelled_values", "change", partial(labels_and_reviews.label_events, labels=labels)),
    ]
