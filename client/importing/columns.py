"""Turn raw columns into text, numbers and times, or say which row cannot be turned.

A number that is not one is an error, because it mostly means that the mapping names the wrong
column. A single time that cannot be read is left null, for cleaning to drop and count; a column
in which no time can be read is an error.
"""

import json
import re
from collections.abc import Sequence

import polars as pl

from client.importing.files import FILE, ROW
from client.importing.mapping import EventsTable, ItemsTable, LabelsTable, ReviewsTable, RowRule
from common.errors import InputError

ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
ISO_WITH_ZONE = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
# What most shops write, read three times as fast as with a fraction that may be there.
_USUAL, _USUAL_FORMAT = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", "%Y-%m-%d %H:%M:%S"
# Tried on what is left, once a zone at the end is cut off and its offset noted.
_MORE_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y年%m月%d日")
_MORE_CLOCKS = (" %H:%M:%S%.f", " %H:%M", "", " %H%M%S", " %H%M")
_ZONE_AT_END = r"^(.*(?:\d:\d\d|\d[ T]\d{4}).*?)\s*(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_UNITS = {  # microseconds in one
    "s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3, "excel_days": 86_400e6
}  # fmt: skip
_EXCEL_EPOCH = 25_569  # days from Excel's day 0 to 1970
_WIDEST_ZONE = 1400  # hours and minutes of the offset farthest from UTC
_ZONE = re.compile("%[:#]*z")
_QUOTED_LENGTH = 40
_WORD = re.compile(r"[^\W\d_]{4,}")
_EXACT_IN_FLOAT = 2.0**53  # beyond it two whole numbers are one
_NO_OPTION = "Default Title"  # what Shopify writes for a product without variants


def text_column(frame: pl.DataFrame, column: str, *, joiner: str = " ") -> pl.Series:
    """Return a column as text; the parts of a list are joined with `joiner`.

    Whole numbers written with a fraction, as spreadsheets do to ids (17850.0), lose it.

    Raises:
        InputError: if the column's type has no plain text, such as a record or raw bytes.
    """
    values = frame[column]
    if values.dtype == pl.String:
        return _join_json_lists(values, joiner)
    if values.dtype == pl.Null:
        return values.cast(pl.String)
    if isinstance(values.dtype, pl.List) and values.dtype.inner == pl.String:
        return values.list.join(joiner)
    if values.dtype.is_float():
        values = values.fill_nan(None)
        if (values.is_finite() & (values.abs() >= _EXACT_IN_FLOAT)).any():
            raise InputError(
                f"{frame[FILE][0]}: column {column!r} holds floats of 2^53 and more, which have "
                "lost their last digits: different ids may have become one. Export it as text or "
                "whole numbers.",
                field=column,
            )
        whole = values.cast(pl.Int64, strict=False)
        if (whole == values).all():
            return whole.cast(pl.String)
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Categorical, pl.Date):
        return values.cast(pl.String)
    if isinstance(values.dtype, pl.Enum):
        return values.cast(pl.String)
    raise InputError(
        f"{frame[FILE][0]}: column {column!r} is of type {values.dtype}; text or whole numbers are "
        "expected.",
        field=column,
    )


def number_column(
    frame: pl.DataFrame, column: str, *, whole: bool = False, decimal_comma: bool = False
) -> pl.Series:
    """Return a column as Float64, with null where the cell is empty or NaN.

    Raises:
        InputError: naming the first row that is not a finite (if `whole`, whole) number.
    """
    raw = frame[column]
    if raw.dtype == pl.String:
        text = raw.str.strip_chars()
        raw = text.set(text == "", None)
        text = raw.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        numbers = (text if decimal_comma else raw).cast(pl.Float64, strict=False)
    elif raw.dtype.is_numeric() or raw.dtype == pl.Null:
        numbers = raw.cast(pl.Float64)
    else:
        raise InputError(
            f"{frame[FILE][0]}: column {column!r} is of type {raw.dtype}; numbers are expected.",
            field=column,
        )
    numbers = numbers.fill_nan(None)
    bad = numbers.is_infinite().fill_null(value=False)
    if raw.dtype == pl.String:
        bad |= numbers.is_null() & raw.is_not_null() & ~raw.str.to_lowercase().is_in(["nan"])
    if whole:
        bad |= (numbers != numbers.round()).fill_null(value=False)
    what = "is not a whole number" if whole else "is not a number"
    comma = bad.any() and not decimal_comma and raw.dtype == pl.String
    if comma and raw.filter(bad)[0].count(",") == 1:
        what += "; if a comma is its decimal point, set decimal_comma = true in the mapping"
    refuse_first(frame, bad, column, what)
    return numbers


def time_column(
    frame: pl.DataFrame, column: str, formats: Sequence[str], unit: str | None
) -> pl.Series:
    """Return a column as Int64 microseconds since 1970 UTC, null where it cannot be read.

    A time without a zone is taken as UTC. Without `formats` and `unit`, ISO 8601 is tried.

    Raises:
        InputError: if no value at all can be read, or numbers come without a `unit`.
    """
    raw = frame[column]
    if raw.dtype.is_temporal() and raw.dtype != pl.Time and not isinstance(raw.dtype, pl.Duration):
        if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
            raw = raw.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return raw.cast(pl.Datetime("us")).to_physical()
    if unit is not None:
        numbers = number_column(frame, column)
        if unit == "excel_days":
            numbers = numbers - _EXCEL_EPOCH
        return (numbers * _UNITS[unit]).round().cast(pl.Int64, strict=False)
    if raw.dtype != pl.String:
        raise InputError(
            f"{frame[FILE][0]}: column {column!r} is of type {raw.dtype}, not a time. If it counts "
            'from 1970, set time_unit to "s", "ms", "us" or "ns" in the mapping.',
            field=column,
        )
    times = _parse_times(raw.str.strip_chars(), formats)
    if times.null_count() == len(times):
        wanted = f"time_format {' or '.join(formats)}" if formats else "ISO 8601 (2026-01-31 09:30)"
        refuse_first(
            frame, raw.is_not_null(), column,
            f"does not fit {wanted}, and neither does any other row; set time_format or time_unit "
            "in the mapping",
        )  # fmt: skip
    return times


def refuse_first(frame: pl.DataFrame, bad: pl.Series, column: str, why: str) -> None:
    """Refuse a frame in which some row is `bad`.

    Raises:
        InputError: naming file, row, column and value of the first such row, and `why`.
    """
    if bad.any():
        file, row, value = frame.select(FILE, ROW, column).row(int(bad.arg_max() or 0))
        quoted = repr(value if not isinstance(value, str) else shown(value))
        raise InputError(f"{file}: row {row}, column {column!r}: {quoted} {why}.", field=column)


def shown(value: str) -> str:
    """Return the start of a cell without its words: under a wrong name it may be a person's."""
    return _WORD.sub("…", value)[:_QUOTED_LENGTH]


def _parse_times(text: pl.Series, formats: Sequence[str]) -> pl.Series:
    """Try each format in turn on what the ones before it could not read."""
    times = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(text)).alias(text.name)
    if not formats and text.str.contains(_USUAL).all():
        times = text.str.strptime(pl.Datetime("us"), _USUAL_FORMAT, strict=False).to_physical()
    for one in formats or (*ISO_FORMATS, *ISO_WITH_ZONE):
        if times.null_count() == text.null_count():
            break
        zone = "UTC" if _ZONE.search(one) else None
        parsed = text.str.strptime(pl.Datetime("us", zone), one, strict=False)
        times = times.fill_null(parsed.to_physical())
    left = times.is_null() & text.is_not_null()
    if formats or not left.any():
        return times
    more = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(text))
    return times.fill_null(more.scatter(left.arg_true(), _other_iso(text.filter(left))))


def _other_iso(text: pl.Series) -> pl.Series:
    """Read the rarer forms of ISO 8601: no seconds, any zone, compact; also 2026/01/31."""
    table = pl.DataFrame({"text": text}).with_columns(
        local=pl.coalesce(pl.col("text").str.extract(_ZONE_AT_END, 1), "text"),
        zone=pl.col("text").str.extract(_ZONE_AT_END, 2).str.replace(":", "", literal=True),
    )
    digits = pl.col("zone").str.slice(1).cast(pl.Int64, strict=False)
    short = pl.col("zone").str.len_chars() == 3  # such as +02
    given = pl.when(short).then(digits * 100).otherwise(digits)
    real = pl.col("zone").is_in(["Z", "z", "UTC", "GMT"]) | (
        (given <= _WIDEST_ZONE) & (given % 100 < 60)
    )
    minutes = pl.when(short).then(digits * 60).otherwise(digits // 100 * 60 + digits % 100)
    signed = pl.when(pl.col("zone").str.starts_with("-")).then(-minutes).otherwise(minutes)
    local = (
        pl.col("local").str.replace(r"(\d)T(\d)", "${1} ${2}").str.replace(",", ".", literal=True)
    )
    tries = [
        local.str.strptime(pl.Datetime("us"), day + clock, strict=False)
        for day in _MORE_DAYS
        for clock in _MORE_CLOCKS
    ]
    moment = pl.coalesce(tries).cast(pl.Int64)
    moment = pl.when(real.fill_null(value=True)).then(moment)
    return table.select((moment - signed.fill_null(0) * 60_000_000).alias("time")).to_series()


def _join_json_lists(values: pl.Series, joiner: str) -> pl.Series:
    """Join the cells that hold a JSON list of texts; of a list of lists, a path takes the first."""
    listed = values.filter(values.str.starts_with("[") & values.str.ends_with("]")).unique()
    joined = {cell: _join(cell, joiner) for cell in listed}
    return values.replace(list(joined), list(joined.values())) if joined else values


def _join(cell: str, joiner: str) -> str:
    try:
        parts = json.loads(cell)
    except ValueError:
        return cell
    if not isinstance(parts, list):
        return cell
    nested = [part for part in parts if isinstance(part, list)]
    if nested:
        parts = nested[0] if joiner != " " else [one for part in nested for one in part]
    return joiner.join(str(part) for part in parts if part is not None)


# ------------------------------------------------- whole tables, under the names the rules use


def item_columns(raw: pl.DataFrame, table: ItemsTable) -> pl.DataFrame:
    """Return item_id, title, text (the text columns joined), category and merchant, all text.

    Raises:
        InputError: as `text_column`.
    """
    raw, title = _variants(raw, table)
    blank = pl.Series([None], dtype=pl.String).new_from_index(0, raw.height)
    parts = pl.DataFrame(
        [
            (title if name == table.title else text_column(raw, name)).alias(f"{place}")
            for place, name in enumerate(table.text)
        ]
        or [title]
    )
    joined = pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)
    columns = {
        "item_id": text_column(raw, table.item_id),
        "title": title,
        "text": parts.select(joined.replace("", None)).to_series(),
        "category": text_column(raw, table.category, joiner=" > ") if table.category else blank,
        "merchant": text_column(raw, table.merchant) if table.merchant else blank,
    }
    if table.product_id and table.options:
        options = [text_column(raw, name).is_not_null() for name in table.options]
        columns["variant"] = pl.DataFrame(options).select(pl.any_horizontal(pl.all())).to_series()
    if table.hidden is not None:
        columns["hidden"] = _marks(raw, table.hidden).fill_null(value=False)
    return pl.DataFrame(columns)


def _marks(raw: pl.DataFrame, rule: RowRule) -> pl.Series:
    """Return which cells match: null where a cell is blank and so says nothing."""
    cells = text_column(raw, rule.column).str.strip_chars()
    return cells.set(cells == "", None).str.contains(rule.pattern)


def _variants(raw: pl.DataFrame, table: ItemsTable) -> tuple[pl.DataFrame, pl.Series]:
    """Return the table with a product's cells on each of its rows, and the titles.

    A shop writes title, text and status on a product's first row only. A variant's title is the
    product's with its own options behind it.
    """
    if table.product_id is None:
        return raw, text_column(raw, table.title)
    hidden = [table.hidden.column] if table.hidden else []
    shared = [table.title, *table.text, table.category, table.merchant, *hidden]
    own = {table.item_id, table.product_id, *table.options}
    product = pl.col(table.product_id)
    blank = pl.col(table.product_id).is_null()
    raw = raw.with_columns(
        pl.when(pl.col(name).is_null() & ~blank)
        .then(pl.col(name).drop_nulls().first().over(product))
        .otherwise(pl.col(name))
        .alias(name)
        for name in dict.fromkeys(shared)
        if name is not None and name not in own
    )
    title = text_column(raw, table.title)
    if not table.options:
        return raw, title
    cells = [text_column(raw, name).alias(f"{i}") for i, name in enumerate(table.options)]
    named = pl.DataFrame([cell.set(cell == _NO_OPTION, None) for cell in cells])
    options = named.select(pl.concat_str(pl.all(), separator=" / ", ignore_nulls=True)).to_series()
    with_options = pl.DataFrame({"title": title, "options": options.replace("", None)}).select(
        pl.concat_str("title", "options", separator=" - ", ignore_nulls=True).alias("title")
    )
    return raw, with_options.to_series().set(title.is_null(), None)


def event_columns(raw: pl.DataFrame, table: EventsTable) -> pl.DataFrame:
    """Return shopper_id, item_id, time (or position), and of the rest what the mapping names.

    A value that is the quantity's own column is left out: it is to be the quantity once cleaned.

    Raises:
        InputError: as `text_column`, `number_column` and `time_column`.
    """
    texts = {
        "shopper_id": table.shopper_id,
        "item_id": table.item_id,
        "order_id": table.order_id,
        "merchant": table.merchant,
    }
    numbers = {"quantity": table.quantity, "price": table.price, "value": table.value}
    columns = {name: text_column(raw, column) for name, column in texts.items() if column}
    if table.time is not None:
        columns["time"] = time_column(raw, table.time, table.time_format, table.time_unit)
        if table.order_id and raw[table.time].has_nulls():
            columns["no_time"] = raw[table.time].is_null()  # blank, and not merely unreadable
    elif table.position is not None:
        columns["time"] = number_column(raw, table.position, whole=True).cast(pl.Int64)
    if table.value == table.quantity:
        del numbers["value"]
    for name, column in numbers.items():
        if column is not None:
            columns[name] = number_column(raw, column, decimal_comma=table.decimal_comma)
    if table.cancelled:
        marks = [_marks(raw, rule).alias(f"{i}") for i, rule in enumerate(table.cancelled)]
        columns["cancelled"] = pl.DataFrame(marks).select(pl.any_horizontal(pl.all())).to_series()
    if table.type is not None:
        columns["type"] = text_column(raw, table.type.column)
    return pl.DataFrame(columns)


def label_columns(raw: pl.DataFrame, table: LabelsTable) -> pl.DataFrame:
    """Return item_id, and shopper_id, category and value where the mapping names them.

    Raises:
        InputError: as `text_column` and `number_column`.
    """
    columns = {"item_id": text_column(raw, table.item_id)}
    if table.shopper_id is not None:
        columns["shopper_id"] = text_column(raw, table.shopper_id)
    if table.category is not None:
        columns["category"] = text_column(raw, table.category, joiner=" > ")
    if table.value is not None:
        columns["value"] = number_column(raw, table.value, decimal_comma=table.decimal_comma)
    return pl.DataFrame(columns)


def review_columns(raw: pl.DataFrame, table: ReviewsTable) -> pl.DataFrame:
    """Return item_id and text. Who wrote a review is not even read.

    Raises:
        InputError: as `text_column`.
    """
    return pl.DataFrame(
        {"item_id": text_column(raw, table.item_id), "text": text_column(raw, table.text)}
    )
