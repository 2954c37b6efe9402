"""What the page shows of an experiment, whoever runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from client.serving.feedback.online import Rate
from common.errors import InputError


@dataclass(frozen=True)
class Arm:
    """One way of making lists that is compared.

    Attributes:
        name: The merchant's.
        impressions: Products that were seen.
        clicks: Of these, and the rate with its 95% interval.
    """

    name: str
    impressions: int
    clicks: Rate


@dataclass(frozen=True)
class Evidence:
    """How sure it is: a p-value, or an e-value, which may be looked at any time."""

    kind: Literal["p", "e"]
    value: float


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
        evidence: None while there is none.
        effect: The same.
    """

    name: str
    arms: tuple[Arm, ...]
    state: Literal["running", "stopped"]
    winner: str | None
    evidence: Evidence | None = None
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


class NoExperiments:
    """Nobody runs any."""

    def views(self) -> Sequence[ExperimentView]:
        """Return none."""
        return ()

    def choices(self) -> Sequence[str]:
        """Return none."""
        return ()

    def start(self, name: str, baseline: str, challenger: str) -> None:  # noqa: ARG002 -- as asked
        """Refuse.

        Raises:
            InputError: always.
        """
        raise InputError("This service runs no experiments.", field="experiments")

    def stop(self, name: str) -> None:  # noqa: ARG002 -- as asked
        """Refuse, as `start`.

        Raises:
            InputError: always.
        """
        raise InputError("This service runs no experiments.", field="experiments")


NO_EXPERIMENTS = NoExperiments()
