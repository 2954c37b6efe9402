"""Who comes when in four weeks, and what they do with a list."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.serving.feedback.daily_rows import DAY

DAYS = 28
BOUGHT_AFTER_CLICK = 0.3
OPENING = 20_000 * DAY  # a day far from the marketplace's own year; the service has no other clock
_HOURS = (8, 22)


class Visit(NamedTuple):
    """A shopper (an index) who comes at a time, in microseconds since 1970 UTC."""

    time: int
    shopper: int


class Reaction(NamedTuple):
    """What came of one item of a list: its place, and whether it was clicked and bought."""

    place: int
    clicked: bool
    bought: bool


def draw_visits(
    shoppers: int, mean: float, random: np.random.Generator, opening: int = OPENING
) -> list[Visit]:
    """Return four weeks of visits in order of time; a shopper comes a Poisson number of times."""
    shopper = np.repeat(np.arange(shoppers), random.poisson(mean, shoppers))
    day = random.integers(DAYS, size=len(shopper))
    second = random.uniform(_HOURS[0] * 3600, _HOURS[1] * 3600, len(shopper))
    time = opening + day * DAY + (second * 10**6).astype(np.int64)
    return sorted(Visit(int(at), int(who)) for at, who in zip(time, shopper, strict=True))


def when(time: int) -> str:
    """Return a time in microseconds since 1970 UTC as an event has it."""
    return datetime.fromtimestamp(time / 10**6, UTC).isoformat()


def react(
    clicks: NDArray[np.float64], shopper: int, items: Sequence[int], random: np.random.Generator
) -> list[Reaction]:
    """Return what a shopper does with a list of items (indices): all are seen.

    `clicks` are the chances of a click: [shoppers, items].
    """
    draws = random.random((2, len(items)))
    clicked = draws[0] < clicks[shopper, list(items)]
    bought = clicked & (draws[1] < BOUGHT_AFTER_CLICK)
    return [
        Reaction(place, bool(click), bool(buy))
        for place, (click, buy) in enumerate(zip(clicked, bought, strict=True))
    ]


def events_of(
    name: str, items: Sequence[str], reactions: Sequence[Reaction]
) -> list[dict[str, Any]]:
    """Return the events of a list: `event_id`, `type`, `item_id`, `recommendation_id`."""
    found = []
    for place, clicked, bought in reactions:
        kinds = ["impression", *(["click"] if clicked else []), *(["purchase"] if bought else [])]
        for kind in kinds:
            event = {
                "event_id": f"{name}-{place}-{kind}",
                "type": kind,
                "item_id": items[place],
                "recommendation_id": name,
            }
            found.append(event | ({"order_id": name} if kind == "purchase" else {}))
    return found
