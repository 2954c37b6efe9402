"""Look before an import: what was detected, ten parsed rows, periods, and what rules would do."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from client.importing.mapping import Mapping
from client.importing.mapping_detection import NO_EVENTS
from client.importing.quality_report import QualityReport
from client.shop.dataset import MerchantData

_ROWS = 10
_LONGEST = 32  # characters of a cell
_SECTIONS = ("items", "events", "labels", "reviews")


class ImportLook:
    """What `--check` shows on the merchant's own screen; nothing of it is written."""

    def __init__(self, mapping: Mapping, data: MerchantData, report: QualityReport) -> None:
        self._mapping, self._data, self._report = mapping, data, report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"Layout: {self._mapping.name}", style="bold")
        yield from self._layout()
        yield self._rows()
        yield self._report
        yield Text(
            "Nothing was written. Import with the same command and --out instead of --check."
        )

    def _layout(self) -> Iterator[RenderableType]:
        for name in _SECTIONS:
            section = getattr(self._mapping, name)
            if section is not None and section != NO_EVENTS:
                given = section.model_dump(exclude_defaults=True, exclude_none=True)
                cells = ", ".join(f"{key} = {_short(value)}" for key, value in given.items())
                yield Text(f"[{name}] {cells}")

    def _rows(self) -> Table:
        data = self._data
        table = Table(title=f"The first {_ROWS} rows, as they would be kept")
        for heading in ("shopper", "item", "title", "time", "value"):
            table.add_column(heading, overflow="ellipsis", no_wrap=True)
        rows = data.interactions
        for place in range(min(_ROWS, len(rows))):
            item = data.catalogue.items[rows.item[place]]
            moment = rows.time[place]
            table.add_row(
                *(
                    Text(cell[:_LONGEST])
                    for cell in (
                        rows.shopper_ids[rows.shopper[place]],
                        item.item_id,
                        item.title,
                        f"{moment.astype('M8[us]').astype('M8[s]')}" if rows.timed else f"{moment}",
                        f"{rows.value[place]:g}",
                    )
                )
            )
        return table


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    if isinstance(value, dict):
        inner = ", ".join(f"{key} {_short(one)}" for key, one in value.items())
        return f"({inner})"
    return str(value)
