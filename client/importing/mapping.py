"""What a shop's columns are called: the mapping, a small TOML file read once and checked.

A mapping says where the items and the events are and which column holds what. Ready-made ones lie
in `client/importing/mappings/`; docs/ref-mapping.md describes every key.
"""

import tomllib
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from client.importing.mapping_values import ClockTime, Column, Columns, Encoding, Mark, Pattern
from client.shop.splitting import SplitRule
from common.catalogue import LONGEST_TEXT
from common.errors import SettingsError

EVENT_TYPES = ("view", "click", "cart", "purchase", "refund")
MAPPING_FILE = "mapping.toml"  # a folder that holds one needs no guess
_SHIPPED = files("client.importing") / "mappings"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TableSource(_Section):
    """Where one table lies: files by name pattern, or a table or query of a database.

    Attributes:
        file: Names or patterns (`*`), relative to the shop's folder; a leading `!` leaves out.
        table: The name of a database table, instead of `file`.
        query: A SELECT, instead of `file`.
        format: csv, json_lines or parquet; by default told from the file's ending.
        separator: Of a csv file, one or more characters; by default `,`, and a tab for .tsv.
        quote: The quoting character of a csv file; empty when it has none.
        escape: The character before a quote or separator inside a field; empty when there is none.
        header: The column names of a csv file that has no header line.
        encoding: Overrides the mapping's encoding for this table.
        decimal_comma: Whether numbers are written 2,55.
        unnest: A column of JSON Lines that holds a list of records; each record becomes a row, and
            its fields are named `unnest.field`.
    """

    file: Columns = ()
    table: Column | None = None
    query: Column | None = None
    format: Literal["csv", "json_lines", "parquet", "xml"] | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    quote: Mark = '"'
    escape: Mark | None = None
    header: Columns = ()
    encoding: Encoding | None = None
    decimal_comma: bool = False
    unnest: Column | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (bool(self.file) + bool(self.table) + bool(self.query)) > 1:
            raise PydanticCustomError(
                "place", "has more than one of file, table and query; keep one"
            )
        return self

    @property
    def in_database(self) -> bool:
        """Whether the table comes from a database."""
        return bool(self.table or self.query)

    @property
    def place(self) -> "TableSource":
        """Only where the table lies and how it is written: equal for two views of one table."""
        return TableSource(**{name: getattr(self, name) for name in TableSource.model_fields})

    def columns(self) -> list[str]:
        """Return the names of all columns this section maps, each once."""
        return []


class RowRule(_Section):
    """Which rows are meant: those whose `column` matches `pattern`."""

    column: Column
    pattern: Pattern


def _rules(given: object) -> object:
    return tuple(given) if isinstance(given, list) else given if given == () else (given,)


RowRules = Annotated[tuple[RowRule, ...], BeforeValidator(_rules)]


class ItemsTable(TableSource):
    """The catalogue. `text` are the columns joined for the encoder; by default the title.

    Rows with one `product_id` are variants of a product: what only its first row says holds for
    all, and a variant's title has its `options` behind it. `hidden` items are not for sale yet.
    """

    item_id: Column
    title: Column
    text: Columns = ()
    category: Column | None = None
    merchant: Column | None = None
    product_id: Column | None = None
    options: Columns = ()
    hidden: RowRule | None = None

    def columns(self) -> list[str]:  # noqa: D102 - as in TableSource
        hidden = self.hidden.column if self.hidden else None
        return _distinct(
            self.item_id, self.title, *self.text, self.category, self.merchant,
            self.product_id, *self.options, hidden,
        )  # fmt: skip


class EventTypes(_Section):
    """Which words in `column` are which kind of event, and the public weight of each kind.

    A weight becomes the interaction's value; a kind of weight 0 is left out. A refund takes a
    purchase back.
    """

    column: Column
    view: Columns = ()
    click: Columns = ()
    cart: Columns = ()
    purchase: Columns = ()
    refund: Columns = ()
    view_weight: Annotated[float, Field(ge=0, le=1000)] = 0.1
    click_weight: Annotated[float, Field(ge=0, le=1000)] = 0.2
    cart_weight: Annotated[float, Field(ge=0, le=1000)] = 0.5
    purchase_weight: Annotated[float, Field(gt=0, le=1000)] = 1.0

    def weight(self, kind: str) -> float:
        """Return the weight of `kind`, one of EVENT_TYPES but a refund."""
        return float(getattr(self, f"{kind}_weight"))


class EventsTable(TableSource):
    """What shoppers did. Exactly one of `time` and `position` orders a shopper's events."""

    shopper_id: Column
    item_id: Column
    time: Column | None = None
    time_format: Columns = ()
    time_unit: Literal["s", "ms", "us", "ns", "excel_days"] | None = None
    position: Column | None = None
    order_id: Column | None = None
    quantity: Column | None = None
    price: Column | None = None
    value: Column | None = None
    merchant: Column | None = None
    cancelled: RowRules = ()
    type: EventTypes | None = None

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if (self.time is None) == (self.position is None):
            raise PydanticCustomError("order", "needs exactly one of time and position")
        if self.time_format and self.time_unit:
            raise PydanticCustomError("order", "has both time_format and time_unit; keep one")
        return self

    def columns(self) -> list[str]:  # noqa: D102 - as in TableSource
        cancelled = [rule.column for rule in self.cancelled]
        return _distinct(
            self.shopper_id, self.item_id, self.time, self.position, self.order_id,
            self.quantity, self.price, self.value, self.merchant, *cancelled,
            self.type.column if self.type else None,
        )  # fmt: skip


class LabelsTable(TableSource):
    """Labels made by hand, joined by item, or by shopper and item; they win over the data."""

    item_id: Column
    shopper_id: Column | None = None
    category: Column | None = None
    value: Column | None = None

    @model_validator(mode="after")
    def _something_to_join(self) -> Self:
        if self.category is None and self.value is None:
            raise PydanticCustomError("labels", "needs category or value")
        if self.category is not None and self.shopper_id is not None:
            raise PydanticCustomError(
                "labels", "gives a category per shopper; a category belongs to an item alone"
            )
        return self

    def columns(self) -> list[str]:  # noqa: D102 - as in TableSource
        return _distinct(self.item_id, self.shopper_id, self.category, self.value)


class ReviewsTable(TableSource):
    """Review text joined to the item's text. Shoppers wrote it: it must be public already."""

    item_id: Column
    text: Column
    reviews_are_public: bool = False
    per_item: Annotated[int, Field(ge=1, le=100)] = 3
    max_length: Annotated[int, Field(ge=20)] = 300

    @model_validator(mode="after")
    def _declared_public(self) -> Self:
        if not self.reviews_are_public:
            raise PydanticCustomError(
                "reviews",
                "joins what shoppers wrote to the public catalogue; if the shop already shows "
                "these reviews to everybody, declare reviews_are_public = true, else leave "
                "[reviews] out",
            )
        return self

    def columns(self) -> list[str]:  # noqa: D102 - as in TableSource
        return _distinct(self.item_id, self.text)


class CleanRules(_Section):
    """Settings of the cleaning rules (client/importing/cleaning.py)."""

    product_code: Pattern | None = None
    max_text_length: Annotated[int, Field(ge=20, le=LONGEST_TEXT)] = 2000
    outlier_quantity: Literal["cap", "drop", "keep"] = "cap"
    keep_unsold_items: bool = True
    ids: Literal["canonical", "as_written"] = "canonical"


class SplitDates(_Section):
    """How events are divided into training, validation and test."""

    kind: Literal["time", "leave_last_out"]
    valid_from: ClockTime | None = None
    test_from: ClockTime | None = None

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.kind == "leave_last_out":
            if self.valid_from or self.test_from:
                raise PydanticCustomError("split", "of kind leave_last_out takes no dates")
        elif self.valid_from is None or self.test_from is None:
            raise PydanticCustomError("split", "of kind time needs valid_from and test_from")
        elif self.valid_from >= self.test_from:
            raise PydanticCustomError("split", "has a valid_from that is not before its test_from")
        return self

    def rule(self) -> SplitRule:
        """Return the split rule in microseconds since 1970 UTC."""
        if self.valid_from is None or self.test_from is None:
            return SplitRule("leave_last_out")
        return SplitRule("time", microseconds(self.valid_from), microseconds(self.test_from))


class Mapping(_Section):
    """A whole mapping. `items` without a place of its own are read from the events' files."""

    name: Column
    encoding: Encoding = "utf-8"
    items: ItemsTable
    events: EventsTable
    labels: LabelsTable | None = None
    reviews: ReviewsTable | None = None
    clean: CleanRules = CleanRules()
    split: SplitDates | None = None

    @model_validator(mode="after")
    def _places_and_clock(self) -> Self:
        if not (self.events.file or self.events.in_database):
            raise PydanticCustomError("events", "needs [events] with file, table or query")
        for name, table in (("labels", self.labels), ("reviews", self.reviews)):
            if table is not None and not (table.file or table.in_database):
                raise PydanticCustomError(name, f"needs [{name}] with file, table or query")
        if self.split and self.split.kind == "time" and self.events.time is None:
            raise PydanticCustomError(
                "split", "has a [split] of kind time, which needs a time in [events]"
            )
        return self

    @property
    def items_place(self) -> TableSource:
        """Where the items lie: their own place, or the events' when they name none."""
        own = self.items.file or self.items.in_database
        return self.items.place if own else self.events.place

    @property
    def declares_catalogue(self) -> bool:
        """Whether the items are an own list, kept whole, and not what the events show was sold."""
        return self.items_place != self.events.place and self.clean.keep_unsold_items


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970 UTC of a moment that knows its time zone."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def mapping_names() -> list[str]:
    """Return the names of the ready-made mappings, sorted."""
    names = (entry.name for entry in _SHIPPED.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_mapping(source: str | Path) -> Mapping:
    """Read a ready-made mapping by its name, or a mapping file by its path.

    Raises:
        SettingsError: if there is none, it is not TOML, or a key is unknown, missing or wrong.
    """
    if isinstance(source, str) and source in mapping_names():
        return parse_mapping((_SHIPPED / f"{source}.toml").read_text("utf-8"), f"{source}.toml")
    path = Path(source)
    try:
        return parse_mapping(path.read_text("utf-8"), path.name)
    except FileNotFoundError:
        raise SettingsError(
            f"{source}: no such mapping. Give a file, or one of: {', '.join(mapping_names())}.",
            field="mapping",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error  # the system's words, without the path
        raise SettingsError(
            f"{path.name}: the mapping cannot be read as UTF-8 text: {why}.", field="mapping"
        ) from None


def parse_mapping(text: str, origin: str) -> Mapping:
    """Read a mapping from TOML `text`; `origin` is the file's name for messages.

    Raises:
        SettingsError: as `load_mapping`.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{origin}: not valid TOML: {error}.", field="mapping") from None
    tables.setdefault("name", origin.removesuffix(".toml"))
    try:
        return Mapping.model_validate(tables)
    except ValidationError as error:
        # A misspelt key is also a missing one: name the misspelling.
        worst = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        raise SettingsError(f"{origin}: {_explain(worst)}.", field="mapping") from None


def _explain(detail: ErrorDetails) -> str:
    """Say in plain words what one pydantic error found, and in which section and key."""
    parts = [str(part) for part in detail["loc"]]
    sections = [part for part in parts if part in _SECTIONS]
    keys = [part for part in parts if part not in _SECTIONS and not part.isdigit()]
    section = f"[{'.'.join(sections)}]" if sections else "the mapping"
    key = keys[0] if keys else ""
    if detail["type"] == "extra_forbidden":
        model = _SECTIONS[sections[-1]] if sections else Mapping
        known = ", ".join(sorted(model.model_fields))
        return f"{section} has an unknown key {key!r}; known keys are {known}"
    if detail["type"] == "missing":
        return f"{section} lacks the required key {key!r}" if key else f"there is no {section}"
    if detail["type"] == "model_type":
        return f"{section} must be a section with keys of its own"
    message = detail["msg"].removeprefix("Input ")
    return " ".join(part for part in (section, key and f"{key!r}", message) if part)


_SECTIONS: dict[str, type[BaseModel]] = {
    "items": ItemsTable,
    "events": EventsTable,
    "cancelled": RowRule,
    "hidden": RowRule,
    "type": EventTypes,
    "labels": LabelsTable,
    "reviews": ReviewsTable,
    "clean": CleanRules,
    "split": SplitDates,
}


def _distinct(*names: str | None) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))
