"""Recommendations: one list, more of it, like items, and many lists at once."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from client.serving.experiments.arms import Assigned
from client.serving.http.context import Here, Service, needs
from client.serving.http.problems import Problem, problem_of
from client.serving.http.strict_json import StrictRoute
from client.serving.lists import request_of, serve_list
from client.serving.live_shop import Snapshot
from client.serving.messages import (
    BatchAnswer,
    BatchRequest,
    HistoryItem,
    Id,
    ListId,
    ListOptions,
    NextRequest,
    RecommendationRequest,
    Recommendations,
)
from common.errors import InputError

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1",
    tags=["recommendations"],
    dependencies=[Depends(needs("serve"))],
)


@router.post("/recommendations")
def recommend(request: RecommendationRequest, here: Here) -> Recommendations:
    """Return the best items: `count` of them, or all that may be shown."""
    return _serve(here, here.live.snapshot, request)


@router.post("/recommendations/batch")
def recommend_many(request: BatchRequest, here: Here) -> BatchAnswer:
    """Return a list for each request; one that cannot be answered has a problem in its place."""
    snapshot = here.live.snapshot
    results: list[Recommendations | dict[str, Any]] = []
    for one in request.requests:
        try:
            results.append(_serve(here, snapshot, one))
        except InputError as error:
            results.append(problem_of(error).document())
    return BatchAnswer(results=results)


@router.post("/recommendations/{recommendation_id}/next")
def recommend_more(
    recommendation_id: Annotated[ListId, Path()], request: NextRequest, here: Here
) -> Recommendations:
    """Return the items that come after a list, for the same shopper and by the same rules."""
    row = here.store.find_list(recommendation_id)
    if row is None:
        raise Problem(404, "There is no list of that id.")
    before, shown = request_of(row)
    shown += [one["item_id"] for one in row["items"]]
    after = before.model_copy(update={"count": request.count})
    going_on = here.experiments.again(row["variant"], row["experiment"])
    return _serve(here, here.live.snapshot, after, shown, going_on)


@router.post("/items/{item_id:path}/similar")
def recommend_similar(
    item_id: Annotated[Id, Path()], request: ListOptions, here: Here
) -> Recommendations:
    """Return what goes with an item: the list of somebody who has this one alone."""
    snapshot = here.live.snapshot
    if item_id not in snapshot.model.catalogue:
        raise Problem(404, "The shop has no item of that id.")
    history = [HistoryItem(item_id=item_id)]
    given = {name: getattr(request, name) for name in request.model_fields_set}
    wanted = RecommendationRequest.model_construct(history=history, **given)
    return _serve(here, snapshot, wanted)


def _serve(
    here: Service,
    snapshot: Snapshot,
    request: RecommendationRequest,
    shown: Sequence[str] = (),
    assigned: Assigned | None = None,
) -> Recommendations:
    if assigned is None:
        assigned = here.experiments.assigned(snapshot, request.shopper_id)
    served = serve_list(
        here.experiments.armed(snapshot, assigned.variant),
        request,
        here.now(),
        is_erased=here.store.is_erased,
        shown=shown,
        assigned=assigned,
    )
    here.store.lists.add(served.row)
    answer = served.answer
    here.metrics.recommended(request.surface, answer.variant, (one.bucket for one in answer.items))
    return answer
