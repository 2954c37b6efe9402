"""Shamir's secret sharing: any `threshold` shares open a secret, fewer tell nothing.

Shamir 1979. The field is the integers modulo 2^255 - 19, so a share is 32 bytes. A share's point is
its holder's number in the roster, from 1: the point 0 is the secret itself and nobody's.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

PRIME: Final = 2**255 - 19
SHARE_BYTES: Final = 32
_MOST_SUBSETS: Final = 200


def draw_secret() -> int:
    """Return a uniform element of the field, from the operating system's random source."""
    return secrets.randbelow(PRIME)


def split(secret: int, holders: Sequence[int], threshold: int) -> list[int]:
    """Return one share for each holder.

    Args:
        secret: An element of the field.
        holders: Their points, distinct, each from 1 to PRIME - 1.
        threshold: How many shares open it, 1 to the number of holders.

    Formal guarantee:
        The polynomial's other coefficients are uniform, so any `threshold` - 1 shares are
        distributed alike for each secret.
    """
    if len(set(holders)) != len(holders) or not all(0 < point < PRIME for point in holders):
        raise ValueError("holders need distinct points other than 0")
    if not 1 <= threshold <= len(holders):
        raise ValueError("threshold is out of range")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return [_value([*coefficients, secret], point) for point in holders]


def _value(coefficients: list[int], point: int) -> int:
    """Return a polynomial's value, its coefficients given from the highest down."""
    value = 0
    for coefficient in coefficients:
        value = (value * point + coefficient) % PRIME
    return value


@lru_cache(maxsize=256)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights: a polynomial's value at 0 from its values at `points`."""
    weights = []
    for one in points:
        above = below = 1
        for other in points:
            if other != one:
                above = above * -other % PRIME
                below = below * (one - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def combine(shares: Mapping[int, int], threshold: int) -> int:
    """Return the secret from `threshold` of the shares, by point."""
    if len(shares) < threshold:
        raise ValueError("too few shares")
    points = tuple(sorted(shares)[:threshold])
    pairs = zip(points, _weights(points), strict=True)
    return sum(shares[point] * weight for point, weight in pairs) % PRIME


def combine_checked(
    shares: Mapping[int, int], threshold: int, accepts: Callable[[int], bool]
) -> int | None:
    """Return a secret that `accepts` knows, from shares of which some may be false; or None.

    It looks among all, then leaves out one holder at a time, then tries 200 subsets by chance. That
    finds the secret where few lie and spare shares are there. Who lied is not told: those who did
    can choose their shares so that others seem to have.
    """
    points = sorted(shares)
    if len(points) < threshold:
        return None
    for some in _tries(points, threshold):
        secret = combine({point: shares[point] for point in some}, threshold)
        if accepts(secret):
            return secret
    return None


def _tries(points: list[int], threshold: int) -> Iterator[list[int]]:
    """Yield the subsets that may be without a false share."""
    yield points
    if len(points) > threshold:
        for left in points:
            yield [one for one in points if one != left]
        chance = random.Random(0)  # noqa: S311 - which subsets are tried is no secret
        for _ in range(_MOST_SUBSETS):
            yield chance.sample(points, threshold)
