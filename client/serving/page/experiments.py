"""What the page shows of an experiment, whoever runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from client.serving.feedback.online import Rate


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
class ExperimentView:
    """An experiment as it stands.

    Attributes:
        name: The merchant's.
        arms: The usual one first.
        state: Whether shoppers still see different arms.
        winner: The arm that won; None if none has, yet or for good.
        evidence: None while there is none.
    """

    name: str
    arms: tuple[Arm, ...]
    state: Literal["running", "stopped"]
    winner: str | None
    evidence: Evidence | None


class Experiments(Protocol):
    """Who runs experiments."""

    def views(self) -> Sequence[ExperimentView]:
        """Return the experiments, the latest first."""
        ...


class NoExperiments:
    """Nobody runs any."""

    def views(self) -> Sequence[ExperimentView]:
        """Return none."""
        return ()


NO_EXPERIMENTS = NoExperiments()
