"""What holds for a whole order, and what an event's type says: fill down, refunds, weights."""

import polars as pl

from client.importing.mapping import EVENT_TYPES, EventTypes


def fill_order_cells(frame: pl.DataFrame) -> pl.DataFrame:
    """Give a blank cell of an order's later line what the order's first line says.

    Shops write what belongs to the whole order (who, when, whether it was cancelled) on its first
    line only. Lines are of one order if they follow each other, name the same order and no other
    time: an order number that two people share fills nothing.
    """
    if "order_id" not in frame.columns:
        return frame
    if "no_time" not in frame.columns:
        frame = frame.with_columns(no_time=pl.lit(value=False))
    of_order = [
        name
        for name in ("shopper_id", "merchant", "cancelled")
        if name in frame.columns and frame[name].has_nulls()
    ]
    if not of_order and not frame["no_time"].any():
        return frame.drop("no_time")
    order = pl.col("order_id")
    frame = frame.with_columns(order.ne_missing(order.shift()).cum_sum().alias("run"))
    first_time = pl.col("time").first().over("run")
    filled = pl.when(pl.col("no_time") & order.is_not_null()).then(first_time)
    frame = frame.with_columns(filled.otherwise(pl.col("time")).alias("time"))
    same = order.is_not_null() & (pl.col("time") == first_time)
    return frame.with_columns(
        pl.when(pl.col(name).is_null() & same)
        .then(pl.col(name).first().over("run"))
        .otherwise(pl.col(name))
        .alias(name)
        for name in of_order
    ).drop("run", "no_time")


def known_types(frame: pl.DataFrame, types: EventTypes) -> pl.DataFrame:
    """Return the rows whose type the mapping names and weighs, the type under our own name."""
    names = {raw.strip().lower(): kind for kind in EVENT_TYPES for raw in getattr(types, kind)}
    kinds = pl.col("type").str.strip_chars().str.to_lowercase()
    kept = [kind for kind in EVENT_TYPES if kind == "refund" or types.weight(kind) > 0]
    known = kinds.replace_strict(list(names), list(names.values()), default=None)
    if "quantity" in frame.columns:  # a view has none, and is one
        frame = frame.with_columns(pl.col("quantity").fill_null(1.0))
    return frame.with_columns(known.alias("type")).filter(pl.col("type").is_in(kept))


def drop_refunded(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the refunds and what they take back.

    A refund that names an order takes back its item, or all of the order if it names none. One
    that names no order takes back the shopper's latest purchase of the item before it. A refund
    of less than was bought takes back nothing.
    """
    refunds = frame.filter(pl.col("type") == "refund")
    if refunds.is_empty():
        return frame
    rows = frame.filter(pl.col("type") != "refund").with_row_index("at")
    bought = rows.filter(pl.col("type") == "purchase")
    sold = "quantity" in frame.columns
    gone: list[pl.Series] = []
    if "order_id" in frame.columns:
        whole = refunds.filter(pl.col("item_id").is_null())["order_id"].drop_nulls().unique()
        gone.append(bought.filter(pl.col("order_id").is_in(whole.implode()))["at"])
        by_order = refunds.drop_nulls(["order_id", "item_id"])
        gone.append(_matched(bought, by_order, ["order_id", "item_id"], sold=sold))
        refunds = refunds.filter(pl.col("order_id").is_null())
    by_shopper = refunds.drop_nulls(["shopper_id", "item_id"])
    gone.append(_latest_before(bought, by_shopper))
    return rows.filter(~pl.col("at").is_in(pl.concat(gone).implode())).drop("at")


def _matched(
    bought: pl.DataFrame, refunds: pl.DataFrame, keys: list[str], *, sold: bool
) -> pl.Series:
    amount = pl.col("quantity").abs().sum() if sold else pl.lit(None, dtype=pl.Float64)
    back = refunds.group_by(keys).agg(amount.alias("back"))
    met = bought.join(back, on=keys, how="inner")
    if sold:
        enough = (pl.col("back") == 0) | (pl.col("back") >= pl.col("quantity").fill_null(0))
        met = met.filter(enough)
    return met["at"]


def _latest_before(bought: pl.DataFrame, refunds: pl.DataFrame) -> pl.Series:
    """Return the place of the latest purchase before each refund; one refund, one purchase."""
    taken: set[int] = set()
    keys = ["shopper_id", "item_id"]
    for who, item, moment in refunds.select(*keys, "time").iter_rows():
        mine = bought.filter((pl.col("shopper_id") == who) & (pl.col("item_id") == item))
        if moment is not None:
            mine = mine.filter(pl.col("time") <= moment)
        free = [place for place in mine.sort("time")["at"].to_list() if place not in taken]
        taken.update(free[-1:])
    return pl.Series(sorted(taken), dtype=bought["at"].dtype)


def weigh_types(frame: pl.DataFrame, types: EventTypes) -> pl.DataFrame:
    """Write each type's public weight into `value` and drop the type."""
    weights = {kind: types.weight(kind) for kind in EVENT_TYPES if kind != "refund"}
    value = pl.col("type").replace_strict(
        list(weights), list(weights.values()), return_dtype=pl.Float64, default=None
    )
    return frame.with_columns(value.alias("value")).drop("type")
