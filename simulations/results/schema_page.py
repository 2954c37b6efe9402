"""The reference page of results.json, made from the classes that read and write it.

python -m simulations.results.schema_page > docs/ref-results-schema.md
"""

import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from simulations.results.measures import LOWER_IS_BETTER, METRICS, MODEL_NOTES, MODELS
from simulations.results.schema import Results

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_MEANINGS = {
    "ndcg@10": "discounted gain of the hits among the first 10, over the best possible",
    "recall@10": "hits among the first 10, over the smaller of 10 and what was to be found",
    "precision@10": "hits among the first 10, over 10",
    "f1@10": "harmonic mean of recall and precision",
    "auc": "chance that an item to be found is ranked above one that is not",
    "tail_recall@10": "recall of tail items: all but the top 20% by training sales",
    "tail_precision@10": "hits on tail items among the first 10, over the tail items there",
    "tail_f1@10": "harmonic mean of the two above",
    "tail_auc": "AUC among tail items alone",
    "head_recall@10": "recall of head items: the top 20% by training sales",
    "cold_recall@10": "recall of items without one sale in training",
    "tail_by_volume_recall@10": "recall of the items outside those that make 80% of all sales",
    "coverage@10": "share of the catalogue that is recommended to anybody",
    "gini@10": "how unequally the items are shown; 0 is equal",
    "aplt@10": "share of tail items in a list",
}
_INTRODUCTION = """# Reference: results.json

`fedtail simulate` writes one `results.json` for each run. It is read as strictly as it is written:
an unknown key, a missing one or one of another type is an error. A number that is not defined (such
as the cold recall of a shop without new items) is `null`. Metrics are means over the shoppers of
the test for whom they are defined.

Read it in Python with `simulations.results.schema.load_results(path)`, or with any JSON reader:
`metrics["fused"]["ndcg@10"]`.

This page is made from the code:
`python -m simulations.results.schema_page > docs/ref-results-schema.md`.
"""


def schema_page() -> str:
    """Return the whole page as Markdown."""
    parts = [_INTRODUCTION, _models(), _metrics()]
    parts += [_section(model) for model in _reachable(Results)]
    return "\n".join(parts)


def _models() -> str:
    rows = "\n".join(
        f"| `{name}` | {label} | {MODEL_NOTES[name]} |" for name, label in MODELS.items()
    )
    return (
        f"## Models\n\nOthers may be added.\n\n| key | model | meaning |\n|---|---|---|\n{rows}\n"
    )


def _metrics() -> str:
    rows = "\n".join(
        f"| `{name}` | {'lower' if name in LOWER_IS_BETTER else 'higher'} | {_MEANINGS[name]} |"
        for name in METRICS
    )
    return f"## Metrics\n\n| key | better | meaning |\n|---|---|---|\n{rows}\n"


def _section(model: type[BaseModel]) -> str:
    """Return one class as a table of its fields."""
    purpose = (model.__doc__ or "").strip().splitlines()[0]
    rows = [
        f"| `{field.alias or name}` | {_kind(field.annotation)} | {_meaning(field)} |"
        for name, field in model.model_fields.items()
    ]
    table = "\n".join(["| key | type | meaning |", "|---|---|---|", *rows])
    return f"## {model.__name__}\n\n{purpose}\n\n{table}\n"


def _meaning(field: FieldInfo) -> str:
    optional = "" if field.is_required() else " (may be left out)"
    return f"{field.description}{optional}"


def _kind(annotation: Any) -> str:
    """Return a type in plain words, with links to the tables of this page."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _simple_kind(annotation)
    if origin is Literal:
        if inner == tuple(METRICS):
            return "[metric](#metrics)"
        return " or ".join(f"`{value}`" for value in inner)
    if origin in {Union, UnionType}:
        named = [_kind(one) for one in inner if one is not NoneType]
        return " or ".join([*named, "null"] if NoneType in inner else named)
    containers = {tuple: ("list of ", 0), dict: ("object of ", 1), Annotated: ("", 0)}
    prefix, place = containers[origin]
    return f"{prefix}{_kind(inner[place])}"


def _simple_kind(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return _PLAIN.get(annotation, "any JSON value")


def _reachable(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return `model` and every class its fields lead to, in order of first mention."""
    found = [model]
    for one in found:  # the list grows while it is walked
        for field in one.model_fields.values():
            found += [part for part in _parts(field.annotation) if part not in found]
    return found


def _parts(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts(inner)]


if __name__ == "__main__":
    sys.stdout.write(schema_page())
