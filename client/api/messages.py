"""What is sent to the service and what comes back, as plain dataclasses.

An answer may have fields that this version does not know: they are left out.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Bucket = Literal["head", "tail", "new"]
EventType = Literal["impression", "click", "add_to_cart", "purchase", "refund", "dismiss"]


@dataclass(frozen=True)
class Filters:
    """Rules; an item must pass all of them. They decide before the best are picked.

    Attributes:
        allow: Only these items; None is all.
        deny: Not these.
        categories: Only these; None is all.
        not_categories: Not these.
        in_stock: Only what is in stock.
        keep_bought: Also what the shopper has.
    """

    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    categories: Sequence[str] | None = None
    not_categories: Sequence[str] = ()
    in_stock: bool = False
    keep_bought: bool = False

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "allow": None if self.allow is None else list(self.allow),
            "deny": list(self.deny),
            "categories": None if self.categories is None else list(self.categories),
            "not_categories": list(self.not_categories),
            "in_stock": self.in_stock,
            "keep_bought": self.keep_bought,
        }


@dataclass(frozen=True)
class ListOptions:
    """What every list can be asked for.

    Attributes:
        count: How many items, 1 to 500.
        surface: Where it is shown: `basket`, `product_page`, ... Lower case, at most 32.
        filters: What may be shown at all.
        tail_boost: 0 head, 1 as fitted, 2 tail.
        explain: Whether each item comes with a reason.
    """

    count: int = 10
    surface: str = "default"
    filters: Filters = field(default_factory=Filters)
    tail_boost: float = 1.0
    explain: bool = False

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "count": self.count,
            "surface": self.surface,
            "filters": self.filters.body(),
            "tail_boost": self.tail_boost,
            "explain": self.explain,
        }


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a list.

    Attributes:
        item_id: The shop's own id.
        rank: Its place, from 1.
        score: Higher is better; comparable within a list alone.
        chance: The chance that it is bought, where the shop's data can tell.
        bucket: Whether it sells often, rarely, or has not sold yet.
        reason: A sentence, where `explain` was asked for.
        parts: What each part adds to the score, by name, as docs/ref-http.md lists them; there with
            the reason.
    """

    item_id: str
    rank: int
    score: float
    chance: float | None
    bucket: Bucket
    reason: str | None = None
    parts: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "RecommendedItem":
        """Read it from an answer."""
        return cls(
            item_id=found["item_id"],
            rank=found["rank"],
            score=found["score"],
            chance=found["chance"],
            bucket=found["bucket"],
            reason=found.get("reason"),
            parts=found.get("parts"),
        )


@dataclass(frozen=True)
class Recommendations:
    """A list. Send its id with the events that come of it.

    Attributes:
        recommendation_id: 32 hex digits.
        release: The release that ranked it.
        variant: Which ranker it was.
        fallback: Why the best sellers stand here; None where the list is personal.
        items: The best first.
    """

    recommendation_id: str
    release: str
    variant: str
    fallback: str | None
    items: tuple[RecommendedItem, ...]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Recommendations":
        """Read it from an answer."""
        return cls(
            recommendation_id=found["recommendation_id"],
            release=found["release"],
            variant=found["variant"],
            fallback=found["fallback"],
            items=tuple(RecommendedItem.from_json(one) for one in found["items"]),
        )


@dataclass(frozen=True)
class Event:
    """Something a shopper did. Sent twice with one `event_id`, it counts once.

    Attributes:
        type: What it was.
        item_id: Of what.
        recommendation_id: The list that it came of, if it came of one.
        shopper_id: Whose it was, if the shop knows.
        order_id: Of a purchase or a refund.
        time: With a time zone; now if it is left out.
        event_id: Drawn by chance if it is left out. Make it of the order and the line where the
            same event may be made twice, as by a webhook that is delivered again.
    """

    type: EventType
    item_id: str
    recommendation_id: str | None = None
    shopper_id: str | None = None
    order_id: str | None = None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it; what is None is left out.

        Raises:
            ValueError: if the time has no time zone.
        """
        if self.time.tzinfo is None:
            raise ValueError("time: needs a time zone")
        named = {
            "event_id": self.event_id,
            "type": self.type,
            "item_id": self.item_id,
            "time": self.time.isoformat(),
            "recommendation_id": self.recommendation_id,
            "shopper_id": self.shopper_id,
            "order_id": self.order_id,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class EventsAnswer:
    """What became of events. What is accepted is on the service's disk.

    Attributes:
        accepted: How many are new.
        duplicates: How many were there already.
        rejected: Why an event was not kept, by its index in what was sent.
    """

    accepted: int
    duplicates: int
    rejected: Mapping[int, str]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "EventsAnswer":
        """Read it from an answer."""
        rejected = {one["index"]: one["reason"] for one in found["rejected"]}
        return cls(found["accepted"], found["duplicates"], rejected)
