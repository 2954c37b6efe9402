"""What an import did to each row: the quality report, which counts and never quotes.

It names no shopper and holds no row. Its counts are exact, though, and so it stays at the node.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import StringIO

import polars as pl
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from common.errors import InputError

_MOST_PERIODS = 26
ROWS = "__rows__"  # the column that says how many equal rows a row stands for


@dataclass(frozen=True)
class TableQuality:
    """Rows of one table: read = kept + all dropped + all left out + all merged.

    Attributes:
        table: Its section in the mapping: items, events, labels or reviews.
        rows_read: Rows in the files.
        rows_kept: Rows that are left.
        dropped: Rows lost, by rule.
        merged: Rows joined to another that says the same, by rule. Nothing is lost by them.
        changed: Rows altered and kept, by rule.
        left_out: Rows that the mapping asks to leave out, by rule. They are no dirt.
    """

    table: str
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]
    merged: Mapping[str, int]
    changed: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped_share(self) -> float:
        """Dropped rows over rows read."""
        return sum(self.dropped.values()) / max(self.rows_read, 1)


@dataclass(frozen=True)
class Doubt:
    """One thing to look at.

    Attributes:
        text: What it is, with counts; it goes into `quality.json`.
        examples: Ids it is about. They are shown on the merchant's own screen and kept nowhere.
    """

    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityReport:
    """The counts of one import. `print` and `rich` show it as a table.

    Attributes:
        name: The data set's name.
        tables: One entry for each table read.
        shoppers: Shoppers with an interaction.
        items: Items in the catalogue.
        unsold_items: Of these, items with no interaction.
        interactions: Rows of shopper, basket and item.
        pairs: Distinct pairs of shopper and item.
        catalogue_declared: Whether the catalogue is an item list of its own, and not learnt from
            purchases.
        periods: Purchases in each month, `2026-01` first; empty without clock times.
        parts: Purchases to train, validate and test on.
        head: Purchases of the best-sold items: of the first 1%, 5%, 20% and 50% of all items.
        doubts: What looks wrong; `examples` are shown and never written.
        max_dropped_share: The share of dropped rows past which the import would have failed.
    """

    name: str
    tables: tuple[TableQuality, ...]
    shoppers: int
    items: int
    unsold_items: int
    interactions: int
    pairs: int
    catalogue_declared: bool
    max_dropped_share: float
    periods: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    head: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()

    def to_json(self, dataset_sha256: str) -> bytes:
        """Return the report as one JSON object that names the data set it belongs to."""
        tables = [{**asdict(one), "dropped_share": one.dropped_share} for one in self.tables]
        texts = [doubt.text for doubt in self.doubts]
        report = {
            **asdict(self),
            "tables": tables,
            "doubts": texts,
            "dataset_sha256": dataset_sha256,
        }
        return json.dumps(report, indent=2, ensure_ascii=False).encode()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(
            f"{self.name}: {self.shoppers:,} shoppers, {self.items:,} items "
            f"({self.unsold_items:,} never sold), {self.interactions:,} interactions, "
            f"{self.pairs:,} distinct shopper-item pairs"
        )
        if self.catalogue_declared:
            yield "Catalogue: declared, from an item list of its own."
        else:
            yield (
                "Catalogue: learnt from purchases, so it tells what was bought. To federate, give "
                "an item list of its own and keep unsold items."
            )
        table = Table(title="What happened to each row")
        for heading in ("table", "rule", "rows", "share"):
            numeric = heading in ("rows", "share")
            table.add_column(heading, justify="right" if numeric else "left")
        for one in self.tables:
            _add_rows(table, one)
            table.add_section()
        yield table
        if self.periods:
            yield _bars("Purchases by period", self.periods)
        yield Text("Parts: " + ", ".join(f"{rows:,} {part}" for part, rows in self.parts.items()))
        if self.head:
            shares = ", ".join(f"the top {top} {share:.0%}" for top, share in self.head.items())
            yield Text(f"Head and tail, by share of purchases: {shares}")
        for doubt in self.doubts:
            shown = f" For example {'; '.join(doubt.examples)}." if doubt.examples else ""
            yield Text(f"Look: {doubt.text}{shown}", style="yellow")
        yield f"An import fails when more than {self.max_dropped_share:.0%} of a table is dropped."

    def __str__(self) -> str:
        screen = Console(file=StringIO(), width=100, color_system=None)
        with screen.capture() as shown:
            screen.print(self, markup=False, highlight=False)
        return shown.get()


def _bars(title: str, counts: Mapping[str, int]) -> Table:
    """Return counts as bars, the longest 30 wide; of many, only those at the ends."""
    table = Table(title=title, show_header=False)
    most = max(counts.values())
    rows = list(counts.items())
    if len(rows) > _MOST_PERIODS:
        half = _MOST_PERIODS // 2
        rows = [*rows[:half], (f"{len(rows) - 2 * half} more", -1), *rows[-half:]]
    for name, count in rows:
        bar = "█" * round(30 * max(count, 0) / most) or "▏"
        table.add_row(name, "" if count < 0 else f"{count:,}", "" if count < 0 else bar)
    return table


def _add_rows(table: Table, quality: TableQuality) -> None:
    def add(name: str, rule: str, rows: int) -> None:
        table.add_row(name, rule, f"{rows:,}", f"{rows / max(quality.rows_read, 1):.2%}")

    add(quality.table, "rows read", quality.rows_read)
    kinds = {
        "left out": quality.left_out,
        "dropped": quality.dropped,
        "merged": quality.merged,
        "changed": quality.changed,
    }
    for kind, counts in kinds.items():
        for rule, rows in counts.items():
            if rows:
                add("", f"{kind}: {rule}", rows)
    idle = sum(1 for counts in kinds.values() for rows in counts.values() if not rows)
    table.add_row("", f"rules that found nothing: {idle}", "", "")
    add("", "rows kept", quality.rows_kept)


@dataclass
class Tally:
    """Counts what the rules do to one table while it is cleaned.

    A frame with a column `ROWS` stands for as many rows as that column adds up to.
    """

    table: str
    rows_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, rule: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
        """Count the rows that `rule` left out as the mapping asks, and return `after`."""
        self.left_out[rule] = self.left_out.get(rule, 0) + _rows(before) - _rows(after)
        return after

    def drop(self, rule: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
        """Count the rows that `rule` dropped, and return `after`."""
        self.dropped[rule] = self.dropped.get(rule, 0) + _rows(before) - _rows(after)
        return after

    def merge(self, rule: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
        """Count the rows that `rule` merged into others, and return `after`."""
        self.merged[rule] = self.merged.get(rule, 0) + _rows(before) - _rows(after)
        return after

    def change(self, rule: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
        """Count the rows in which `rule` changed a cell, and return `after`."""
        shared = [name for name in before.columns if name in after.columns]
        differs = [
            ~before[name].eq_missing(after[name])
            for name in shared
            if not before[name].equals(after[name], null_equal=True)
        ]
        if not differs:
            self.changed.setdefault(rule, 0)
            return after
        changed = pl.DataFrame([one.alias(f"{i}") for i, one in enumerate(differs)])
        count = _rows(after.filter(changed.select(pl.any_horizontal(pl.all())).to_series()))
        self.changed[rule] = self.changed.get(rule, 0) + count
        return after

    def finish(self, rows_kept: int) -> TableQuality:
        """Close the count.

        Raises:
            RuntimeError: if a row is unaccounted for, which would be a fault in cleaning itself.
        """
        gone = sum(sum(one.values()) for one in (self.dropped, self.merged, self.left_out))
        if self.rows_read != rows_kept + gone:
            raise RuntimeError(
                f"{self.table}: {self.rows_read} rows read, {rows_kept} kept and {gone} counted "
                "as gone do not add up."
            )
        return TableQuality(
            self.table,
            self.rows_read,
            rows_kept,
            self.dropped,
            self.merged,
            self.changed,
            self.left_out,
        )


def _rows(frame: pl.DataFrame) -> int:
    return int(frame[ROWS].sum()) if ROWS in frame.columns else frame.height


def require_clean(quality: TableQuality, max_dropped_share: float) -> None:
    """Refuse a table of which too much was dropped, or nothing is left.

    Raises:
        InputError: naming the table, the share, the bound and the rules that dropped most.
    """
    worst = sorted(quality.dropped.items(), key=lambda rule: -rule[1])
    listed = ", ".join(f"{rule} {rows:,}" for rule, rows in worst if rows) or "no rule"
    if not quality.rows_kept:
        raise InputError(
            f"{quality.table}: none of the {quality.rows_read:,} rows is left. Rows dropped by "
            f"rule: {listed}. Correct the file or its mapping.",
            field=quality.table,
        )
    if quality.dropped_share > max_dropped_share:
        raise InputError(
            f"{quality.table}: {quality.dropped_share:.1%} of {quality.rows_read:,} rows were "
            f"dropped, more than max_dropped_share {max_dropped_share:.1%}. By rule: {listed}. "
            "Correct the file or its mapping, or raise the share if these rows should go.",
            field="max_dropped_share",
        )
