"""The part of a fit of EASE with titles that is the same for all purchases of a catalogue."""

import numpy as np
from numpy.typing import NDArray

_Doubles = NDArray[np.float64]


class TextRows:
    """The pseudo-shoppers that stand for the dimensions of a catalogue's texts.

    A shop is fitted several times, on several periods and with several strengths, and a simulation
    has many shops of one catalogue: what depends on its texts alone is found once for each pair of
    strengths, and kept as long as this object, text dimensions x items x 8 bytes each.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Keep the items' text vectors, float32 [items, d]."""
        self._vectors = vectors
        self._factors: dict[tuple[float, float], _Doubles] = {}

    def rows(self, text_strength: float) -> _Doubles:
        """Return T = sqrt(text_strength)·vectorsᵀ: float64 [d, items]."""
        rows: _Doubles = np.sqrt(text_strength) * self._vectors.T.astype(np.float64)
        return rows

    def factors(self, l2: float, text_strength: float) -> _Doubles:
        """Return L⁻¹T [d, items] with LLᵀ = TTᵀ + l2·I; not to be written to."""
        if (l2, text_strength) not in self._factors:
            self._factors[l2, text_strength] = _factors(self.rows(text_strength), l2)
        return self._factors[l2, text_strength]


def _factors(rows: _Doubles, l2: float) -> _Doubles:
    # scipy.linalg loads here: who only ranks with a model waits for none of it.
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415 -- see above

    gram = rows @ rows.T
    gram[np.diag_indices_from(gram)] += l2
    factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    z: _Doubles = solve_triangular(factor, rows, lower=True, overwrite_b=True, check_finite=False)
    z.flags.writeable = False
    return z
