"""The cleaning rules: each a function with a name, each counted by whoever calls it.

A rule takes a frame and returns one; `drop_` rules return fewer rows, `merge_` rules fold rows that
say the same into one, and all others change cells. None looks at a column it is not told of.
Columns: item_id, title, text, category, merchant of items; shopper_id, item_id, time (microseconds)
or position, order_id, quantity, price, value, merchant, cancelled of events.
"""

import html
import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl

from client.importing.coded.ids import OddIds, among, matching
from client.importing.quality_report import ROWS

EARLIEST_TIME = 788_918_400_000_000  # 1995-01-01 UTC: no web shop is older
OUTLIER_SCORE = 3.5  # modified z-score past which a quantity is an outlier
OUTLIER_RATIO = 10.0  # no quantity below this many medians is one, however alike the others are
_MARKS = ("cancelled", "no_time")  # made while reading, and never blank
TITLE_LENGTH = 80  # of a title taken from the text

# Zero-width and direction marks: they show nothing and split equal texts. The zero-width joiner
# and non-joiner stay, since emoji and several scripts need them.
_INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb"
_INVISIBLE_PATTERN = re.compile(f"[{_INVISIBLE}]")
_CONTROL_PATTERN = re.compile("[\x00-\x1f\x7f-\x9f]")
_TAGS = (
    r"(?i)</?(?:a|abbr|b|big|blockquote|br|center|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|li|ol|p|"
    r"pre|s|script|small|span|strike|strong|style|sub|sup|table|tbody|td|th|thead|tr|u|ul)"
    r"(?:\s[^<>]*|/)?>"
)


# ---------------------------------------------------------------------- rows and ids


def drop_blank_rows(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Drop rows in which all `columns` are empty, such as a blank line."""
    return frame.filter(~pl.all_horizontal(pl.col(columns).is_null()))


def tidy_ids(
    frame: pl.DataFrame, columns: Sequence[str], odd: OddIds | None = None
) -> pl.DataFrame:
    """Strip space, control characters and what shows nothing from ids; make empty ones null."""
    odd = odd or OddIds()
    return frame.with_columns(odd.respelt(frame, name, _tidy) for name in columns)


def _tidy(ids: pl.Expr) -> pl.Expr:
    visible = ids.str.replace_all(rf"[\p{{Cc}}{_INVISIBLE}]", "")
    # A formula keeps Excel from reading a number.
    plain = visible.str.replace(r'^\s*="(.*)"\s*$', "${1}")
    tidy = plain.str.strip_chars()
    return pl.when(tidy != "").then(tidy)


def drop_blank_events(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop events in which all that was read is empty; marks made while reading do not count."""
    return drop_blank_rows(frame, [name for name in frame.columns if name not in _MARKS])


def drop_not_variants(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop rows of a product's table that list no variant, such as one more picture."""
    if "variant" not in frame.columns:
        return frame
    return frame.filter(pl.col("variant") | pl.col("item_id").is_not_null()).drop("variant")


def drop_hidden(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop items that the shop does not show yet: the catalogue is public, and drafts are not."""
    return frame.filter(~pl.col("hidden")).drop("hidden") if "hidden" in frame.columns else frame


def drop_missing_ids(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Drop rows without an id in one of `columns`."""
    return frame.drop_nulls(columns)


def drop_non_products(frame: pl.DataFrame, product_code: str) -> pl.DataFrame:
    """Keep rows whose item id matches the pattern: postage, fees and samples are no products."""
    return frame.filter(matching(frame["item_id"], product_code))


# ------------------------------------------------------------------------------ text


def normalise_unicode(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Write each character in its composed form (Unicode NFC)."""
    return frame.with_columns(pl.col(columns).str.normalize("NFC"))


def drop_control_characters(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Turn control characters into spaces and remove those that only hide."""
    visible = pl.col(columns).str.replace_all(f"[{_INVISIBLE}]", "")
    return frame.with_columns(visible.str.replace_all(r"\p{Cc}", " "))


def unescape_entities(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Turn HTML entities (`&amp;`, `&#8217;`) into their characters, also those escaped twice."""
    return frame.with_columns(
        pl.when(pl.col(name).str.contains("&", literal=True))
        .then(pl.col(name).map_batches(_unescape_all, return_dtype=pl.String))
        .otherwise(pl.col(name))
        .alias(name)
        for name in columns
    )


def _unescape_all(texts: pl.Series) -> pl.Series:
    escaped = texts.filter(texts.str.contains("&", literal=True)).unique().to_list()
    return texts.replace(escaped, [_unescape(text) for text in escaped]) if escaped else texts


def _unescape(text: str) -> str:
    """Unescape until nothing changes; what an entity may hide is cleaned on the way."""
    while True:
        plain = _INVISIBLE_PATTERN.sub("", html.unescape(text))
        plain = unicodedata.normalize("NFC", _CONTROL_PATTERN.sub(" ", plain))
        if plain == text:
            return text
        text = plain


def drop_tags(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Replace HTML tags by a space; other angle brackets stay."""
    while True:
        plain = frame.with_columns(pl.col(columns).str.replace_all(_TAGS, " "))
        if plain.equals(frame):  # a tag inside a tag shows only once the inner one is gone
            return frame
        frame = plain


def fold_spaces(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Write each run of white space as one space, none at the ends, and empty text as null."""
    folded = pl.col(columns).str.replace_all(r"\s+", " ").str.strip_chars()
    return frame.with_columns(pl.when(folded != "").then(folded))


# In the order in which each leaves the next nothing to undo.
TEXT_RULES = (
    ("unicode", normalise_unicode),
    ("control_characters", drop_control_characters),
    ("html_entities", unescape_entities),
    ("html_tags", drop_tags),
    ("white_space", fold_spaces),
)


def cut_text(frame: pl.DataFrame, columns: Sequence[str], max_length: int) -> pl.DataFrame:
    """Cut text after `max_length` characters."""
    return frame.with_columns(pl.col(columns).str.slice(0, max_length).str.strip_chars_end())


def title_from_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Give an item without a title the start of its text as one."""
    start = pl.col("text").str.slice(0, TITLE_LENGTH).str.strip_chars_end()
    return frame.with_columns(pl.coalesce("title", start).alias("title"))


def drop_missing_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop items that have no text: the encoder could say nothing of them."""
    return frame.drop_nulls("text")


def weigh_repeated_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Write equal rows once, with how many they are in `rows`, so that each is cleaned once.

    Where events carry the item's title, an item comes once for each purchase.
    """
    return frame.group_by(pl.all()).agg(pl.len().alias(ROWS))


def merge_same_item(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep one row per item id, sorted by it: the row with the id's commonest title and text.

    `rows` says how often a row came. Ties go to the lower title, then text, so that the order of
    the file says nothing.
    """
    wording = ["item_id", "title", "text", "category", "merchant"]
    counted = frame.group_by(wording).agg(pl.col(ROWS).sum())
    counted = counted.with_columns(pl.col(ROWS).sum().over("item_id", "title").alias("title_rows"))
    order = ["item_id", "title_rows", "title", ROWS, "text", "category", "merchant"]
    down = [name in ("title_rows", ROWS) for name in order]
    ranked = counted.sort(order, descending=down, nulls_last=True)
    return ranked.unique("item_id", keep="first", maintain_order=True).select(wording)


# ---------------------------------------------------------------------------- events


def drop_cancelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop events that were called off; an event that says nothing of it was not."""
    return frame.filter(~pl.col("cancelled").fill_null(value=False))


def drop_not_positive(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Drop rows in which a quantity or price is missing, zero or negative."""
    return frame.filter(pl.col(column) > 0)


def drop_unreadable(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Drop rows whose time, position or value is missing or could not be read."""
    return frame.drop_nulls(column)


def drop_impossible_times(frame: pl.DataFrame, now: int) -> pl.DataFrame:
    """Drop events before 1995 or after `now` (microseconds since 1970 UTC)."""
    return frame.filter(pl.col("time").is_between(EARLIEST_TIME, now))


def quantity_bound(quantities: pl.Series) -> float:
    """Return the largest quantity that is no outlier (infinity for an empty series).

    The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993) on the
    logarithm of the quantity, with the mean absolute deviation where the median one is zero, and
    never below ten medians. Quantities must be positive.
    """
    if quantities.is_empty():
        return math.inf
    logs = quantities.log().to_numpy()
    middle = float(np.median(logs))
    distance = np.abs(logs - middle)
    spread = 1.4826 * float(np.median(distance)) or 1.2533 * float(np.mean(distance))
    return math.exp(middle + max(OUTLIER_SCORE * spread, math.log(OUTLIER_RATIO)))


def cap_outlier_quantities(frame: pl.DataFrame) -> pl.DataFrame:
    """Lower outlying quantities to the largest one that is no outlier."""
    return frame.with_columns(
        pl.col("quantity").clip(upper_bound=quantity_bound(frame["quantity"]))
    )


def drop_outlier_quantities(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop rows with an outlying quantity."""
    return frame.filter(pl.col("quantity") <= quantity_bound(frame["quantity"]))


def drop_unknown_items(frame: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """Drop rows whose item is not in the catalogue."""
    return frame.filter(among(frame["item_id"], item_ids))
