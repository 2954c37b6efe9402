"""What the page shows of a shop, and the two things a merchant does there."""

import contextlib
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.background import BackgroundTask

from client.recommending.model_history import MOST_KEPT, kept_models, roll_back
from client.serving.http.gate import PAGE
from client.serving.page.charts import sales_curve, scale_to
from client.serving.page.outlook import decide
from client.serving.page.parts import Parts
from client.serving.page.preview import (
    BOOSTS,
    find_products,
    make_preview,
    some_shopper,
)
from client.serving.page.quality import count_catalogue, read_quality
from client.serving.page.reach import BUCKETS
from client.serving.page.rendering import is_fragment, render
from client.serving.page.results import DAYS, measure_results
from client.serving.page.security import Form, PartsOf, Posted, Signed
from client.serving.page.sessions import Session
from common.errors import FedtailError

router = APIRouter(include_in_schema=False)
_MOST_HISTORY = 50
_USUAL_DAYS = 30
_SEE_OTHER = 303


def _shop_values(parts: Parts, session: Session, current: str) -> dict[str, Any]:
    """Return what every page of the shop is given.

    Args:
        parts: Of the page.
        session: Whose page it is.
        current: Its name in the navigation.
    """
    snapshot = parts.service.live.snapshot
    return {
        "current": current,
        "csrf": session.csrf,
        "shop_name": snapshot.model.shop,
        "source": snapshot.source,
        "model_digest": snapshot.model.digest,
        "buckets": BUCKETS,
    }


@router.get("/")
def overview(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the shop at a glance."""
    values = _shop_values(parts, session, "overview") | {
        "results": measure_results(parts.service.store, parts.service.now(), _USUAL_DAYS),
        "health": _health(parts),
        "measuring": parts.benefit.now(parts.service.live.snapshot.model.digest),
    }
    return render(request, "overview.html.j2", values)


@router.get("/reach")
def reach(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the sales curve and what the lists reach of it."""
    found = parts.reach.measure(parts.service.live.snapshot)
    values = _shop_values(parts, session, "overview")
    return render(
        request, "_reach.html.j2", values | {"reach": found, "curve": sales_curve(found.bins)}
    )


@router.get("/lists")
def lists(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Ask for whom a list is wanted."""
    values = _listed(parts, Form({}))
    return render(request, "lists.html.j2", _shop_values(parts, session, "lists") | values)


@router.post("/lists")
def show_list(request: Request, form: Posted, session: Signed, parts: PartsOf) -> Response:
    """Show a list. It is a post so that no shopper's id stands in an address or a log."""
    values = _shop_values(parts, session, "lists") | _listed(parts, form)
    template = "_list.html.j2" if is_fragment(request) else "lists.html.j2"
    return render(request, template, values)


@router.get("/results")
def results(
    request: Request,
    session: Signed,
    parts: PartsOf,
    days: Annotated[int, Query(ge=0, le=3650)] = _USUAL_DAYS,
) -> Response:
    """Show what came of the lists, and the experiments."""
    found = measure_results(parts.service.store, parts.service.now(), days)
    rates = [found.whole, *found.buckets.values()]
    values = _shop_values(parts, session, "results") | {
        "results": found,
        "spans": (*DAYS, 0),
        "click_scale": scale_to([one.clicks.high or 0.0 for one in rates]),
        "conversion_scale": scale_to([one.conversions.high or 0.0 for one in rates]),
        "experiments": parts.experiments.views(),
        "choices": parts.experiments.choices(),
    }
    return render(request, "results.html.j2", values)


@router.get("/training")
def training(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the next round: cost and gain come in parts of their own, since they take a moment."""
    return render(request, "training.html.j2", _shop_values(parts, session, "training"))


@router.get("/training/outlook")
def outlook(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the budget, what the next round would cost and bring, and the decision."""
    measuring = parts.benefit.now(parts.service.live.snapshot.model.digest)
    cost = parts.service.worker.next_run()
    values: Mapping[str, Any] = {
        "cost": cost,
        "measuring": measuring,
        "decision": decide(cost, measuring.brought),
        "scale": scale_to(
            [
                one.high
                for means in (measuring.brought.models.values() if measuring.brought else ())
                for one in means.values()
                if one is not None
            ]
        ),
    }
    return render(
        request, "_outlook.html.j2", {**_shop_values(parts, session, "training"), **values}
    )


@router.get("/models")
def models(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the models that can serve."""
    return _models(request, session, parts, done=False)


@router.get("/data")
def data(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Show the data behind the lists, and the service's health."""
    snapshot = parts.service.live.snapshot
    values = _shop_values(parts, session, "data") | {
        "quality": read_quality(parts.folders.shop, snapshot.source.data_digest),
        "catalogue": count_catalogue(snapshot),
        "health": _health(parts),
    }
    return render(request, "data.html.j2", values)


@router.get("/data/worker")
def worker(request: Request, session: Signed, parts: PartsOf) -> Response:
    """Ask the worker for something, and say whether it answered."""
    try:
        parts.service.worker.budget()
        problem = ""
    except FedtailError as error:
        problem = str(error)
    values = _shop_values(parts, session, "data") | {"problem": problem}
    return render(request, "_worker.html.j2", values)


@router.post("/training/measure")
def measure(request: Request, _: Posted, session: Signed, parts: PartsOf) -> Response:
    """Begin to measure what the release brings."""
    parts.benefit.start(parts.service.live.snapshot.model.digest)
    if is_fragment(request):
        return outlook(request, session, parts)
    return RedirectResponse(f"{PAGE}/training", _SEE_OTHER)


@router.post("/experiments/start")
def start_experiment(form: Posted, parts: PartsOf) -> Response:
    """Start an experiment between two arms."""
    name, *arms = (form.first(field).strip() for field in ("name", "baseline", "challenger"))
    parts.experiments.start(name, *arms)
    return RedirectResponse(f"{PAGE}/results", _SEE_OTHER)


@router.post("/experiments/stop")
def stop_experiment(form: Posted, parts: PartsOf) -> Response:
    """End an experiment by hand."""
    parts.experiments.stop(form.first("name"))
    return RedirectResponse(f"{PAGE}/results", _SEE_OTHER)


@router.post("/models/roll-back")
def go_back(request: Request, form: Posted, session: Signed, parts: PartsOf) -> Response:
    """Make an earlier model the one that serves; when this answers, it does.

    Its release may not have read the items that came since; it reads them behind the answer.
    """
    live = parts.service.live
    before = live.snapshot.model.digest
    roll_back(parts.folders.model, form.first("digest"))
    try:
        live.refresh()
    except FedtailError:
        roll_back(parts.folders.model, before)  # what is refused must not stay
        raise
    answer = _models(request, session, parts, done=True)
    answer.background = BackgroundTask(_place, parts)
    return answer


def _place(parts: Parts) -> None:
    """Place new items; where the worker cannot, they wait, and the page of the data says so."""
    with contextlib.suppress(FedtailError):
        parts.service.place_waiting()


def _models(request: Request, session: Session, parts: Parts, *, done: bool) -> Response:
    values = _shop_values(parts, session, "models") | {
        "models": kept_models(parts.folders.model),
        "most": MOST_KEPT,
        "done": done,
    }
    return render(request, "models.html.j2", values)


def _health(parts: Parts) -> dict[str, Any]:
    snapshot = parts.service.live.snapshot
    return {
        "writable": parts.service.store.is_writable(),
        "lost": parts.service.store.lists.lost,
        "waiting": len(snapshot.waiting),
        "items": int(snapshot.rankable.sum()),
    }


def _listed(parts: Parts, form: Form) -> dict[str, Any]:
    """Return the list that a form asks for, and the form as it stands then."""
    experiments, snapshot = parts.service.experiments, parts.service.live.snapshot
    is_erased = parts.service.store.is_erased
    # What a shopper gets who is in no test: an experiment that ended may have changed it.
    snapshot = experiments.armed(snapshot, experiments.assigned(snapshot, None).variant)
    catalogue = snapshot.model.catalogue
    shopper = form.first("shopper").strip()
    items = [one for one in form.all("item") if one in catalogue][-_MOST_HISTORY:]
    dropped, words = form.first("drop"), form.first("words").strip()
    items = [one for one in items if one != dropped]
    if form.first("any"):
        shopper = some_shopper(snapshot, secrets.randbelow(1 << 31), is_erased) or ""
        items = []
    found = find_products(catalogue, form.first("add") or words)
    if len(found) == 1:
        items = [one for one in items if one != found[0].item_id] + [found[0].item_id]
        shopper, words = "", ""
    asked = form.first("boost")
    boost = next((one for one in BOOSTS if f"{one:g}" == asked), 1.0)
    preview = make_preview(snapshot, shopper or None, items, boost, is_erased)
    return {
        "preview": preview,
        "shopper": shopper,
        "chosen": [catalogue.items[catalogue.index_of(one)] for one in items],
        "words": words,
        "found": found if words else [],
        "boosts": BOOSTS,
        "brought": parts.benefit.now(snapshot.model.digest).brought,
    }
