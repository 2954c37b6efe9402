"""Requests and answers of the service, as OpenAPI shows them. Unknown fields are errors."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from client.serving.feedback.store import EventType

MOST_ITEMS = 500  # of one list
MOST_EVENTS = 1000
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def _storable(time: datetime) -> datetime:
    if not _EARLIEST <= time <= datetime(2200, 1, 1, tzinfo=UTC):
        raise ValueError("a time is from 2000 to 2200")
    return time


Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_PRINTABLE)]
ShortId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_PRINTABLE)]
ListId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Surface = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Words = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_PRINTABLE)]
Category = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Time = Annotated[AwareDatetime, AfterValidator(_storable)]
Count = Annotated[int, Field(ge=1, le=MOST_ITEMS, strict=True)]
Bucket = Literal["head", "tail", "new"]
Ids = Annotated[list[Id], Field(max_length=10_000)]
Categories = Annotated[list[Category], Field(max_length=1000)]


class Message(BaseModel):
    """Base of all that is sent either way."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


# -------------------------------------------------------------- recommendations
class HistoryItem(Message):
    """Something that a shopper bought or looked at."""

    item_id: Id
    time: Time | None = None


class ListFilters(Message):
    """Rules; an item must pass all of them. They decide before the best are picked."""

    allow: Ids | None = None
    deny: Ids = []
    categories: Categories | None = None
    not_categories: Categories = []
    in_stock: bool = Field(default=False, strict=True)
    keep_bought: bool = Field(default=False, strict=True)


class ListOptions(Message):
    """What every list can be asked for."""

    surface: Surface = "default"
    count: Count = 10
    filters: ListFilters = ListFilters()
    tail_boost: float = Field(default=1.0, ge=0, le=2, description="0 head, 1 as fitted, 2 tail")
    explain: bool = Field(default=False, strict=True)


class RecommendationRequest(ListOptions):
    """For a shopper of the import, for a history, or for somebody of whom nothing is known."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "history": [{"item_id": "85123A"}],
                    "surface": "basket",
                    "count": 5,
                    "filters": {"in_stock": False},
                    "explain": True,
                }
            ]
        }
    )
    shopper_id: Id | None = None
    history: Annotated[list[HistoryItem], Field(max_length=1000)] | None = Field(
        default=None, description="In order of time, the latest last, or each with its time."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.shopper_id is not None and self.history is not None:
            raise ValueError("give shopper_id or history, and not both")
        timed = [one.time is not None for one in self.history or ()]
        if any(timed) and not all(timed):
            raise ValueError("history: give each item a time, or none")
        return self


class NextRequest(Message):
    """More of a list."""

    count: Count = 10


class BatchRequest(Message):
    """Several lists at once."""

    requests: Annotated[list[RecommendationRequest], Field(min_length=1, max_length=100)]


class HistoryPart(Message):
    """What one item of the history adds to a score."""

    item_id: str
    collaborative: float
    text: float


class Parts(Message):
    """A score, taken apart.

    (collaborative + text) + (((trend + cold_start) + popularity) + (season + federated_season))
    """

    collaborative: float
    text: float
    trend: float
    cold_start: float
    popularity: float
    season: float
    federated_season: float
    history: list[HistoryPart]


class RecommendedItem(Message):
    """One item of a list. `reason` and `parts` are there where `explain` was asked for."""

    item_id: str
    rank: int
    score: float
    chance: float | None
    bucket: Bucket
    reason: str | None = None
    parts: Parts | None = None


class Recommendations(Message):
    """A list. Send its id with the events that come of it."""

    recommendation_id: str
    release: str
    variant: str
    fallback: Literal["no_history", "unknown_shopper"] | None = Field(
        description="Why the best sellers stand here; null where the list is personal."
    )
    items: list[RecommendedItem]


class BatchAnswer(Message):
    """A list or a problem for each request, in their order."""

    results: list[Recommendations | dict[str, Any]]


# -------------------------------------------------------------- events
class Event(Message):
    """Something a shopper did. Sent twice with one `event_id`, it counts once."""

    event_id: ShortId
    type: EventType
    item_id: Id
    time: Time
    shopper_id: Id | None = None
    recommendation_id: ListId | None = None
    position: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    order_id: ShortId | None = None

    @model_validator(mode="after")
    def _orders_are_named(self) -> Self:
        if self.type == "refund" and self.order_id is None:
            raise ValueError("order_id: a refund names the order")
        return self


_EVENT_SCHEMA = Event.model_json_schema(ref_template="#/components/schemas/{model}")


class EventBatch(Message):
    """Events. One that is not well formed is rejected by its index; the others count."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "e-1",
                            "type": "click",
                            "item_id": "85123A",
                            "time": "2026-11-30T10:00:00Z",
                        }
                    ]
                }
            ]
        }
    )
    events: Annotated[
        list[Any],
        Field(min_length=1, max_length=MOST_EVENTS, json_schema_extra={"items": _EVENT_SCHEMA}),
    ]


class Rejected(Message):
    """An event that was not kept, and why."""

    index: int
    reason: str


class EventsAnswer(Message):
    """What became of the events. What is accepted is on disk."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


# -------------------------------------------------------------- catalogue and the rest
class ItemBody(Message):
    """An item. `text` is what the model reads; without one it reads the title."""

    title: Title
    text: Words | None = None
    category: Category = ""


class ItemChange(Message):
    """What changes of an item; what is left out stays."""

    title: Title | None = None
    text: Annotated[Words, Field(min_length=1)] | None = None
    category: Category | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.title is None and self.text is None and self.category is None:
            raise ValueError("name at least one of title, text and category")
        return self


class ItemAnswer(Message):
    """An item as it is ranked from now on."""

    item_id: str
    title: str
    text: str
    category: str
    version: int


class StockLevel(Message):
    """How much there is of an item."""

    item_id: Id
    quantity: float = Field(ge=0)


class StockBody(Message):
    """The stock of the items named. With `complete`, all others are out of stock."""

    items: Annotated[list[StockLevel], Field(max_length=50_000)]
    complete: bool = Field(default=False, strict=True)


class StockAnswer(Message):
    """What became of it; unknown items are left alone."""

    changed: int
    unknown: int


class RateAnswer(Message):
    """A share of the impressions with its 95% interval; null without impressions."""

    count: int
    rate: float | None
    low: float | None
    high: float | None


class OnlineAnswer(Message):
    """What came of the lists."""

    impressions: int
    clicks: RateAnswer
    conversions: RateAnswer


class ReleaseAnswer(Message):
    """What is serving."""

    release: str
    release_digest: str
    model_digest: str
    data_digest: str
    items: int
    waiting: int = Field(description="New items whose text this release has yet to read.")


class BudgetAnswer(Message):
    """What the shop's ledger has spent on training; serving spends nothing."""

    entries: int
    epsilon: float
    delta: float
    max_epsilon: float


class Health(Message):
    """Whether the service can do its work."""

    status: Literal["ok"] = "ok"
