"""From a round's protected updates to the next adapter: one body for the server and the auditor.

Pure float64 arithmetic in a fixed order, so that whoever has the updates comes to the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.adapter import AdapterState
from common.federation.aggregation import Aggregator
from common.federation.optimiser import (
    Optimiser,
    OptimiserState,
    Schedule,
    learning_rate,
    make_optimiser,
)
from common.settings.run import RunSettings


@dataclass(frozen=True, eq=False)
class Step:
    """What one aggregation gives: the next adapter and optimiser, and what may be shown."""

    adapter: AdapterState
    optimiser: OptimiserState
    rate: float
    update_norm: float
    merchants: tuple[str, ...]

    @property
    def participants(self) -> int:
        """How many updates were used."""
        return len(self.merchants)


@dataclass(frozen=True)
class Descent:
    """How a run goes from one round's adapter to the next.

    Attributes:
        optimiser: The coordinator's step.
        learning_rate: The size of the first step.
        schedule: How the size changes over the rounds.
        rounds: How many there are.
        aggregate: From the updates to the gradient.
    """

    optimiser: Optimiser
    learning_rate: float
    schedule: Schedule
    rounds: int
    aggregate: Aggregator = field(default_factory=Aggregator)

    @classmethod
    def of(cls, settings: RunSettings) -> "Descent":
        """Return the descent that a run's settings ask for.

        Raises:
            SettingsError: if a coefficient is out of bounds.
        """
        return cls(
            optimiser_of(settings),
            settings.learning_rate,
            settings.schedule,
            settings.rounds,
            aggregator_of(settings),
        )

    def step(
        self,
        adapter: AdapterState,
        state: OptimiserState,
        number: int,
        updates: Mapping[str, NDArray[np.float32]],
    ) -> Step:
        """Return what a step on the updates' aggregate gives; without updates none is taken.

        Args:
            adapter: Before the round.
            state: The optimiser's, before the round.
            number: The round, from 1.
            updates: By merchant, float32 [d] as each sent it.

        Raises:
            FederationError: if two updates differ in length.
        """
        if not updates:
            rate = learning_rate(self.schedule, self.learning_rate, number, self.rounds)
            return Step(adapter, state, rate, 0.0, ())
        return self.step_on(adapter, state, number, self.aggregate(updates), tuple(updates))

    def step_on(
        self,
        adapter: AdapterState,
        state: OptimiserState,
        number: int,
        gradient: NDArray[np.float64],
        merchants: tuple[str, ...],
    ) -> Step:
        """Return what a step on a gradient [d] gives, such as the mean that a secure sum shows.

        Args:
            adapter: As in `step`.
            state: As there.
            number: The round, from 1.
            gradient: Of all `merchants` together.
            merchants: Whose updates are in it.
        """
        rate = learning_rate(self.schedule, self.learning_rate, number, self.rounds)
        following, vector = self.optimiser.step(
            state, adapter.flatten().astype(np.float64), gradient, rate
        )
        norm = float(np.linalg.norm(gradient))
        return Step(adapter.with_vector(vector), following, rate, norm, merchants)


def optimiser_of(settings: RunSettings) -> Optimiser:
    """Return the optimiser that a run's settings name.

    Raises:
        SettingsError: if a coefficient is out of bounds.
    """
    return make_optimiser(
        settings.optimiser,
        momentum=settings.momentum,
        beta1=settings.momentum,
        tau=settings.tau,
    )


def aggregator_of(settings: RunSettings) -> Aggregator:
    """Return the rule that a run's settings name."""
    return Aggregator(settings.aggregation, settings.trimmed_share)
