"""Round what leaves a node to a grid far below its noise, so that it travels in fewer bits."""

import math

import numpy as np
from numpy.typing import NDArray

# Of a vector's norm, what rounding may add: at most 2^-11, as half-precision floats would, and so
# below what `common.federation.bounds` lets lie outside the directions an update moves in.
ERROR = 2.0**-11


def rounded(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a noised vector [d] on a grid of its own: float32 multiples of a power of two.

    The step h is the largest power of two with h·sqrt(d/12) <= ERROR·|vector|: rounding errors
    that fill a step evenly then add up to ERROR of the norm. Each number is h times an integer, so
    it is the same float32 on every machine.

    Formal guarantee:
        The result is a function of the vector alone. Of one that is private on its own, as with
        DP model `local`, it is post-processing: it costs nothing, and moves no bound of epsilon.
        Of any other it would change what one shopper moves: do not round those.
    """
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not norm or not math.isfinite(norm):
        return vector
    step = 2.0 ** math.floor(math.log2(ERROR * norm * math.sqrt(12 / vector.size)))
    on_grid = np.rint(vector / step) * step
    return np.asarray(on_grid + 0.0, dtype=np.float32)  # + 0 makes -0.0 equal to 0.0
