"""Where each record and field of a CSV file lies, by RFC 4180 to the letter.

This is a second reader, independent of the one that makes the table. It knows no leniency: a quote
opens a field at its very start, closes it at its very end, and is doubled in between. What it
finds is held against the table cell by cell (`csv_tables`), so that no row is merged or lost in
silence. Everything is done on arrays of byte positions; 100 MB take about a second.
"""

import json
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

_NEWLINE, _RETURN = 10, 13
_SEPARATOR_LINE = re.compile(rb'"?sep=([\x00-\x7f])"?(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


class WrongQuoteError(Exception):
    """A quote that RFC 4180 does not allow; `record` counts from 0, the header included."""

    def __init__(self, record: int, why: str, *, escaped: bool) -> None:
        super().__init__(why)
        self.record, self.why, self.escaped = record, why, escaped


@dataclass(frozen=True, eq=False)
class CsvStructure:
    r"""The records of one file, the header among them.

    Attributes:
        text: uint8 [bytes], with `\n` behind each record and no other line end outside quotes.
        quotes: int64 [q], where its quotes are, in pairs of open and closed.
        ends: int64 [f], where each field ends: at a separator or a newline.
        starts: int64 [f], where each field starts.
        last: int64 [r], the index in `ends` of each record's last field.
    """

    text: NDArray[np.uint8]
    quotes: NDArray[np.int64]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def widths(self) -> NDArray[np.int64]:
        """How many fields each record has: int64 [r]."""
        return np.diff(self.last, prepend=-1)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Which records are empty lines: bool [r]."""
        alone = self.widths == 1
        return np.asarray(alone & (self.ends[self.last] == self.starts[self.last]))

    def lengths(self, fields: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many bytes the fields at `fields` say, their quoting undone: int64 [n]."""
        starts, ends = self.starts[fields], self.ends[fields]
        length = ends - starts
        if not len(self.quotes):
            return length
        quoted = np.flatnonzero(self.text[starts] == self.text[self.quotes[0]])
        if len(quoted):
            before, behind = (np.searchsorted(self.quotes, at[quoted]) for at in (starts, ends))
            # Two of the quotes are the field's own; of the others each second one is an escape.
            length[quoted] -= 2 + (behind - before - 2) // 2
        return length


def with_plain_line_ends(text: bytes, quote: str) -> bytes:
    r"""Return `text` with `\n` for each `\r\n` and `\r` outside quotes, and one at the end.

    A lone `\r` ends a record too, as on old Macintoshes, also among other line ends: had a writer
    left it unquoted inside a field, the pieces would have too few fields each.
    """
    mark = quote.encode()
    if b"\r" in text:
        if not mark or mark not in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            text = _unquoted_returns(np.frombuffer(text, np.uint8), mark[0])
    return text if text.endswith(b"\n") else text + b"\n"


def _unquoted_returns(text: NDArray[np.uint8], mark: int) -> bytes:
    places = np.flatnonzero((text == _RETURN) | (text == mark))
    is_quote = text[places] == mark
    outside = places[~is_quote & (np.cumsum(is_quote) % 2 == 0)]
    after = np.minimum(outside + 1, len(text) - 1)
    paired = (text[after] == _NEWLINE) & (after > outside)
    text = text.copy()
    text[outside[~paired]] = _NEWLINE
    return np.delete(text, outside[paired]).tobytes()


def first_record(text: bytes, quote: str) -> bytes:
    """Return the first record that is no empty line, without its newline."""
    mark, start = quote.encode(), len(text) - len(text.lstrip(b"\n"))
    end = start - 1
    while True:
        end = text.find(b"\n", end + 1)
        if end < 0:
            return text[start:]
        if not mark or text.count(mark, start, end) % 2 == 0:
            return text[start:end]


def without_separator_line(name: str, text: bytes, separator: str) -> bytes:
    """Return UTF-8 `text` without a first line `sep=;`, by which Excel is told the separator.

    Raises:
        InputError: if the line names another separator.
    """
    said = _SEPARATOR_LINE.match(text)
    if said is None:
        return text
    if said[1].decode() != separator:
        raise InputError(
            f"{name}: its first line says that fields end at {said[1].decode()!r}; set "
            f"separator = {json.dumps(said[1].decode())} in the mapping.",
            field="separator",
        )
    return text[said.end() :]


def csv_structure(text: bytes, separator: str, quote: str) -> CsvStructure:
    """Find the records and fields of `text`, which has plain line ends.

    Args:
        text: As `with_plain_line_ends` returns it.
        separator: One byte.
        quote: One byte, or empty if nothing is quoted.

    Raises:
        WrongQuoteError: if a quote stands where RFC 4180 allows none.
    """
    cells = np.frombuffer(text, np.uint8)
    wanted = np.zeros(256, np.bool_)
    wanted[[ord(separator), _NEWLINE]] = True
    if quote:
        wanted[ord(quote)] = True
    places = np.flatnonzero(wanted[cells])
    quotes = np.empty(0, np.int64)
    if quote:
        is_quote = cells[places] == ord(quote)
        quotes = places[is_quote]
        if len(quotes):
            places = places[~is_quote & (np.cumsum(is_quote) % 2 == 0)]
    ends = places
    last = np.flatnonzero(cells[ends] == _NEWLINE)
    if len(quotes):
        _require_strict(cells, quotes, ends[last], ord(separator))
    return CsvStructure(cells, quotes, ends, np.concatenate([[0], ends[:-1] + 1]), last)


def _require_strict(
    cells: NDArray[np.uint8], quotes: NDArray[np.int64], newlines: NDArray[np.int64], mark: int
) -> None:
    """Refuse the first quote that neither opens nor closes a field, nor is one of a doubled pair.

    Raises:
        WrongQuoteError: naming its record.
    """
    opening, closing = quotes[::2], quotes[1::2]
    before = cells[np.maximum(opening - 1, 0)]
    opens = (opening == 0) | (before == mark) | (before == _NEWLINE)
    opens[1:] |= closing[: len(opening) - 1] == opening[1:] - 1
    after = cells[np.minimum(closing + 1, len(cells) - 1)]
    closes = (after == mark) | (after == _NEWLINE) | (closing == len(cells) - 1)
    closes[: len(opening) - 1] |= opening[1:] == closing[: len(opening) - 1] + 1
    wrong = [
        (int(opening[~opens][0]), "a quote stands inside a field") if not opens.all() else None,
        (int(closing[~closes][0]), "text follows a closing quote") if not closes.all() else None,
        (int(quotes[-1]), "a quote is never closed") if len(quotes) % 2 else None,
    ]
    found = min((one for one in wrong if one is not None), default=None)
    if found is not None:
        place, why = found
        record = int(np.searchsorted(newlines, place))
        raise WrongQuoteError(record, why, escaped=cells[max(place - 1, 0)] == ord("\\"))
