"""Integers from the discrete Gaussian, exactly, a hundred thousand at a time.

Method: Canonne, Kamath, Steinke 2020, algorithms 1 to 3: a discrete Laplace is drawn from uniform
and geometric integers, and accepted with a chance of exp(-gamma), gamma a fraction. Their algorithm
takes one coin after another. Here a coin compares a uniform real number with exp(-gamma), both only
as far as needed: 64 bits against float64, whose error is bounded below. Where these are too close
to tell, which happens once in 2^38 coins, more bits of the one and more digits of the other are
taken until they differ. So each coin has exactly its chance, and so has each integer, as far as
the words of the source are uniform.

How long it takes depends on what is drawn, as with any rejection sampler: nothing is promised
against somebody who watches the machine.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import SettingsError
from common.privacy.mechanism.noise import NoiseSource

MOST_VARIANCE: Final = 2**92  # below it all integers here are exact in float64
# Beyond so many scales of the Laplace, or steps of its geometric part, coins are taken one by one;
# exp(-44) is less than one word in 2^63.
_MOST_STEPS = 44
# More than float64 can be wrong by. Let z = (y - v/t) / s, with v = s^2 and t = floor(s) + 1.
# y is exact, v/t at most s: z is wrong by at most 2^-51 (1 + |z|), gamma = z^2 / 2 by |z| times
# that and 2^-52 gamma, exp(-gamma) by that times itself, below 2^-49, and 2^-52 of its own. A word
# over 2^64 is wrong by 2^-53.
_SLACK = 2.0**-40
_WORD = 2.0**-64


def discrete_gaussians(
    source: NoiseSource, variance: Fraction | int, count: int
) -> NDArray[np.int64]:
    """Return integers x with chance proportional to exp(-x^2 / (2 variance)): int64 [count].

    Args:
        source: Of uniform words.
        variance: The parameter, in (0, 2^92]; from 1 on it is the variance to a part in 10^6.
        count: How many.

    Raises:
        SettingsError: if the parameter is out of bounds.

    Formal guarantee:
        Independent draws of exactly this distribution, given independent uniform words.
    """
    exact = Fraction(variance)
    if not 0 < exact <= MOST_VARIANCE:
        raise SettingsError("The variance of integer noise must be in (0, 2^92].", field="variance")
    found: list[NDArray[np.int64]] = []
    missing = count
    while missing > 0:
        some = _accepted(source, exact, 2 * missing + 64)[:missing]
        found.append(some)
        missing -= some.size
    return np.concatenate([np.zeros(0, np.int64), *found])


def _accepted(source: NoiseSource, variance: Fraction, tries: int) -> NDArray[np.int64]:
    """Return what `tries` candidates give: Laplace draws that the last coin accepts."""
    scale = math.isqrt(math.floor(variance)) + 1
    sizes = _laplace_sizes(source, scale, tries)
    negative = (source.words(sizes.size) >> np.uint64(63)).astype(bool)
    kept = ~(negative & (sizes == 0))  # zero has one sign
    sizes, negative = sizes[kept], negative[kept]
    deviation = math.sqrt(variance)
    gamma = ((sizes - float(variance / scale)) / deviation) ** 2 / 2
    coins = _coins(
        source,
        gamma,
        lambda place: (int(sizes[place]) - variance / scale) ** 2 / (2 * variance),
    )
    return np.asarray(np.where(negative, -sizes, sizes)[coins])


def _laplace_sizes(source: NoiseSource, scale: int, tries: int) -> NDArray[np.int64]:
    """Return sizes y >= 0 with chance proportional to exp(-y / scale): y = u + scale * v."""
    bits = scale.bit_length()
    uniform = (source.words(tries) >> np.uint64(64 - bits)).astype(np.int64)
    uniform = uniform[uniform < scale]
    coins = _coins(source, uniform / scale, lambda place: Fraction(int(uniform[place]), scale))
    low = uniform[coins]
    return low + scale * _geometric(source, low.size)


def _thresholds() -> NDArray[np.uint64]:
    """Return floor(exp(-v) 2^64) for v = 44, 43, ..., 1: uint64 [44], rising."""
    context = Context(prec=60)
    values = [
        int(context.multiply(context.exp(Decimal(-v)), Decimal(2**64)))
        for v in range(_MOST_STEPS, 0, -1)
    ]
    return np.array(values, dtype=np.uint64)


_EXPONENTIALS = _thresholds()


def _geometric(source: NoiseSource, count: int) -> NDArray[np.int64]:
    """Return v >= 0 with chance (1 - 1/e) exp(-v): how many exp(-v) lie above a uniform number."""
    words = source.words(count)
    above = np.searchsorted(_EXPONENTIALS, words, side="right")
    steps = (_MOST_STEPS - above).astype(np.int64)
    # A word that equals a threshold's first 64 bits, or lies below the last, does not tell.
    at = np.minimum(np.searchsorted(_EXPONENTIALS, words, side="left"), _MOST_STEPS - 1)
    unclear = (_EXPONENTIALS[at] == words) | (words <= _EXPONENTIALS[0])
    for place in np.flatnonzero(unclear):
        steps[place] = _steps(source, int(words[place]))
    return steps


def _steps(source: NoiseSource, word: int) -> int:
    """Return how many exp(-v), v = 1, 2, ..., lie above the number that starts with `word`."""
    uniform = _Uniform(source, word)
    steps = 0
    while uniform.is_below_exp(Fraction(steps + 1)):
        steps += 1
    return steps


def _coins(
    source: NoiseSource, gamma: NDArray[np.float64], exact: Callable[[int], Fraction]
) -> NDArray[np.bool_]:
    """Return one coin for each gamma, true with a chance of exactly exp(-gamma).

    Args:
        source: Of uniform words.
        gamma: float64, at least 0, close enough for `_SLACK` to cover what it is wrong by.
        exact: Gives a place's gamma as a fraction.
    """
    words = source.words(gamma.size)
    distance = np.exp(-gamma) - words * _WORD
    coins = distance > 0
    for place in np.flatnonzero(np.abs(distance) <= _SLACK):
        coins[place] = _Uniform(source, int(words[place])).is_below_exp(exact(int(place)))
    return np.asarray(coins)


class _Uniform:
    """A uniform real number in [0, 1), of which as many bits are drawn as somebody asks for."""

    def __init__(self, source: NoiseSource, word: int) -> None:
        self._source, self._number, self._bits = source, word, 64

    def is_below_exp(self, gamma: Fraction) -> bool:
        """Return whether it is below exp(-gamma)."""
        while True:
            # Decimal's exp is correctly rounded: with gamma's own rounding, an error below
            # 10^(6 - digits) for the gammas that occur, which are below 10^5 where it counts.
            digits = self._bits // 3 + 12
            context = Context(prec=digits, Emin=-999_999, Emax=999_999)
            power = context.divide(Decimal(-gamma.numerator), Decimal(gamma.denominator))
            chance = Fraction(context.exp(power))
            error = Fraction(1, 10 ** (digits - 6))
            low = Fraction(self._number, 2**self._bits)
            high = Fraction(self._number + 1, 2**self._bits)
            if high <= chance - error:
                return True
            if low >= chance + error:
                return False
            self._number = (self._number << 64) | int(self._source.words(1)[0])
            self._bits += 64
