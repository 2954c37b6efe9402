"""How the service is: health, metrics, what serves, what it costs and what it brings."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from client.serving.experiments.messages import Arm
from client.serving.feedback.online import Where, measure_online
from client.serving.http.context import Here, needs
from client.serving.http.problems import Problem
from client.serving.messages import (
    Bucket,
    BudgetAnswer,
    Health,
    OnlineAnswer,
    RateAnswer,
    ReleaseAnswer,
    Surface,
    Time,
)
from client.serving.metrics import CONTENT_TYPE

router = APIRouter(tags=["state"])
_ADMIN = [Depends(needs("admin"))]


@router.get("/health/live")
def is_live() -> Health:
    """Say that the process answers."""
    return Health()


@router.get("/health/ready")
def is_ready(here: Here) -> Health:
    """Say that a model is loaded and that events can be kept."""
    if not here.store.is_writable():
        raise Problem(503, "Events cannot be kept just now; lists are served.")
    return Health()


@router.get("/metrics", dependencies=_ADMIN, response_class=Response)
def metrics(here: Here) -> Response:
    """Return the counts as Prometheus reads them."""
    page = here.metrics.page(here.live.snapshot.source.release, here.store.lists.lost)
    return Response(page, headers={"Content-Type": CONTENT_TYPE})


@router.get("/v1/online", dependencies=_ADMIN)
def online(
    here: Here,
    *,
    since: Annotated[Time | None, Query(alias="from")] = None,
    until: Annotated[Time | None, Query(alias="to")] = None,
    surface: Annotated[Surface | None, Query()] = None,
    variant: Annotated[Arm | None, Query()] = None,
    bucket: Annotated[Bucket | None, Query()] = None,
) -> OnlineAnswer:
    """Return impressions, click-through and conversion, with 95% intervals; `to` is excluded."""
    where = Where(_microseconds(since), _microseconds(until), surface, variant, bucket)
    found = measure_online(here.store.engine, where)
    return OnlineAnswer(
        impressions=found.impressions,
        clicks=RateAnswer(**asdict(found.clicks)),
        conversions=RateAnswer(**asdict(found.conversions)),
    )


@router.get("/v1/release", dependencies=_ADMIN)
def release(here: Here) -> ReleaseAnswer:
    """Say which release and model serve."""
    snapshot = here.live.snapshot
    source = snapshot.source
    return ReleaseAnswer(
        release=source.release,
        release_digest=source.release_digest,
        model_digest=snapshot.model.digest,
        data_digest=source.data_digest,
        items=int(snapshot.rankable.sum()),
        waiting=len(snapshot.waiting),
    )


@router.get("/v1/budget", dependencies=_ADMIN)
def budget(here: Here) -> BudgetAnswer:
    """Say what the shop's ledger has spent on training. Serving spends nothing."""
    found = here.worker.budget()
    here.metrics.spent(found["epsilon"])
    return BudgetAnswer.model_validate(found)


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 10**6)
