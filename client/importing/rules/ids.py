"""One spelling for each id: what names the same person or item becomes the same text.

Only spellings that no shop uses to tell two apart are folded. Leading zeros, plus parts of an
address and the case of all but addresses stay, since they may; where ids differ by no more than
that, the import warns.
"""

from collections.abc import Collection, Sequence
from functools import partial

import polars as pl

from client.importing.coded.ids import OddIds, texts
from common.errors import InputError

# What exports write for nothing, compared without case.
NULL_WORDS = (
    "null", "(null)", "nil", "none", "(none)", "nan", "na", "n/a", "#n/a", "<na>", "nat",
    "undefined", "unknown", "(blank)", r"\n", "-", "--", "?",
)  # fmt: skip
_ADDRESS = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_FLOAT = r"^-?(?:0|[1-9]\d*)\.0+$"
_FRACTION = r"^-?\d+\.\d*[1-9]\d*$"
_SCIENTIFIC = r"^[+-]?(\d)(?:\.(\d+))?[eE]\+(\d{1,3})$"
_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_MOST_EXAMPLES = 3


def drop_null_words(
    frame: pl.DataFrame, columns: Sequence[str], odd: OddIds | None = None
) -> pl.DataFrame:
    """Make ids null that are a word for nothing, such as NULL, nan and N/A."""
    odd = odd or OddIds()

    def without(ids: pl.Expr) -> pl.Expr:
        return pl.when(~ids.str.to_lowercase().is_in(NULL_WORDS)).then(ids)

    return frame.with_columns(odd.respelt(frame, name, without) for name in columns)


def has_fractions(ids: pl.Series) -> bool:
    """Tell whether some id is a number with a fraction: then `1.0` is an id and no float's `1`."""
    return bool(ids.str.contains(_FRACTION).any())


def canonical_ids(
    frame: pl.DataFrame,
    columns: Sequence[str],
    fractions: Collection[str],
    odd: OddIds | None = None,
) -> pl.DataFrame:
    """Write each id in one way: NFC, narrow letters, `17850` for `17850.0`, addresses lower-case.

    Args:
        frame: With tidy ids.
        columns: Of ids. Addresses are looked for in `shopper_id` alone.
        fractions: Columns whose ids have true fractions, so that `.0` stays.
        odd: Of the frame, where its ids are coded.
    """
    odd = odd or OddIds()
    return frame.with_columns(
        odd.respelt(
            frame,
            name,
            partial(
                _canonical,
                wide=bool(odd.texts(frame, name).str.contains("[\uff01-\uff5e]").any()),
                fractions=name in fractions,
                addresses=name == "shopper_id",
            ),
        )
        for name in columns
    )


def _canonical(ids: pl.Expr, *, wide: bool, fractions: bool, addresses: bool) -> pl.Expr:
    ids = ids.str.normalize("NFC")
    if wide:
        ids = ids.str.replace_many(list(_WIDE), list(_WIDE.values()))
    if not fractions:
        whole = ids.str.replace(r"\.0+$", "")
        ids = _exact_scientific(pl.when(ids.str.contains(_FLOAT)).then(whole).otherwise(ids))
    if addresses:
        ids = pl.when(ids.str.contains(_ADDRESS)).then(ids.str.to_lowercase()).otherwise(ids)
    return ids


def _exact_scientific(ids: pl.Expr) -> pl.Expr:
    """Write out numbers like 1.785E+3, of which no digit is lost."""
    digits, exponent = ids.str.extract(_SCIENTIFIC, 2), ids.str.extract(_SCIENTIFIC, 3)
    exact = digits.str.len_chars() == exponent.cast(pl.UInt32, strict=False)
    plain = ids.str.extract(_SCIENTIFIC, 1) + digits
    return pl.when(exact & ~ids.str.starts_with("-")).then(plain).otherwise(ids)


def require_whole_ids(
    frame: pl.DataFrame, columns: Sequence[str], table: str, odd: OddIds | None = None
) -> None:
    """Refuse ids like 4.0069E+12: a spreadsheet has cut digits, and two ids may be one.

    Raises:
        InputError: naming the table, the column, how many there are and one.
    """
    odd = odd or OddIds()
    for name in columns:
        if not odd.texts(frame, name).str.contains(_SCIENTIFIC).any():
            continue
        column = frame[name].cast(pl.String)
        cut = column.filter(column.str.contains(_SCIENTIFIC).fill_null(value=False))
        if len(cut):
            raise InputError(
                f"{table}: {len(cut)} values of {name} are written like {cut[0]!r}: a spreadsheet "
                "has cut their digits, and different ids may have become one. Export the column as "
                'text; if these are true ids, set ids = "as_written" under [clean].',
                field=name,
            )


def differing_by_form(ids: pl.Series) -> tuple[int, list[str]]:
    """Return how many ids differ from another only by case, zeros, spaces or marks, and examples.

    Nothing is merged: whether they are one is for the merchant to say.
    """
    names = pl.DataFrame({"id": texts(ids)})
    plain = pl.col("id").str.to_lowercase().str.replace_all(r"[\s\-_./]", "")
    zeros = pl.when(plain.str.contains(r"^\d+$")).then(plain.str.strip_chars_start("0"))
    keyed = names.with_columns(zeros.otherwise(plain).alias("form"))
    alike = keyed.filter(pl.len().over("form") > 1).sort("form", "id")
    groups = alike.group_by("form", maintain_order=True).agg(pl.col("id"))
    shown = [" and ".join(map(repr, group[:2])) for group in groups["id"].head(_MOST_EXAMPLES)]
    return alike.height, shown
