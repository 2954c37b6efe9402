"""Experiments: one arm against another, on the shop's own shoppers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from client.serving.experiments.messages import (
    ExperimentAnswer,
    ExperimentBody,
    ExperimentsAnswer,
    Name,
    StopBody,
    answer_of,
)
from client.serving.experiments.running import Experiment, as_json
from client.serving.http.context import Here, Service, needs
from client.serving.http.problems import Problem

router = APIRouter(
    prefix="/v1/experiments", tags=["experiments"], dependencies=[Depends(needs("admin"))]
)


@router.put("/{name}")
def start_experiment(
    name: Annotated[Name, Path()], body: ExperimentBody, here: Here
) -> ExperimentAnswer:
    """Start one; each shopper has one arm of it from now on. Sent again, it changes nothing.

    A name is used once. One experiment runs at a time.
    """
    return _told(here, here.experiments.start(name, body.design(), here.now()))


@router.get("")
def list_experiments(here: Here) -> ExperimentsAnswer:
    """Return all experiments, the running one first, then the latest."""
    return ExperimentsAnswer(experiments=[_told(here, one) for one in here.experiments.all()])


@router.get("/{name}")
def read_experiment(name: Annotated[Name, Path()], here: Here) -> ExperimentAnswer:
    """Return one with its figures. They may be looked at as often as you like."""
    return _told(here, _found(here.experiments.find(name)))


@router.post("/{name}/stop")
def stop_experiment(name: Annotated[Name, Path()], body: StopBody, here: Here) -> ExperimentAnswer:
    """End one by hand, and say which arm all get; for one that has ended, change that arm."""
    return _told(here, _found(here.experiments.stop(name, body.serve, here.now())))


def _found(one: Experiment | None) -> Experiment:
    if one is None:
        raise Problem(404, "There is no experiment of that name.")
    return one


def _told(here: Service, one: Experiment) -> ExperimentAnswer:
    if one.stopped is None:
        return answer_of(one, as_json(here.experiments.figures(one, here.now())))
    return answer_of(one, None if one.result is None else dict(one.result))
