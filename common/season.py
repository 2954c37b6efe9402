"""The season that a federation has summed up: one vector an end, in the space of item vectors.

Each merchant sends the sum of its shoppers' rows, each of L2 norm at most 1 over all ends together,
with noise on it; here they are added up. All of it may be shown.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from common.arrays import load_arrays
from common.errors import InputError

MOST_BYTES: Final = 1 << 20


class NoisedVector(NamedTuple):
    """One moment's vector of a season.

    Attributes:
        numbers: float32 [d].
        noise_std: Standard deviation of the noise in each number; 0: exact.
        end: The moment, microseconds since 1970 UTC: nothing bought then or later is in it.
    """

    numbers: NDArray[np.float32]
    noise_std: float
    end: int


@dataclass(frozen=True, eq=False)
class Season:
    """What sells more of late than before, as a direction in text space.

    Attributes:
        vectors: float32 [ends, d], the noised sums over all merchants' shoppers.
        ends: The public moments, microseconds since 1970 UTC, ascending: what was bought at or
            after one is not in its vector.
        noise_std: Standard deviation of the noise in each number, as in a plain sum; 0: exact.
        merchants: How many took part.

    Raises:
        InputError: `season` if the parts do not fit each other, or a number is not finite.
    """

    vectors: NDArray[np.float32]
    ends: tuple[int, ...]
    noise_std: float
    merchants: int

    def __post_init__(self) -> None:
        shaped = self.vectors.dtype == np.float32 and self.vectors.ndim == 2
        if not shaped or len(self.vectors) != len(self.ends) or not self.vectors.size:
            raise _bad("has not one float32 vector for each of its ends")
        if list(self.ends) != sorted(set(self.ends)):
            raise _bad("has ends that do not ascend")
        if not np.isfinite(self.vectors).all():
            raise _bad("holds a number that is not finite")
        if not (math.isfinite(self.noise_std) and self.noise_std >= 0 and self.merchants >= 1):
            raise _bad("has noise below 0, or no merchant")

    def at(self, moment: int) -> NoisedVector | None:
        """Return the latest vector that nothing sold after `moment` is in; None if none is."""
        known = [place for place, end in enumerate(self.ends) if end <= moment]
        return self._vector(known[-1]) if known else None

    @property
    def latest(self) -> NoisedVector:
        """The vector of the last end."""
        return self._vector(-1)

    def _vector(self, place: int) -> NoisedVector:
        return NoisedVector(self.vectors[place], self.noise_std, self.ends[place])

    def to_bytes(self) -> bytes:
        """Return a safetensors file: the same bytes exactly when all is the same."""
        return save(
            {
                "vectors": np.ascontiguousarray(self.vectors),
                "ends": np.array(self.ends, dtype=np.int64),
                "noise_std": np.array([self.noise_std], dtype=np.float64),
                "merchants": np.array([self.merchants], dtype=np.int64),
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "Season":
        """Read `to_bytes` back.

        Raises:
            InputError: `season` unless it is exactly what `to_bytes` writes.
        """
        if len(content) > MOST_BYTES:
            raise _bad(f"has more than {MOST_BYTES} bytes")
        try:
            tensors = load_arrays(content)
            season = cls(
                vectors=tensors["vectors"],
                ends=tuple(int(one) for one in tensors["ends"]),
                noise_std=float(tensors["noise_std"].item()),
                merchants=int(tensors["merchants"].item()),
            )
        except (SafetensorError, KeyError, TypeError, ValueError, OverflowError):
            raise _bad("is not a safetensors file of vectors, ends, noise and merchants") from None
        if season.to_bytes() != content:
            raise _bad("is not in its own form")
        return season


def _bad(what: str) -> InputError:
    return InputError(f"The season {what}.", field="season")
