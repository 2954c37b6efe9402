"""Many equal things put together by doubling: what composing one event n times comes down to."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def repeated(one: T, count: int, together: Callable[[T, T], T]) -> T:
    """Return `count` of `one` put together, in at most 2 log2(count) steps.

    Args:
        one: Any value.
        count: At least 1.
        together: An associative operation.
    """
    result: T | None = None
    while True:
        if count & 1:
            result = one if result is None else together(result, one)
        count >>= 1
        if not count and result is not None:
            return result
        one = together(one, one)
