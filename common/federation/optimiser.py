"""The coordinator's step: from a mean gradient to the next adapter.

Both optimisers see only noised numbers, so their state costs no privacy. `AdamScalar` keeps one
second moment for the whole vector: a moment per coordinate would divide each by a size that is
mostly noise, and so turn the direction of the step. Its `tau` bounds how far a step goes
where there is little noise: see docs/adr/0022-a-step-for-any-noise.md.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import SettingsError

FloatVector = NDArray[np.float64]
OptimiserName = Literal["sgd", "adam_scalar"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, eq=False)
class OptimiserState:
    """What an optimiser remembers between rounds.

    Attributes:
        momentum: float64 [d], the moving average (Adam) or sum (SGD) of gradients.
        second_moment: The moving average of the gradient's mean square; 0 for SGD.
        steps: How many steps were taken.
    """

    momentum: FloatVector
    second_moment: float = 0.0
    steps: int = 0

    @classmethod
    def empty(cls, size: int) -> "OptimiserState":
        """Return the state before the first step on `size` numbers."""
        return cls(np.zeros(size, dtype=np.float64))


class Optimiser(Protocol):
    """One step on a vector: no state of its own, so a checkpoint needs only OptimiserState."""

    def step(
        self, state: OptimiserState, vector: FloatVector, gradient: FloatVector, rate: float
    ) -> tuple[OptimiserState, FloatVector]:
        """Return the next state and the next vector [d]; neither input changes."""


@dataclass(frozen=True)
class Sgd:
    """Gradient descent with heavy-ball momentum (Polyak 1964); momentum 0 is plain descent."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction("momentum", self.momentum)

    def step(
        self, state: OptimiserState, vector: FloatVector, gradient: FloatVector, rate: float
    ) -> tuple[OptimiserState, FloatVector]:
        """Return the next state and vector: m = momentum·m + g, x = x - rate·m."""
        velocity = self.momentum * state.momentum + gradient
        following = OptimiserState(velocity, 0.0, state.steps + 1)
        return following, vector - rate * velocity


@dataclass(frozen=True)
class AdamScalar:
    """Adam (Kingma and Ba 2015) with one scalar second moment: the mean square of the gradient.

    Attributes:
        beta1: Of the gradient's moving average.
        beta2: Of its mean square's.
        tau: Added to the root mean square that divides a step (tau of Reddi et al. 2021,
            "Adaptive federated optimization"). Where the noise is far below it, a step is a fixed
            multiple of the gradient; where it is far above, a step has a fixed size.
    """

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-12

    def __post_init__(self) -> None:
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        if not self.tau > 0:
            raise SettingsError("Adam's tau must be above 0.", field="tau")

    def step(
        self, state: OptimiserState, vector: FloatVector, gradient: FloatVector, rate: float
    ) -> tuple[OptimiserState, FloatVector]:
        """Return the next state and vector; both moments are corrected for their start at 0."""
        steps = state.steps + 1
        # fsum rounds once, so that no order of summation, which is the machine's, is in the step.
        mean_square = math.fsum(np.square(gradient)) / gradient.size if gradient.size else 0.0
        first = self.beta1 * state.momentum + (1 - self.beta1) * gradient
        second = self.beta2 * state.second_moment + (1 - self.beta2) * mean_square
        direction = first / (1 - self.beta1**steps)
        scale = math.sqrt(second / (1 - self.beta2**steps)) + self.tau
        return OptimiserState(first, second, steps), vector - rate * direction / scale


def make_optimiser(
    name: OptimiserName,
    *,
    momentum: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-12,
) -> Optimiser:
    """Return the optimiser of that name.

    Raises:
        SettingsError: if the name is unknown, or a coefficient is not in [0, 1).
    """
    if name == "sgd":
        return Sgd(momentum)
    if name == "adam_scalar":
        return AdamScalar(beta1, beta2, tau)
    raise SettingsError("The optimiser must be sgd or adam_scalar.", field="optimiser")


def learning_rate(schedule: Schedule, base: float, round_number: int, rounds: int) -> float:
    """Return the step size of a round counted from 1.

    `cosine` starts at `base` in round 1 and would reach 0 in round `rounds` + 1 (Loshchilov and
    Hutter 2017), so the last round still moves.
    """
    if schedule == "constant":
        return base
    return base * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / rounds))


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise SettingsError(f"{name} is {value}; it must be in [0, 1).", field=name)
