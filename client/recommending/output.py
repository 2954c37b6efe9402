"""Recommendations as a person reads them, and as a program does."""

import json

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from client.recommending.explanation import Explanation, HistoryPart
from client.recommending.recommender import Recommended
from common.catalogue import Catalogue

SHOWN_PARTS = 3  # history items named below a recommendation; the others are summed in one line


def list_table(found: list[Recommended], title: str) -> Table:
    """Return the list with each score and its two parts."""
    table = Table(title=title)
    for heading in ("", "item", "title"):
        table.add_column(heading)
    for heading in ("score", "shop", "text", "chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(found, 1):
        why = one.explanation
        numbers = (why.score, why.score - why.text, why.text)
        table.add_row(
            str(place),
            escape(one.item.item_id),
            escape(one.item.title),
            *map(_two, numbers),
            "–" if one.chance is None else f"{one.chance:.1%}",
        )
    return table


def explained_list(found: list[Recommended], catalogue: Catalogue, title: str) -> RenderableType:
    """Return the list with each recommendation's reason and the parts of its score."""
    blocks: list[RenderableType] = [f"[bold]{escape(title)}[/bold]"]
    for place, one in enumerate(found, 1):
        name, what = escape(one.item.item_id), escape(one.item.title)
        blocks.append(f"\n{place}. [bold]{what}[/bold] [dim]{name}[/dim]\n   {escape(one.because)}")
        blocks.append(Padding(_parts_table(one.explanation, catalogue), (0, 0, 0, 3)))
    return Group(*blocks)


def _parts_table(why: Explanation, catalogue: Catalogue) -> Table:
    """Return the parts of one score, every number of it in some row."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("because of")
    for heading in ("goes together", "text", "sum"):
        table.add_column(heading, justify="right")
    shown, rest = why.history[:SHOWN_PARTS], why.history[SHOWN_PARTS:]
    for part in shown:
        table.add_row(escape(catalogue.items[part.item].title), *_numbers(part))
    if rest:
        summed = HistoryPart(
            -1, sum(part.collaborative for part in rest), sum(part.text for part in rest)
        )
        table.add_row(f"{len(rest)} more of the history", *_numbers(summed))
    for name, added in (
        ("sales trend", why.trend),
        ("season here", why.season),
        ("season elsewhere", why.federated_season),
        ("not sold yet", why.cold_start),
        ("popularity", why.popularity),
    ):
        if added:
            table.add_row(name, "", "", _two(added))
    table.add_row(
        "[bold]score[/bold]",
        _two(why.collaborative),
        _two(why.text),
        f"[bold]{_two(why.score)}[/bold]",
    )
    return table


def _numbers(part: HistoryPart) -> tuple[str, str, str]:
    return _two(part.collaborative), _two(part.text), _two(part.total)


def _two(value: float) -> str:
    """Return two digits after the point; what rounds to zero has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def list_json(found: list[Recommended], catalogue: Catalogue, version: str) -> str:
    """Return the list as JSON, best first; each item's parts add up to its score."""
    return json.dumps(
        {
            "release": version,
            "recommendations": [
                {
                    "item_id": one.item.item_id,
                    "title": one.item.title,
                    "score": one.score,
                    "chance": one.chance,
                    "because": one.because,
                    "text_weight": one.explanation.text_weight,
                    "parts": one.explanation.parts,
                    "history": [
                        {
                            "item_id": catalogue.items[part.item].item_id,
                            "collaborative": part.collaborative,
                            "text": part.text,
                        }
                        for part in one.explanation.history
                    ],
                }
                for one in found
            ],
        },
        indent=2,
        ensure_ascii=False,
    )
