"""Read a product feed in XML (RSS 2.0 or Atom, as Google Merchant takes it) into text columns."""

import re
from collections.abc import Sequence
from xml.parsers import expat

import polars as pl

from common.errors import InputError

_ENTRIES = ("item", "entry")


def xml_rows(name: str, text: bytes) -> list[dict[str, str]]:
    """Return each entry's fields by their names without prefix; a repeated one is joined.

    A document type is refused, so no entity can grow or name a file.

    Raises:
        InputError: if it is no XML, or has a document type or no entry.
    """
    if re.search(rb"<!(?:DOCTYPE|ENTITY)", text):
        raise InputError(
            f"{name}: has a document type, which a product feed does not need; remove it.",
            field="file",
        )
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise InputError(
            f"{name}: not valid XML in line {error.lineno}; export it again.", field="file"
        ) from None
    if not reader.rows:
        raise InputError(f"{name}: has no <item> or <entry>; a feed lists one each.", field="row")
    return reader.rows


def read_xml(name: str, text: bytes, columns: Sequence[str], row: str) -> pl.DataFrame:
    """Return `columns` of a feed as text, null where an entry lacks one, and `row` from 1.

    Raises:
        InputError: as `xml_rows`.
    """
    rows = [[one.get(column) for column in columns] for one in xml_rows(name, text)]
    schema = dict.fromkeys(columns, pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index(row, offset=1)


class _Reader:
    """Collects the fields of entries while the parser runs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._depth = 0  # within an entry
        self._field = ""
        self._text: list[str] = []

    def start(self, tag: str, _: dict[str, str]) -> None:
        plain = tag.rpartition(":")[2]
        if self._depth == 0:
            if plain in _ENTRIES:
                self.rows.append({})
                self._depth = 1
            return
        self._depth += 1
        if self._depth == 2:  # a field of the entry
            self._field, self._text = plain, []

    def data(self, text: str) -> None:
        if self._depth > 1:
            self._text.append(text)

    def end(self, _: str) -> None:
        if self._depth == 0:
            return
        self._depth -= 1
        if self._depth == 1:
            value, row = "".join(self._text).strip(), self.rows[-1]
            if value:
                row[self._field] = f"{row[self._field]} > {value}" if self._field in row else value
