"""Alerts when click-through, conversion, coverage or tail share of the shop's lists have drifted.

Each day is held against the shop's own days before it. Figures are sums over a whole day, so no
alert says anything of one shopper.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from client.serving.experiments.drift import Direction, find_alarms
from client.serving.feedback.daily_rows import DAY, DailyFigures, close_days, daily_figures
from client.serving.feedback.store import Store

Figure = Literal["ctr", "conversion", "coverage", "tail_share"]
LEAST = 50  # items seen, or lists, on a day whose share says something
RECENT_DAYS = 7  # an alert is active for so long
_GRACE = 3600 * 10**6  # events come a little late: a day is added up an hour after its end


@dataclass(frozen=True)
class Alert:
    """A figure that has drifted.

    Attributes:
        figure: Which.
        direction: Whether it fell or rose.
        day: The day that settled it.
        value: Of that day.
        usual: The median of the days before.
        days: How many those were.
        active: Whether the day is one of the last RECENT_DAYS.
    """

    figure: Figure
    direction: Direction
    day: date
    value: float
    usual: float
    days: int
    active: bool

    def line(self) -> str:
        """Return the alert for the log."""
        return (
            f"alert: {self.figure} {self.direction} to {self.value:.4f} on {self.day}; "
            f"usual over {self.days} day(s): {self.usual:.4f}"
        )


FIGURES: Mapping[Figure, Callable[[DailyFigures], float | None]] = {
    "ctr": lambda one: _share(one.clicked, one.seen, one.seen),
    "conversion": lambda one: _share(one.bought, one.seen, one.seen),
    "coverage": lambda one: _share(one.different, one.rankable, one.lists),
    "tail_share": lambda one: _share(one.tail_listed, one.listed, one.lists),
}


class Alerts:
    """Adds up the days of a store and watches them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._adding = threading.Lock()

    def look(self, now: int, rankable: int) -> list[Alert]:
        """Add up days that are over; return the alerts that they brought.

        Args:
            now: In microseconds since 1970 UTC.
            rankable: How many items can be listed.

        Raises:
            StorageError: if the store cannot be used.
        """
        with self._adding:
            self._store.lists.flush()
            new = {one.day for one in close_days(self._store.engine, now - _GRACE, rankable)}
        if not new:
            return []
        return [one for one in self.all(now) if (one.day - date(1970, 1, 1)).days in new]

    def all(self, now: int) -> list[Alert]:
        """Return all alerts, the latest first.

        Raises:
            StorageError: if the store cannot be read.
        """
        days = daily_figures(self._store.engine)
        today = datetime.fromtimestamp(now / 10**6, UTC).date()
        found = []
        for figure, share in FIGURES.items():
            for alarm in find_alarms([share(one) for one in days]):
                moment = days[alarm.place].day * DAY / 10**6
                day = datetime.fromtimestamp(moment, UTC).date()
                active = (today - day).days <= RECENT_DAYS
                found.append(
                    Alert(
                        figure,
                        alarm.direction,
                        day,
                        alarm.value,
                        alarm.usual,
                        alarm.days,
                        active,
                    )
                )
        return sorted(found, key=lambda one: one.day, reverse=True)


def _share(count: int, whole: int, weight: int) -> float | None:
    """Return a share; None on a day with too little to tell."""
    return count / whole if whole and weight >= LEAST else None
