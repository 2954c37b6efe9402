"""The base of signed records: frozen, strict about their fields, and never with an infinite number.

Whoever signs a record chooses what is in it, so its reader takes nothing for granted: unknown,
missing and mistyped fields are errors that name the field.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

_T = TypeVar("_T")


def _frozen(held: Mapping[str, _T]) -> Mapping[str, _T]:
    """Return a map that cannot change, by name: in one order, whoever made it and in which."""
    return MappingProxyType(dict(sorted(held.items())))


def _thawed(frozen: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _thawed(value) if isinstance(value, MappingProxyType) else value
        for name, value in frozen.items()
    }


FrozenMap = Annotated[Mapping[str, _T], AfterValidator(_frozen), PlainSerializer(_thawed)]
Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class Record(BaseModel):
    """Base of signed records: unknown keys and non-finite numbers are errors, all frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Return where and what the first of pydantic's findings is, without the value itself."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the document"
    return f"{where}: {problem['msg']}"
