"""Clip each shopper's gradient and add them up: the one place where sensitivity is bounded.

The sum is exact. Each clipped number is cut toward zero to a multiple of 2^-30 of C, and sums of
such multiples are exact in float64, so one shopper more or less changes the sum by exactly its
own clipped row, in whatever order and batches the rows are added.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.errors import PrivacyError, SettingsError

if TYPE_CHECKING:  # an auditor takes sums again without torch
    import torch

_GRID_BITS = 30
MOST_SHOPPERS = 2**21  # of at most 2^31 grid units each, plus noise: below float64's exact 2^53
_BLOCK_NUMBERS = 2**16  # rows are handled in blocks of 0.5 MB, which stay in the processor's cache
_MADE_HERE = object()

Number = TypeVar("Number", np.float64, np.int64)


@dataclass(frozen=True, eq=False)
class ClippedSum:
    """The sum of clipped rows, one row per shopper. Only `clip_and_sum` makes one.

    Attributes:
        vector: float64 [d], each number a multiple of `grid(max_grad_norm)`.
        max_grad_norm: C, the L2 bound each row was clipped to.
        shoppers: How many rows were given. It depends on the data and never leaves the node.
        dropped: How many of them held a number that is not finite and counted as zero.
        canaries: How many of the numbers are canaries, in which shoppers have zeros.
        order: int64 [d], where each number lies: the adapter's first, then the canaries'. None
            where there are no canaries and each lies in its own place.
    """

    vector: NDArray[np.float64]
    max_grad_norm: float
    shoppers: int
    dropped: int
    canaries: int = 0
    order: NDArray[np.int64] | None = None
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise PrivacyError(
                "A ClippedSum comes from clip_and_sum only: nothing else bounds a shopper's row.",
                field="clipped",
            )
        if self.shoppers > MOST_SHOPPERS:
            raise PrivacyError(
                f"A sum may hold at most {MOST_SHOPPERS} shoppers: past that float64 would "
                "round it, and its sensitivity would no longer be exact.",
                field="shoppers",
            )

    def __add__(self, other: "ClippedSum") -> "ClippedSum":
        """Return the sum over both sets of shoppers, which must not overlap: canaries come after.

        Raises:
            PrivacyError: if they differ in bound or length, or one has canaries.
        """
        alike = self.max_grad_norm == other.max_grad_norm
        if not alike or self.vector.shape != other.vector.shape or self.canaries or other.canaries:
            raise PrivacyError(
                "Two clipped sums differ in max_grad_norm or length, or have canaries, and cannot "
                "be added.",
                field="clipped",
            )
        return ClippedSum(
            vector=self.vector + other.vector,
            max_grad_norm=self.max_grad_norm,
            shoppers=self.shoppers + other.shoppers,
            dropped=self.dropped + other.dropped,
            made_by=_MADE_HERE,
        )

    def with_canaries(self, canaries: "ClippedSum", order: NDArray[np.int64]) -> "ClippedSum":
        """Return this sum and the sum of virtual shoppers as one vector, in a secret order.

        It is the sum of rows [g, 0] for shoppers and [0, c] for virtual shoppers: a shopper
        changes no canary, and no canary changes what a shopper changes. Nothing in the vector
        tells which number is of which, so a fault of the noise on it meets both.

        Args:
            canaries: The sum of the virtual shoppers, [m].
            order: int64 [d + m], a permutation that nobody outside `separate` looks into.

        Raises:
            PrivacyError: if the two were clipped at different bounds, one has canaries already, or
                the order is not one.

        Formal guarantee:
            A permutation moves numbers and rounds none: add or remove a shopper, and the vector
            changes by the same norm as before, at most C, whatever the order is.
        """
        if self.max_grad_norm != canaries.max_grad_norm or self.canaries or canaries.canaries:
            raise PrivacyError(
                "Canaries are clipped at the sum's own bound and appended once.", field="clipped"
            )
        both = np.concatenate([self.vector, canaries.vector])
        if order.shape != both.shape:
            raise PrivacyError("The order has one place for each number.", field="order")
        vector = np.full(both.size, np.nan)
        with contextlib.suppress(IndexError):  # a place outside the vector is missing inside it
            vector[order] = both
        if np.isnan(vector).any():  # two numbers in one place would share their noise
            raise PrivacyError("The order has one number for each place.", field="order")
        return ClippedSum(
            vector=vector,
            max_grad_norm=self.max_grad_norm,
            shoppers=self.shoppers,
            dropped=self.dropped,
            canaries=canaries.vector.size,
            order=order,
            made_by=_MADE_HERE,
        )

    def separate(self, noised: NDArray[Number]) -> tuple[NDArray[Number], NDArray[Number]]:
        """Return the adapter's part [d] and the canaries [m] of this vector with noise in it.

        It is the only code that knows which is which, and it comes after the noise.
        """
        if self.order is None:
            return noised, noised[:0]
        own = noised.size - self.canaries
        both = noised[self.order]
        return both[:own], both[own:]


def grid(max_grad_norm: float) -> float:
    """Return the spacing of all sums clipped at `max_grad_norm`: a power of two, about 2^-30 C."""
    exponent = math.frexp(max_grad_norm)[1]  # max_grad_norm < 2^exponent
    return math.ldexp(1.0, exponent - 1 - _GRID_BITS)


def clip_and_sum(
    gradients: "torch.Tensor | NDArray[np.floating] | csr_matrix",
    max_grad_norm: float,
    *,
    margin: float = 0.0,
) -> ClippedSum:
    """Scale each row to L2 norm at most C and add the rows up.

    Args:
        gradients: [b, d], one row per SHOPPER: whatever a shopper contributes is summed into its
            row before. b may be 0. A sparse matrix must have no duplicate places.
        max_grad_norm: C, in [1e-9, 1e9].
        margin: Share of C, in [0, 0.5], that is kept free: rows are clipped to C * (1 - margin).
            It is for a caller whose rows are not exactly independent of each other.

    Returns:
        The sum, with how many rows it holds and how many were dropped (set to zero) because a
        number in them, or their norm, was not finite.

    Raises:
        SettingsError: if `gradients` is not two-dimensional, or C or the margin is out of bounds.

    Formal guarantee:
        Add or remove one row, and the returned vector changes by an L2 norm of at most
        C * (1 - margin). If removing a row also moves the other rows, by at most margin * C
        together after clipping, it changes by at most C.

    Proof. Let x be a row, n its norm as computed, D = C * (1 - margin) and t = D * (1 - g) / n its
    factor, with u = 2^-53 and g = (d + 16) * 2u. Summing d squares in float64 in any order, and
    the root, give n >= ||x|| * (1 - (d + 4) * u). The factor carries at most 5 roundings and each
    product t * x_i one, so that before the cut the row's norm is at most D * (1 - g) * (1 + u)^6 /
    (1 - (d + 4) * u) <= D. Rows with n <= D * (1 - g) are left as they are, and ||x|| <= D by the
    first bound. The cut moves each number toward zero, so the norm does not grow. Squares that
    underflow belong to numbers below 1e-154, far under the guard times C. The sum of multiples of
    the grid is exact as long as it stays below 2^53 units, which `MOST_SHOPPERS` ensures.
    """
    if not 1e-9 <= max_grad_norm <= 1e9:
        raise SettingsError("max_grad_norm must be in [1e-9, 1e9].", field="max_grad_norm")
    if not 0 <= margin <= 0.5:
        raise SettingsError("margin must be in [0, 0.5].", field="margin")
    if gradients.ndim != 2:
        raise SettingsError(
            f"Gradients have {gradients.ndim} dimensions; they must be one row per shopper [b, d].",
            field="gradients",
        )
    count, width = gradients.shape
    units = np.zeros(width)
    dropped = 0
    for rows in _blocks(gradients):
        block_units, broken = _clip_rows(rows, max_grad_norm, margin)
        units += block_units
        dropped += broken
    return ClippedSum(
        vector=units * grid(max_grad_norm),
        max_grad_norm=float(max_grad_norm),
        shoppers=int(count),
        dropped=dropped,
        made_by=_MADE_HERE,
    )


def _blocks(
    gradients: "torch.Tensor | NDArray[np.floating] | csr_matrix",
) -> Iterator[NDArray[np.float64]]:
    """Yield the rows block by block as fresh float64 arrays, which the caller may write to."""
    count, width = gradients.shape
    length = max(1, _BLOCK_NUMBERS // max(width, 1))
    if not isinstance(gradients, np.ndarray | csr_matrix):
        gradients = gradients.detach()
    for start in range(0, count, length):
        part = gradients[start : start + length]
        if isinstance(part, np.ndarray):
            yield part.astype(np.float64)
        elif isinstance(part, csr_matrix):
            yield part.astype(np.float64).toarray()
        else:
            # First off its device: not every one has float64.
            yield part.to(device="cpu", copy=True).double().numpy()


def _clip_rows(
    rows: NDArray[np.float64], max_grad_norm: float, margin: float
) -> tuple[NDArray[np.float64], int]:
    """Clip `rows` [b, d] in place; return their sum [d] in grid units and how many were broken."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))  # not finite if any number is not
    broken = ~np.isfinite(norms)
    if broken.any():
        rows[broken] = 0.0
        norms[broken] = 0.0
    limit = max_grad_norm * (1 - margin) * (1 - (rows.shape[1] + 16) * 2.0**-52)
    factors = limit / np.maximum(norms, limit)  # exactly 1 where the row is short enough
    rows *= (factors / grid(max_grad_norm))[:, None]  # the grid is a power of two: no rounding
    np.trunc(rows, out=rows)
    return rows.sum(axis=0), int(broken.sum())
