"""What the page shows of an experiment, whoever runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from client.serving.experiments.arms import FROZEN, OWN, RELEASE
from client.serving.experiments.messages import ExperimentBody, Name
from client.serving.experiments.running import Experiment, as_json
from client.serving.feedback.online import Rate
from client.serving.http.context import Service
from common.errors import InputError
from common.record import first_problem

_SHOWN = 5  # experiments, the latest first
_Z = 1.959963984540054  # of 95%, two-sided


@dataclass(frozen=True)
class Arm:
    """One way of making lists that is compared.

    Attributes:
        name: The merchant's.
        shoppers: Who count: those whose window is over.
        clicks: Of these, who clicked; and the rate for each item seen, with its 95% interval.
    """

    name: str
    shoppers: int
    clicks: Rate


@dataclass(frozen=True)
class Effect:
    """The second arm's click rate minus the first's, with an interval that holds at any look."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class ExperimentView:
    """An experiment as it stands.

    Attributes:
        name: The merchant's.
        arms: The usual one first.
        state: Whether shoppers still see different arms.
        winner: The arm that won; None if none has, yet or for good.
        effect: None while there is too little to say.
    """

    name: str
    arms: tuple[Arm, ...]
    state: Literal["running", "stopped"]
    winner: str | None
    effect: Effect | None = None


class Experiments(Protocol):
    """Who runs experiments."""

    def views(self) -> Sequence[ExperimentView]:
        """Return the experiments, the latest first."""
        ...

    def choices(self) -> Sequence[str]:
        """Return the arms that an experiment can compare; none where nobody runs any."""
        ...

    def start(self, name: str, baseline: str, challenger: str) -> None:
        """Start an experiment.

        Raises:
            InputError: if the name is taken, another runs, or an arm cannot be made.
        """
        ...

    def stop(self, name: str) -> None:
        """End an experiment by hand; all get its first arm then.

        Raises:
            InputError: if there is none of that name.
        """
        ...


class ServiceExperiments:
    """The experiments of a service, as the page shows them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def views(self) -> Sequence[ExperimentView]:
        """Return the latest few.

        Raises:
            StorageError: if the store cannot be read.
        """
        return tuple(self._view(one) for one in self._service.experiments.all()[:_SHOWN])

    def choices(self) -> Sequence[str]:
        """Return the arms that are made of the model that serves."""
        return (OWN, FROZEN, RELEASE)

    def start(self, name: str, baseline: str, challenger: str) -> None:
        """Start one with the usual window, level and guardrails.

        Raises:
            InputError: as `Experiments.start`, or if the name or an arm is none.
        """
        try:
            known = TypeAdapter(Name).validate_python(name)
            body = ExperimentBody(baseline=baseline, challenger=challenger)
        except ValidationError as error:
            raise InputError(first_problem(error), field="experiment") from None
        self._service.experiments.start(known, body.design(), self._service.now())

    def stop(self, name: str) -> None:
        """End one by hand; all get its first arm then.

        Raises:
            InputError: if there is none of that name, or as `Experiments.stop`.
        """
        if self._service.experiments.stop(name, None, self._service.now()) is None:
            raise InputError("There is no experiment of that name.", field="name")

    def _view(self, one: Experiment) -> ExperimentView:
        running = one.stopped is None
        if running:
            found = as_json(self._service.experiments.figures(one, self._service.now()))
        else:
            found = dict(one.result or {})
        names = (one.design.baseline, one.design.challenger)
        arms = tuple(
            _arm(name, found.get(place, {}).get("ctr", {}))
            for name, place in zip(names, ("baseline", "challenger"), strict=True)
        )
        state: Literal["running", "stopped"] = "running" if running else "stopped"
        return ExperimentView(one.name, arms, state, one.winner, effect=_effect(found))


def _arm(name: str, sums: Mapping[str, Any]) -> Arm:
    """Return an arm's click rate with the 95% interval of its variance over shoppers."""
    shoppers, variance = int(sums.get("shoppers", 0)), sums.get("variance")
    if variance is None:
        return Arm(name, shoppers, Rate(0, None, None, None))
    rate, half = float(sums["rate"]), _Z * float(variance) ** 0.5
    counted = Rate(int(sums["with_event"]), rate, max(rate - half, 0.0), min(rate + half, 1.0))
    return Arm(name, shoppers, counted)


def _effect(found: Mapping[str, Any]) -> Effect | None:
    effect = found.get("effect", {})
    low, high = effect.get("low"), effect.get("high")
    return None if low is None or high is None else Effect(effect["difference"], low, high)
