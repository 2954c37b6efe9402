"""Join what people added to the raw data: labels made by hand, and review text that is public."""

import polars as pl

from client.importing import cleaning
from client.importing.mapping import ReviewsTable
from client.importing.quality_report import Tally


def clean_labels(labels: pl.DataFrame, item_ids: pl.Series, tally: Tally) -> pl.DataFrame:
    """Return labels [item_id, shopper_id?, category?, value?], one for each key: the last."""
    keys = [name for name in ("item_id", "shopper_id") if name in labels.columns]
    labels = tally.change("tidy_ids", labels, cleaning.tidy_ids(labels, keys))
    labels = tally.drop("missing_ids", labels, cleaning.drop_missing_ids(labels, keys))
    if "category" in labels.columns:
        composed = cleaning.normalise_unicode(labels, ["category"])
        labels = tally.change("white_space", labels, cleaning.fold_spaces(composed, ["category"]))
    known = cleaning.drop_unknown_items(labels, item_ids)
    labels = tally.drop("unknown_items", labels, known)
    last = labels.unique(keys, keep="last", maintain_order=True)
    return tally.merge("same_key", labels, last)


def label_items(items: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Return items with the labels' categories over their own; labels are one for each item."""
    joined = items.join(
        labels.select("item_id", label="category"),
        on="item_id",
        how="left",
        maintain_order="left",
    )
    return joined.with_columns(pl.coalesce("label", "category").alias("category")).drop("label")


def label_events(events: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Return events with the labels' values over their own."""
    keys = [name for name in ("item_id", "shopper_id") if name in labels.columns]
    coded = [pl.col(name).cast(events.schema[name]) for name in keys]
    joined = events.join(
        labels.select(*coded, label="value"), on=keys, how="left", maintain_order="left"
    )
    return joined.with_columns(pl.coalesce("label", "value").alias("value")).drop("label")


def clean_reviews(
    reviews: pl.DataFrame, item_ids: pl.Series, rules: ReviewsTable, tally: Tally
) -> pl.DataFrame:
    """Return [item_id, review]: of each item its longest reviews, each cut, joined to one text.

    Only item and text are read, and ties go by the text itself, so that neither who wrote a review
    nor where it stood in the file has a part in what is chosen.
    """
    reviews = tally.change("tidy_ids", reviews, cleaning.tidy_ids(reviews, ["item_id"]))
    reviews = clean_text(reviews, ["text"], rules.max_length, tally)
    reviews = tally.drop("missing_ids", reviews, cleaning.drop_missing_ids(reviews, ["item_id"]))
    reviews = tally.drop("missing_text", reviews, cleaning.drop_missing_text(reviews))
    known = cleaning.drop_unknown_items(reviews, item_ids)
    reviews = tally.drop("unknown_items", reviews, known)
    reviews = tally.merge("same_review", reviews, reviews.unique(["item_id", "text"]))
    ranked = reviews.sort(
        "item_id", pl.col("text").str.len_chars(), "text", descending=[False, True, False]
    )
    chosen = ranked.group_by("item_id", maintain_order=True).head(rules.per_item)
    chosen = tally.drop("past_per_item", reviews, chosen)
    joined = chosen.group_by("item_id", maintain_order=True).agg(
        pl.col("text").str.join(" ").alias("review")
    )
    return tally.merge("same_item", chosen, joined)


def add_reviews(items: pl.DataFrame, reviews: pl.DataFrame, max_length: int) -> pl.DataFrame:
    """Return items with their reviews behind their text, cut at `max_length` characters."""
    joined = items.join(reviews, on="item_id", how="left", maintain_order="left")
    text = pl.concat_str("text", "review", separator=" ", ignore_nulls=True).alias("text")
    return cleaning.cut_text(joined.with_columns(text).drop("review"), ["text"], max_length)


def clean_text(
    frame: pl.DataFrame, columns: list[str], max_length: int, tally: Tally
) -> pl.DataFrame:
    """Apply the text rules in the order in which each leaves the next nothing to undo."""
    for name, rule in cleaning.TEXT_RULES:
        frame = tally.change(name, frame, rule(frame, columns))
    return tally.change("text_length", frame, cleaning.cut_text(frame, columns, max_length))
