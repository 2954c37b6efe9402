"""Where one shop's raw tables are, and how to read each: from its folder or its database."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from client.importing.databases import read_database
from client.importing.files import column_names, find_files, read_files, style_of
from client.importing.mapping import Mapping, TableSource
from client.importing.parts.csv_parts import Watch, read_in_parts
from client.importing.platforms.layouts import variant_keys
from common.errors import InputError


@dataclass(frozen=True)
class ShopSource:
    """A shop's folder, file or database.

    Attributes:
        path: The folder, or the one file that holds both items and events, or None.
        database_url: A SQLAlchemy address for tables that the mapping takes from a database.
        encoding: The files' encoding, over what the mapping says.
    """

    path: Path | None
    database_url: str | None = None
    encoding: str | None = None

    def with_variants(self, mapping: Mapping) -> Mapping:
        """Return a mapping that knows variants, if the items' file is a platform's that has them.

        A person who maps such an export by hand names the columns seen and not the product's.
        """
        items, place = mapping.items, mapping.items_place
        if items.product_id or items.options or place.in_database or self.path is None:
            return mapping
        try:
            paths = (
                [self.path] if self.path.is_file() else find_files(self.path, place.file, "items")
            )
            style = style_of(paths[0], place, self.encoding or mapping.encoding)
            keys = variant_keys(column_names(paths[0], style))
        except InputError:
            return mapping  # what is wrong with the file is said when it is read
        changed = items.model_copy(update=keys)
        return mapping.model_copy(update={"items": changed})

    def items_and_events(self, mapping: Mapping) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Read both tables, once if they are one and the same.

        Raises:
            InputError: as `table`.
        """
        items, events = mapping.items, mapping.events
        items_place, events_place = mapping.items_place, events.place
        if items_place == events_place:
            both = list(dict.fromkeys([*items.columns(), *events.columns()]))
            frame = self.table(mapping, "events", events_place, both)
            return frame, frame
        if self.path is not None and self.path.is_file() and items_place.file and events.file:
            raise InputError(
                f"{self.path.name}: the mapping {mapping.name} reads items and events from two "
                "files; give the folder that holds both.",
                field="source",
            )
        return (
            self.table(mapping, "items", items_place, items.columns()),
            self.table(mapping, "events", events_place, events.columns()),
        )

    def table(
        self, mapping: Mapping, section: str, place: TableSource, columns: list[str]
    ) -> pl.DataFrame:
        """Read `columns` of the table of `section`, which lies at `place`.

        Raises:
            InputError: if it is not there, or cannot be read.
        """
        if place.in_database:
            if self.database_url is None:
                raise InputError(
                    f"[{section}] of the mapping {mapping.name} comes from a database; give its "
                    "address.",
                    field="database_url",
                )
            return read_database(self.database_url, place, columns)
        if self.path is None:
            raise InputError(
                f"[{section}] of the mapping {mapping.name} comes from files; give the folder "
                "that holds them.",
                field="source",
            )
        paths = self._files(section, place)
        return read_files(paths, place, columns, self.encoding or mapping.encoding)

    def csv_parts(
        self, mapping: Mapping, watch: Watch | None = None
    ) -> Iterator[pl.DataFrame] | None:
        """Return the parts of the events' table; None if it is no file, or is the items' too.

        Raises:
            InputError: as `read_in_parts`, or if there is no file.
        """
        events = mapping.events
        if self.path is None or events.place.in_database or mapping.items_place == events.place:
            return None
        paths = self._files("events", events.place)
        encoding = self.encoding or mapping.encoding
        return read_in_parts(paths, events.place, events.columns(), encoding, watch)

    def _files(self, section: str, place: TableSource) -> list[Path]:
        if self.path is None:
            return []
        if self.path.is_file() and section in ("items", "events"):
            return [self.path]
        folder = self.path.parent if self.path.is_file() else self.path
        return find_files(folder, place.file, section)
