"""The kinds of values a mapping file holds, each checked as it is read."""

import codecs
from datetime import UTC, date, datetime, time
from typing import Annotated

import polars as pl
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError


def _one_or_more(given: object) -> object:
    if isinstance(given, str):
        return (given,)
    return tuple(given) if isinstance(given, list) else given


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise PydanticCustomError(
            "encoding",
            "is {name}, which Python does not know; use utf-8, gb18030, latin-1 or another",
            {"name": repr(name)},
        ) from None
    return name


def _valid_pattern(pattern: str) -> str:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        raise PydanticCustomError(
            "pattern", "is {pattern}, which is not a regular expression", {"pattern": repr(pattern)}
        ) from None
    return pattern


def _clock_time(given: object) -> object:
    """Turn a TOML date, TOML date-time or ISO text into UTC; leave all else to be refused."""
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            return given
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time())
    if isinstance(given, datetime):
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    return given


def _one_byte(mark: str) -> str:
    if not mark.isascii() or mark in ("\n", "\r", "\x00"):
        raise PydanticCustomError("mark", "must be one ASCII character that ends no line")
    return mark


Mark = Annotated[str, Field(max_length=1), AfterValidator(_one_byte)]
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(_one_or_more)]
Pattern = Annotated[str, AfterValidator(_valid_pattern)]
Encoding = Annotated[str, AfterValidator(_known_encoding)]
ClockTime = Annotated[datetime, BeforeValidator(_clock_time)]
