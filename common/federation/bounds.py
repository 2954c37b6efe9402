"""How large an honest node's noised vector can be: known from the plan, before anybody sends one.

A vector that leaves a node is (sum + noise) / divisor. The sum has one row of norm at most C for
each shopper who was sampled, and the noise is Gaussian with the plan's deviation, so both have
bounds that an honest node breaks with a chance of at most `CHANCE` a vector. What lies beyond them
is not noise, and one such vector would move the adapter further than all honest ones.

Of one merchant's vector only DP model `local` has them. With `distributed` noise nobody sees such a
vector, and its sum has bounds; elsewhere a vector exists in simulation alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError
from common.privacy.accounting.plan import EventKind, PrivacyPlan

CHANCE: Final = 1e-9  # that an honest vector is refused
# A shop may have grown beyond the bracket it declared, which is rounded down besides.
MOST_BRACKETS: Final = 4
_ROUNDING: Final = 1e-3  # of the bound: the grid on the wire, and the frame's own rounding
_SUBSPACE: Final = 1e-3  # of the vector's norm: what may lie outside the directions it moves in

FloatVector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """One trained tensor, and in which coordinates its noise is even.

    Attributes:
        shape: Of the tensor, as it travels.
        frame: float [rows, k], S of `AdaptedEncoder.noise_basis`: the tensor is S times what was
            clipped and noised. None where the tensor itself was.
    """

    shape: tuple[int, ...]
    frame: NDArray[np.floating] | None = None


class Framing:
    """From a vector [d] as it travels back to the one [k] that was clipped and noised.

    Attributes:
        size: d.
        inner_size: k.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take the trained tensors in the order in which a vector has them."""
        self._parts = tuple(parts)
        self._inverses = [
            None if one.frame is None else np.linalg.pinv(one.frame.astype(np.float64))
            for one in parts
        ]
        sizes = [math.prod(one.shape) for one in parts]
        self._ends = np.cumsum(sizes)
        self.size = sum(sizes)
        self.inner_size = sum(
            size if one.frame is None else one.frame.shape[1] * math.prod(one.shape[1:])
            for size, one in zip(sizes, self._parts, strict=True)
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The trained tensors, in order."""
        return self._parts

    def unframe(self, vector: NDArray[np.floating]) -> FloatVector:
        """Return float64 [k].

        Raises:
            FederationError: `update_subspace` if the vector is not one that frames give.
        """
        whole = vector.astype(np.float64)
        pieces = np.split(whole, self._ends[:-1])
        found, outside = [], 0.0
        for part, inverse, piece in zip(self._parts, self._inverses, pieces, strict=True):
            if part.frame is None or inverse is None:
                found.append(piece)
                continue
            tensor = piece.reshape(part.shape)
            inner = inverse @ tensor
            outside += float(np.square(tensor - part.frame.astype(np.float64) @ inner).sum())
            found.append(inner.ravel())
        if outside > _SUBSPACE**2 * float(np.square(whole).sum()):
            raise FederationError(
                "An update leaves the directions in which this run's adapter moves.",
                field="update_subspace",
            )
        return np.concatenate(found)

    def frame(self, vector: NDArray[np.floating]) -> FloatVector:
        """Return float64 [d]: a vector [k], as it was clipped and noised, as it moves the adapter.

        Raises:
            FederationError: `update` if it has another length.
        """
        if vector.shape != (self.inner_size,):
            raise FederationError("An update has another length than the run's.", field="update")
        found, start = [], 0
        for part in self._parts:
            rows = part.shape[0] if part.frame is None else part.frame.shape[1]
            end = start + rows * math.prod(part.shape[1:])
            piece = vector[start:end].astype(np.float64)
            if part.frame is not None:
                piece = _product(part.frame.astype(np.float64), piece.reshape(rows, -1))
            found.append(piece.ravel())
            start = end
        return np.concatenate(found)


def _product(left: FloatVector, right: FloatVector) -> FloatVector:
    """Return a matrix product [n, k] [k, m], its terms added in order: the same bits everywhere."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for place in range(left.shape[1]):
        total += left[:, place : place + 1] * right[place]
    return total


@dataclass(frozen=True)
class Bounds:
    """What an honest vector keeps to.

    Attributes:
        norm: Its L2 norm.
        coordinate: Each number's absolute value.
    """

    norm: float
    coordinate: float

    def check(self, vector: NDArray[np.floating], name: str) -> None:
        """Refuse what no honest node sends but with a chance of `CHANCE`.

        Args:
            vector: [k], in the coordinates in which it was noised.
            name: What it is, for the error's field: `update`, `popularity` or `season`.

        Raises:
            FederationError: `NAME_norm` or `NAME_coordinate`.
        """
        with np.errstate(over="ignore"):  # an infinite norm is beyond the bound as well
            norm = float(np.sqrt(np.square(vector.astype(np.float64)).sum()))
        if not norm <= self.norm:
            raise FederationError(
                f"A vector's norm is {norm:.3g}; an honest one has at most {self.norm:.3g}.",
                field=f"{name}_norm",
            )
        largest = float(np.abs(vector).max(initial=0.0))
        if largest > self.coordinate:
            raise FederationError(
                f"A number is {largest:.3g}; an honest one is at most {self.coordinate:.3g}.",
                field=f"{name}_coordinate",
            )


def honest_bounds(plan: PrivacyPlan, kind: EventKind, size: int) -> Bounds | None:
    """Return the bounds of one merchant's vector of `size` numbers; None without local noise.

    Let s be the private steps that a vector adds up (one for histogram and season), n =
    `MOST_BRACKETS` times the size bracket, q the rate, C the clip and sigma C one step's deviation.

    - Rows: shoppers sampled in all steps are Binomial(s n, q). By Bernstein's inequality
      (Boucheron, Lugosi, Massart 2013, "Concentration inequalities", section 2.8) there are at
      most N = s n q + sqrt(2 s n q (1 - q) x) + x / 3 of them, but with chance e^-x. Each row adds
      at most C to the norm, so the sums' norm is at most N C; and no number of it is larger.
      In histogram and season everybody is counted, and N = n.
    - Norm of the noise: it is sigma C sqrt(s) times the root of a chi-squared variable with k =
      `size` degrees. By Laurent and Massart (2000, "Adaptive estimation of a quadratic functional
      by model selection", lemma 1) that variable is at most k + 2 sqrt(k x) + 2 x, but with chance
      e^-x.
    - Each number of the noise: a standard normal exceeds t in absolute value with chance at most
      e^(-t^2/2), so all k of them stay within sqrt(2 (x + ln k)), but with chance e^-x.

    Each of the three is missed with a third of `CHANCE`: x = ln(3 / `CHANCE`). All of it is over
    the plan's divisor, and `_ROUNDING` is added for the grid on
    which it travels (`common.privacy.mechanism.rounding`).
    """
    if plan.dp_model != "local":
        return None
    divisor = plan.divisor if kind == "train" else 1.0
    return _bounds(plan, kind, size, merchants=1, divisor=divisor)


def honest_sum_bounds(plan: PrivacyPlan, kind: EventKind, size: int, merchants: int) -> Bounds:
    """Return the bounds of a secure sum of `size` numbers over `merchants`, not yet divided.

    As `honest_bounds`, with as many times the shoppers, and noise of `merchants` shares. These are
    discrete Gaussians, which are subgaussian with their parameter as the variance (Canonne, Kamath,
    Steinke 2020), and so is their sum. The bound on the norm holds for such vectors alike (Hsu,
    Kakade, Zhang 2012, "A tail inequality for quadratic forms of subgaussian random vectors",
    theorem 1), and each number exceeds t deviations with chance at most 2 e^(-t^2/2).
    """
    return _bounds(plan, kind, size, merchants=merchants, divisor=1.0)


def _bounds(
    plan: PrivacyPlan, kind: EventKind, size: int, *, merchants: int, divisor: float
) -> Bounds:
    steps = plan.steps_per_round if kind == "train" else 1
    rate = plan.sample_rate if kind == "train" else 1.0
    x = math.log(3 / CHANCE)
    tries = steps * MOST_BRACKETS * plan.size_bracket * merchants
    sampled = tries * rate
    if rate < 1:
        sampled += math.sqrt(2 * sampled * (1 - rate) * x) + x / 3
    rows = min(sampled, tries) * plan.clip_norm(kind)
    deviation = plan.noise_std(kind) * math.sqrt(steps * merchants)
    noise_norm = deviation * math.sqrt(size + 2 * math.sqrt(size * x) + 2 * x)
    ends = 2 if plan.dp_model == "distributed" else 1
    largest = deviation * math.sqrt(2 * (x + math.log(max(ends * size, 1))))
    return Bounds(
        norm=(rows + noise_norm) / divisor * (1 + _ROUNDING),
        coordinate=(rows + largest) / divisor * (1 + _ROUNDING),
    )
