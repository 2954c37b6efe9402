"""How much noise there was: measured on the canaries that are not in the data.

Such a canary holds noise and nothing else, N(0, sigma^2) in each step, and it lies among the
adapter's numbers in an order that the code of the noise cannot know. A run has ten thousand of
these draws, so that one can see what a lower bound on epsilon is too weak for: a tenth too little
noise everywhere, or none on a hundredth of the numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm, poisson

# An honest merchant's run is refused once in 10,000 by this.
BLOCKING_CHANCE = 1e-4
SHOWN_CHANCE = 0.01  # an auditor is told, and no claim refused
# Parts of sigma below which draws are counted: no noise on a few numbers leaves many small ones.
_PARTS = 2.0 ** -np.arange(10)
_TESTS = len(_PARTS) + 3


@dataclass(frozen=True, slots=True)
class MeasuredNoise:
    """What the draws say of the noise.

    Attributes:
        deviation: Their root mean square, in units of the sigma claimed; None without draws.
        chance: At most how often an honest run would look as short of noise as this, in [0, 1].
        draws: How many there were.
    """

    deviation: float | None
    chance: float
    draws: int

    @property
    def refuted(self) -> bool:
        """Whether the claim is refused: an honest run would look so once in 10,000."""
        return self.chance < BLOCKING_CHANCE


def measure_noise(
    canaries: NDArray[np.floating], bits: NDArray[np.bool_], noise_multiplier: float
) -> MeasuredNoise:
    """Test whether canaries that are out hold as much noise as claimed.

    Args:
        canaries: float32 [T, m], in units of C.
        bits: bool [m], true for those in the data, which are not looked at.
        noise_multiplier: sigma, as claimed, above 0.

    Returns:
        The measure. Its `chance` is the least p-value of 13 tests, times 13 (Bonferroni), so it
        errs on the honest side. Twelve are exact but for float32: the sum of squares is chi-square
        from below; how many draws lie below sigma / 2^k, for k = 0 to 9, is binomial from above;
        how many are positive is binomial on both sides. The last counts pairs of equal draws,
        which is Poisson where draws are new in each step.
    """
    draws = np.abs(canaries[:, ~bits].astype(np.float64)).ravel() / noise_multiplier
    count = draws.size
    if not count:
        return MeasuredNoise(None, 1.0, 0)
    squares = float((draws**2).sum())
    small = (draws[:, None] < _PARTS).sum(axis=0)
    positive = int((canaries[:, ~bits] > 0).sum())
    chances = [
        chi2.cdf(squares, count),
        *binom.sf(small - 1, count, 2 * norm.cdf(_PARTS) - 1),
        2 * min(binom.cdf(positive, count, 0.5), binom.sf(positive - 1, count, 0.5)),
        _chance_of_equals(draws),
    ]
    return MeasuredNoise(
        deviation=float(np.sqrt(squares / count)),
        chance=float(min(1.0, _TESTS * min(chances))),
        draws=count,
    )


def _chance_of_equals(draws: NDArray[np.float64]) -> float:
    """Return how often honest draws have as many equal pairs; zeros are no pairs.

    Two normals fall on one float32 with a chance of at most the integral of 2 phi^2 times the
    spacing there, which is at most 2^-23 |x|: 2^-23 / (2 pi) for draws of either sign, and twice
    that for their sizes.
    """
    _, times = np.unique(draws[draws > 0], return_counts=True)
    pairs = float((times * (times - 1.0)).sum() / 2)
    expected = draws.size * (draws.size - 1) / 2 * 2.0**-23 / np.pi
    return float(poisson.sf(pairs - 1, expected))
