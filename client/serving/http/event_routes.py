"""Events: what shoppers did with what they were shown."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import ValidationError

from client.serving.feedback.store import NewEvent
from client.serving.http.context import Here, needs
from client.serving.http.problems import first_words
from client.serving.http.strict_json import StrictRoute
from client.serving.live_shop import Snapshot
from client.serving.messages import Event, EventBatch, EventsAnswer, Rejected

router = APIRouter(
    route_class=StrictRoute, prefix="/v1", tags=["events"], dependencies=[Depends(needs("events"))]
)
_AHEAD = 86_400 * 10**6  # a clock may be wrong by so much, in microseconds


@router.post("/events", status_code=202)
def take_events(batch: EventBatch, here: Here) -> EventsAnswer:
    """Keep events. When this answers, what it accepted is on disk, once.

    An event is credited to its list only if its item was in that list. An item that the shop does
    not have is rejected, and never created.
    """
    snapshot, latest = here.live.snapshot, here.now() + _AHEAD
    events, rejected = [], []
    for index, given in enumerate(batch.events):
        read = _read(given, snapshot, latest)
        if isinstance(read, str):
            rejected.append(Rejected(index=index, reason=read))
        else:
            events.append(read)
    fresh = here.store.add_events(events) if events else []
    answer = EventsAnswer(
        accepted=sum(fresh), duplicates=len(fresh) - sum(fresh), rejected=rejected
    )
    here.metrics.came(
        accepted=answer.accepted, duplicates=answer.duplicates, rejected=len(rejected)
    )
    return answer


def _read(given: Any, snapshot: Snapshot, latest: int) -> NewEvent | str:
    """Return an event, or why it is none; the reason repeats no value."""
    try:
        event = Event.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "/".join(str(part)[:64] for part in first["loc"])
        return first_words(f"{where}: {first['msg']}" if where else str(first["msg"]))
    time = int(event.time.timestamp() * 10**6)
    if time > latest:
        return "time: lies in the future"
    if event.item_id not in snapshot.model.catalogue:
        return "item_id: the shop has no such item"
    return NewEvent(
        event.event_id,
        event.type,
        time,
        event.item_id,
        event.shopper_id,
        event.recommendation_id,
        event.order_id,
    )
