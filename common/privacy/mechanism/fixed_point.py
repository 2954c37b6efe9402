"""Vectors as integers, so that sums under masks are exact and cannot wrap.

A clipped sum lies on a grid, so as integers nothing of it is rounded, and its sensitivity stays
what `clip_and_sum` bounds: C over the grid's spacing, no more. Anything else is rounded to it.

Sums are modulo 2^64. Each party keeps its number within the same bound, so that the sum of all
stays below 2^63 whatever happens: first the value without noise, which is cut to what noise of 64
deviations leaves room for, then the noised value. The first cut moves no two values apart, so it
costs no privacy. The second happens where noise is beyond 64 deviations, with a chance below
2 exp(-2048) a number.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.shared_noise import SharedNoise, share_noise
from common.privacy.mechanism.clipping import ClippedSum, grid
from common.privacy.mechanism.discrete_gaussian import MOST_VARIANCE, discrete_gaussians
from common.privacy.mechanism.noise import NoiseSource

_NOISE_DEVIATIONS = 64


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """How numbers become integers in a sum of several parties.

    Attributes:
        step: The grid's spacing, a power of two: one unit.
        parties: N.
        noise_limit: The largest noise, in units, that a value leaves room for.
    """

    step: float
    parties: int
    noise_limit: int = 0

    def __post_init__(self) -> None:
        if math.frexp(self.step)[0] != 0.5 or self.parties < 1 or self.value_limit < 1:
            raise SettingsError(
                "A step is a power of two; parties and noise leave room for a value in 63 bits.",
                field="vector",
            )

    @property
    def limit(self) -> int:
        """The largest size of one party's number, in units: N of them are below 2^63."""
        return (2**63 - 1) // self.parties

    @property
    def value_limit(self) -> int:
        """The largest size of a value before noise; at most 2^53, up to which float64 is exact."""
        return min(self.limit - self.noise_limit, 2**53)

    def encode(self, vector: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return numbers in units, rounded to the nearest and cut to the limit: int64, same shape.

        Raises:
            PrivacyError: if a number is not finite.
        """
        if not np.isfinite(vector).all():
            raise PrivacyError("A vector to be summed must be finite.", field="vector")
        limit = float(self.value_limit)  # exact, as it is at most 2^53
        return np.clip(np.rint(vector / self.step), -limit, limit).astype(np.int64)

    def decode(self, total: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return a sum modulo 2^64 as numbers: float64, same shape.

        Its error is at most `error`, and none where all numbers were on the grid, and the sum below
        2^53 units.
        """
        return np.asarray(total.view(np.int64) * np.float64(self.step))

    @property
    def error(self) -> float:
        """The largest error of a decoded sum of numbers within the limit.

        Half a step for each party, and float64's half unit in the last place of 2^63.
        """
        return self.step * (self.parties / 2 + 2**9)

    def sensitivity(self, bound: float, width: int, *, on_grid: bool) -> Fraction:
        """Return the L2 norm, in units, by which one row of norm at most `bound` changes integers.

        On the grid nothing is rounded. Else |rint(a) - rint(b)| < |a - b| + 1 for each number, so
        the norm grows by at most sqrt(width): given rounded up to a unit.
        """
        exact = Fraction(bound) / Fraction(self.step)
        return exact if on_grid else exact + math.isqrt(width - 1) + 1


@dataclass(frozen=True, slots=True)
class NoisyIntegers:
    """How one party makes the integers that it masks: from a clipped sum and its share of noise."""

    form: FixedPoint
    noise: SharedNoise

    @classmethod
    def of(
        cls,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        parties: int,
        spared: int,
        width: int,
    ) -> "NoisyIntegers":
        """Return it for a plan's sigma and C, all parties of a run alike: see `share_noise`.

        Raises:
            SettingsError: if so much noise has no room in 63 bits.
        """
        step = grid(max_grad_norm)
        exact = FixedPoint(step, parties).sensitivity(max_grad_norm, width, on_grid=True)
        noise = share_noise(noise_multiplier, exact, parties=parties, spared=spared, width=width)
        if noise.variance > MOST_VARIANCE:
            raise SettingsError("So much noise has no room.", field="noise_multiplier")
        limit = _NOISE_DEVIATIONS * (math.isqrt(noise.variance) + 1)
        return cls(FixedPoint(step, parties, limit), noise)

    def noised(self, clipped: ClippedSum, source: NoiseSource) -> NDArray[np.int64]:
        """Return a party's integers with its share of the noise: int64 [width].

        Raises:
            PrivacyError: if the sum has another width, or was clipped at another bound.

        Formal guarantee:
            None on its own: it is one share. The sum over the parties of a secure sum, of whom
            `absent` are missing or told their share to the server, is private as
            `shared_claim.epsilon_with_absent` says, up to a failure of 2 exp(-2048) a number.
        """
        if (
            clipped.vector.shape != (self.noise.width,)
            or grid(clipped.max_grad_norm) != self.form.step
        ):
            raise PrivacyError("The sum is not the one the noise is for.", field="clipped")
        if Fraction(clipped.max_grad_norm) / Fraction(self.form.step) != self.noise.sensitivity:
            raise PrivacyError("The sum was clipped at another bound.", field="max_grad_norm")
        draws = discrete_gaussians(source, self.noise.variance, self.noise.width)
        limit = self.form.limit
        return np.asarray(np.clip(self.form.encode(clipped.vector) + draws, -limit, limit))
